//! Carrying out what the core wants done.

use std::sync::Arc;

use byway_api::StoreErrorKind;
use byway_core::OpId;
use byway_core::io::{Answer, Event, In, Out};
use tracing::Instrument;

use super::driver::{Driver, Pending};
use super::ops::{Ended, Kind};
use super::runtime::timeout;
use super::signals::Mail;
use super::{letters, steps};

impl Driver {
    /// Carries out everything that this turn has brought.
    pub(super) fn carry_out(&mut self) {
        loop {
            let mut out = std::mem::take(&mut self.out);
            for effect in out.drain(..) {
                self.effect(effect);
            }
            // Its memory is used again.
            self.out = out;
            if self.again.is_empty() {
                break;
            }
            for input in std::mem::take(&mut self.again) {
                self.feed(input);
            }
        }
        for line in self.lines.values_mut() {
            line.outbound.push(&mut line.staged);
        }
        self.store.push(&mut self.batches);
        if std::mem::take(&mut self.lines_changed) {
            self.shared.neighbours.set(self.core.neighbours());
        }
        if self.roster_changed && self.now.tick >= self.roster_at {
            self.roster_changed = false;
            self.roster_at = self.now.tick.plus(self.shared.settings.roster_every);
            self.shared.roster.send_replace(Arc::new(self.core.roster(self.now).into()));
        }
    }

    fn effect(&mut self, effect: Out) {
        match effect {
            Out::Write { conn, frame } => {
                // A connection that has just ended takes nothing any more; its Down is on the way.
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.staged.push(frame);
                }
            }
            Out::Store { op, batch } => self.batches.push((Some(op), batch)),
            Out::Answer { op, answer } => self.answer(op, answer),
            Out::Tell(event) => self.tell(event),
            Out::Close { conn, code } => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.outbound.push(&mut line.staged);
                    line.outbound.close(code);
                }
            }
            Out::Dial { op, peer, addresses } => {
                let dialer = self.dialer.clone();
                let span = tracing::info_span!(target: "byway::link", "dial", peer = %peer.short());
                self.ops.start(op, Kind::Dial, dialer.dial(op, peer, addresses).instrument(span));
            }
            Out::CancelDial { op } | Out::CancelRun { op } => self.ops.cancel(op),
            Out::Run { op, step, user } => match self.steps.get(step) {
                Some(step) => {
                    let span = tracing::info_span!(target: "byway::ladder", "lookup", %user, step = step.name());
                    let find = steps::find(Arc::clone(&self.shared), Arc::clone(step), op, user);
                    self.ops.start(op, Kind::Run, find.instrument(span));
                }
                None => unreachable!("the core runs only steps that it was given"),
            },
            Out::Browse { op, step } => match self.steps.get(step) {
                Some(step) => {
                    self.ops.start(op, Kind::Browse, steps::browse(Arc::clone(&self.shared), Arc::clone(step)));
                }
                None => unreachable!("the core browses only steps that it was given"),
            },
            Out::Announce { op, leaving } => {
                let announce = steps::announce(Arc::clone(&self.shared), Arc::clone(&self.steps), leaving);
                self.ops.start(op, Kind::Announce, announce);
            }
            Out::Load { op, what } => {
                let shared = Arc::clone(&self.shared);
                self.ops.start(op, Kind::Load, async move {
                    let load = shared.store.load(what, None, shared.settings.page);
                    Ended::Loaded(match timeout(shared.settings.store_wait, load).await {
                        Some(Ok(rows)) => Ok(rows.into_iter().map(|(_, row)| row).collect()),
                        Some(Err(error)) => Err(error.kind()),
                        None => Err(StoreErrorKind::Io),
                    })
                });
            }
            Out::SignBeacon { at } => self.again.push(In::Beacon(self.shared.identity.beacon(at))),
            Out::Mail { op, hop, mail } => {
                // The queue has a place for every envelope that the core lets be opened at a time.
                if self.queues.mail.try_send(Mail { op, hop, mail }).is_err() {
                    self.shared.counters.signals_dropped.add();
                    self.again.push(In::Opened { op, letter: None });
                }
            }
            Out::Seal { op, to, letter, introduce } => {
                let shared = Arc::clone(&self.shared);
                let seal = async move { letters::seal_letter(&shared, &to, letter, introduce) };
                self.ops.start(op, Kind::Seal, seal);
            }
            Out::Relay { op, hop, mail } => {
                let span = tracing::debug_span!(target: "byway::relay", "relay", hop = %hop.short());
                self.ops.start(op, Kind::Relay, letters::relay(Arc::clone(&self.shared), hop, mail).instrument(span));
            }
            Out::Admit { op, from, mail } => {
                let admitted = letters::admits(&self.shared, from, &mail);
                self.again.push(In::Admitted { op, admitted });
            }
            other => unreachable!("an effect that this driver does not know: {other:?}"),
        }
    }

    fn answer(&mut self, op: OpId, answer: Answer) {
        let Some(pending) = self.pending.remove(&op) else {
            tracing::error!(target: "byway::engine", ?op, ?answer, "an answer that nobody waits for");
            return;
        };
        match (pending, answer) {
            (Pending::Send { message, status }, Answer::Queued { existing }) => {
                if existing && let Some(delivery) = self.stands(&message) {
                    status.advance(delivery);
                }
                status.answer(Ok(existing));
                self.watched.add(message, status);
            }
            (Pending::Send { status, .. }, Answer::Refused(refusal)) => status.answer(Err(refusal)),
            (Pending::Done(reply), Answer::Done) => {
                let _ = reply.send(Ok(()));
            }
            (Pending::Done(reply), Answer::Refused(refusal)) => {
                let _ = reply.send(Err(super::CommandError::Refused(refusal)));
            }
            (Pending::Ask(reply), Answer::Routes(routes)) => drop(reply.send(routes)),
            (Pending::Forward(reply), Answer::Forwarded(status)) => drop(reply.send(status)),
            (_, answer) => {
                tracing::error!(target: "byway::engine", ?op, ?answer, "an answer to another question");
            }
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Message(item) => {
                if self.queues.inbox.try_send(*item).is_err() && !self.queues.inbox.is_closed() {
                    tracing::error!(target: "byway::engine", "a message for which there was no room");
                }
            }
            Event::RosterChanged => self.roster_changed = true,
            event => {
                if let Event::Delivery { message, delivery, .. } = &event {
                    self.watched.moved(message, *delivery);
                }
                // An error only says that nobody listens.
                let _ = self.shared.events.send(event);
            }
        }
    }
}
