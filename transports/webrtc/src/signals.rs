//! Handles the peers' signals, and sends ours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_api::{PeerId, Signal, SignalAddress, SignalIn, SignalPort, TransportErrorKind};
use tokio::sync::Semaphore;

use crate::offers::Admission;
use crate::peer::{End, Peer};
use crate::sdp::MAX_CANDIDATES;
use crate::shared::Shared;
use crate::signal_body::{Body, Reason};
use crate::sync::lock;
use crate::task::Tasks;

/// Signals on their way at the same time. While there are so many, no others are read; and what has
/// to be said without being asked is dropped, as a carrier may do.
const MAX_SENDING: u32 = 64;
/// Longest session id, in bytes.
pub(crate) const MAX_SESSION: usize = 16;

/// Sends signals that nobody waits for.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) port: Arc<dyn SignalPort>,
    permits: Arc<Semaphore>,
    tasks: Arc<Tasks>,
    timeout: Duration,
}

impl Outbox {
    pub(crate) fn new(port: Arc<dyn SignalPort>, tasks: Arc<Tasks>, timeout: Duration) -> Self {
        Self { port, permits: Arc::new(Semaphore::new(MAX_SENDING as usize)), tasks, timeout }
    }

    /// Sends `signal`; `done` learns whether a carrier took it.
    fn post(&self, to: PeerId, at: SignalAddress, signal: Signal, done: impl FnOnce(bool) + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            tracing::debug!(?to, "too many signals are on their way; one is dropped");
            return done(false);
        };
        let (port, timeout) = (Arc::clone(&self.port), self.timeout);
        self.tasks.spawn(async move {
            let sent = tokio::time::timeout(timeout, port.send(to, &at, signal)).await;
            if let Ok(Err(e)) = &sent {
                tracing::debug!(?to, error = %e, "a signal could not be sent");
            }
            done(matches!(sent, Ok(Ok(()))));
            drop(permit);
        });
    }

    /// Sends a signal for an attempt of ours.
    pub(crate) fn send(&self, to: PeerId, at: SignalAddress, signal: Signal) {
        self.post(to, at, signal, |_| ());
    }

    /// Waits until a signal can be posted. Every signal on its way has a deadline.
    pub(crate) async fn room(&self) {
        // an error means that nothing can be posted any more
        drop(self.permits.acquire().await);
    }

    /// Waits until everything posted is sent, at most `patience`.
    pub(crate) async fn drain(&self, patience: Duration) {
        // an error means that time is up or that nothing can be posted any more
        let _ = tokio::time::timeout(patience, self.permits.acquire_many(MAX_SENDING)).await;
    }
}

/// Reads the signal port until it ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    while let Some(signal) = shared.outbox.port.next().await {
        shared.outbox.room().await;
        handle(&shared, signal);
    }
}

fn handle(shared: &Arc<Shared>, arrived: SignalIn) {
    let SignalIn { from, back, signal, .. } = arrived;
    let session = (from, signal.session);
    if signal.transport != crate::NAME || session.1.is_empty() || session.1.len() > MAX_SESSION || from == shared.me {
        return;
    }
    let Some(body) = Body::parse(signal.kind, &signal.body) else {
        tracing::debug!(?from, kind = ?signal.kind, "malformed signal");
        return;
    };
    let find = |dialled| lock(&shared.offers).find(&session, dialled).and_then(|id| shared.peer(id));
    match body {
        Body::Offer(sdp) => offered(shared, session, back, &sdp),
        Body::Answer(sdp) => {
            if let Some(peer) = find(true) {
                peer.answered(&sdp);
            }
        }
        Body::Candidate(attribute) => {
            if let Some(peer) = find(true).or_else(|| find(false)) {
                peer.remote_candidate(attribute);
            }
        }
        Body::Bye(reason) => {
            if let Some(peer) = find(true).or_else(|| find(false)) {
                let (kind, detail) = reason.error();
                peer.end(End::failed(kind, detail));
            }
        }
    }
}

fn offered(shared: &Arc<Shared>, session: (PeerId, bytes::Bytes), back: SignalAddress, sdp: &str) {
    let (from, id) = (session.0, shared.next_id());
    let admission = lock(&shared.offers).offer(session.clone(), id, Instant::now());
    let refuse = |reason| {
        lock(&shared.offers).remove(id);
        shared.outbox.send(from, back.clone(), Body::Bye(reason).into_signal(session.1.clone()));
    };
    match admission {
        Admission::Duplicate | Admission::TooFast => {}
        Admission::Busy => refuse(Reason::Busy),
        Admission::Accept { .. } if shared.accepted.is_full() => refuse(Reason::Busy),
        Admission::OursWins(ours) => {
            if let Some(peer) = shared.peer(ours) {
                repeat_offer(shared, &peer);
            }
        }
        Admission::Accept { superseded } => {
            if let Some(peer) = superseded.and_then(|id| shared.peer(id)) {
                peer.end(End::failed(TransportErrorKind::Superseded, ""));
            }
            match Peer::answer(shared, id, from, session.1.clone(), sdp) {
                Ok((peer, answer)) => {
                    lock(&peer.signalling).at = Some(back.clone());
                    let signal = Body::Answer(answer).into_signal(session.1.clone());
                    shared.outbox.post(from, back, signal, move |sent| {
                        if sent {
                            announced(&peer);
                        } else {
                            peer.end(End::failed(TransportErrorKind::Signaling, "the ANSWER could not be sent"));
                        }
                    });
                }
                Err(e) => {
                    tracing::debug!(?from, error = %e, "an OFFER cannot be accepted");
                    refuse(if e.kind() == TransportErrorKind::Busy { Reason::Busy } else { Reason::Unusable });
                }
            }
        }
    }
}

/// The peer dials us while we dial it, and ours wins: it may never have seen ours.
fn repeat_offer(shared: &Shared, peer: &Arc<Peer>) {
    let (at, signal) = {
        let signalling = lock(&peer.signalling);
        let (Some(at), Some(offer)) = (signalling.at.clone(), signalling.offer.clone()) else { return };
        (at, Body::Offer(offer).into_signal(signalling.session.clone()))
    };
    shared.outbox.send(peer.device, at, signal);
}

/// The description of an attempt was sent: late candidates may follow it now.
pub(crate) fn announced(peer: &Arc<Peer>) {
    let unsent = {
        let mut signalling = lock(&peer.signalling);
        signalling.announced = true;
        std::mem::take(&mut signalling.unsent)
    };
    unsent.into_iter().for_each(|candidate| trickle(peer, candidate));
}

/// A candidate of ours that was not in the description.
pub(crate) fn trickle(peer: &Arc<Peer>, candidate: crate::candidate::Candidate) {
    let Some(shared) = peer.shared.upgrade() else { return };
    let (at, session) = {
        let mut signalling = lock(&peer.signalling);
        match signalling.at.clone() {
            Some(at) if signalling.announced => (at, signalling.session.clone()),
            _ => {
                if signalling.unsent.len() < MAX_CANDIDATES {
                    signalling.unsent.push(candidate);
                }
                return;
            }
        }
    };
    shared.outbox.send(peer.device, at, Body::Candidate(candidate.attribute()).into_signal(session));
}
