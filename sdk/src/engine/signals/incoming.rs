//! Opening what carriers and neighbours bring, and giving signals to their transport.

use std::sync::{Arc, PoisonError};

use byway_api::{PeerId, Sealed, SignalAddress, SignalIn, SignalKind, Signaling};
use byway_core::OpId;
use byway_core::io::{Letter, OpenedLetter};
use byway_wire::{Body, Content, Direct, Opened, Receipt, Receipts, limits, open};
use tokio::sync::mpsc;

use super::Signals;
use crate::engine::shared::Notice;

/// An envelope for us that a neighbour handed over.
#[derive(Debug)]
pub(in crate::engine) struct Mail {
    pub(in crate::engine) op: OpId,
    pub(in crate::engine) hop: PeerId,
    pub(in crate::engine) mail: Sealed,
}

/// Opens what neighbours hand over, one after the other: messages stay in order, and the driver does
/// not wait for the cryptography.
pub(in crate::engine) async fn open_mail(signals: Arc<Signals>, mut mails: mpsc::Receiver<Mail>) {
    while let Some(Mail { op, hop, mail }) = mails.recv().await {
        let letter = match signals.open(&mail) {
            Ok(Opened { from: _, content, sender }) if !matches!(content.body, Body::Signal(_)) => {
                signals.shared.records.put(&sender);
                letter(content).map(|letter| Box::new(OpenedLetter { sender, letter }))
            }
            Ok(opened) => {
                signals.count(signals.signal(opened, SignalAddress::through(hop)).await);
                None
            }
            Err(why) => {
                signals.count(Err(why));
                None
            }
        };
        signals.shared.notify(Notice::Opened { op, letter }).await;
    }
}

/// What a content that is no signal says.
fn letter(content: Content) -> Option<Letter> {
    Some(match content.body {
        Body::App(body) => Letter::Message(Direct {
            message: content.message,
            epoch: content.epoch,
            seq: content.seq,
            floor: content.floor,
            sent_at: content.sent_at,
            expires_at: content.expires_at,
            reply_to: content.reply_to,
            body,
        }),
        Body::Receipt(Receipt { kind, messages, at }) => Letter::Receipts(Receipts { kind, messages, at }),
        _ => return None,
    })
}

/// Opens what one carrier brings, until it is closed.
pub(in crate::engine) async fn receive(signals: Arc<Signals>, carrier: Arc<dyn Signaling>) {
    while let Some(carried) = carrier.recv().await {
        let done = match signals.open(&carried.mail) {
            Ok(opened) => signals.signal(opened, carried.back).await,
            Err(why) => Err(why),
        };
        signals.count(done);
    }
}

impl Signals {
    fn count(&self, done: Result<(), String>) {
        if let Err(why) = done {
            self.shared.counters.signals_dropped.add();
            tracing::debug!(target: "byway::signal", why, "a carried envelope was dropped");
        }
    }

    /// Opens an envelope for us and our user.
    fn open(&self, mail: &Sealed) -> Result<Opened, String> {
        let identity = &self.shared.identity;
        let now = self.shared.runtime.now().wall;
        let known = |peer: &_| self.shared.records.newest(peer, now);
        let secrets = identity.secrets();
        let opened = open(mail, identity.peer(), &secrets, identity.network(), identity.membership(), now, known)
            .map_err(|e| e.to_string())?;
        if opened.content.to_user != *identity.user() {
            return Err("it is for another user".to_owned());
        }
        Ok(opened)
    }

    /// Gives a signal to its transport. Whatever carries signals besides neighbours carries nothing else.
    async fn signal(&self, opened: Opened, back: SignalAddress) -> Result<(), String> {
        let now = self.shared.runtime.now().wall;
        let content = opened.content;
        let Body::Signal(signal) = content.body else {
            return Err("it is no signal".to_owned());
        };
        // The sender's clock may be ahead of ours by as much as for a credential.
        let latest = now.plus(limits::SIGNAL_LIFE).plus(limits::CREDENTIAL_SKEW);
        if content.expires_at > latest {
            return Err("it is good for longer than a signal may be".to_owned());
        }
        let until = content.expires_at.max(now.plus(limits::REPLAY_WINDOW));
        let fresh = {
            let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            replay.admit(opened.from, content.message, until, now)
        };
        if !fresh {
            return Err("it was seen before".to_owned());
        }
        self.shared.records.put(&opened.sender);
        let Some(port) = self.ports.get(signal.transport.as_str()) else {
            return Err(format!("no transport {:?} is here", signal.transport));
        };
        let (sender, way, offer) = (opened.sender, back.clone(), signal.kind == SignalKind::Offer);
        let admitted = self.shared.ask(|reply| Notice::Admit { sender, back: way, offer, reply }).await;
        if admitted != Some(true) {
            return Err("its sender is not admitted".to_owned());
        }
        if signal.kind == SignalKind::Answer {
            for op in self.dials_to(opened.from) {
                self.shared.notify(Notice::Answering { op }).await;
            }
        }
        port.try_send(SignalIn::new(opened.from, back, signal)).map_err(|_| "the transport is behind".to_owned())?;
        self.shared.counters.signals_received.add();
        Ok(())
    }
}
