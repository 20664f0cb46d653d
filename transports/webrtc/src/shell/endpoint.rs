//! The shell's endpoint: the same sessions, limits and glare rule as the own driver's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{
    BindContext, CloseCode, Connection, Endpoint, Incoming, PeerId, SignalAddress, SignalIn, TransportError,
    TransportErrorKind,
};
use tokio::sync::mpsc;

use super::attempt::{Attempt, Mail};
use super::connection::Channel;
use crate::accept::AcceptQueue;
use crate::config::Config;
use crate::offers::{Admission, DialRefusal, Offers, Session};
use crate::peer::{ConnId, Role};
use crate::random;
use crate::signal_body::{Body, Reason};
use crate::signals::{MAX_SESSION, Outbox};
use crate::stats::Stats;
use crate::sync::lock;
use crate::task::Tasks;

/// Signals of one attempt that wait to be read.
const MAX_MAIL: usize = 32;

/// How to reach an attempt.
#[derive(Debug)]
pub(super) struct Slot {
    mail: mpsc::Sender<Mail>,
    at: SignalAddress,
    session: Session,
    /// Our OFFER until it is answered.
    pub(super) offer: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    me: PeerId,
    pub(super) config: Config,
    pub(super) hook: bool,
    pub(super) outbox: Outbox,
    pub(super) offers: Mutex<Offers>,
    pub(super) attempts: Mutex<HashMap<ConnId, Slot>>,
    open: Mutex<HashMap<ConnId, Weak<Channel>>>,
    accepted: AcceptQueue,
    pub(super) tasks: Arc<Tasks>,
    closed: AtomicBool,
    next_id: AtomicU64,
}

impl Shared {
    /// Notes an open connection, so that the endpoint can close it.
    pub(super) fn enter(&self, id: ConnId, channel: &Arc<Channel>) {
        let mut open = lock(&self.open);
        open.retain(|_, channel| channel.strong_count() > 0);
        open.insert(id, Arc::downgrade(channel));
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_full(&self) -> bool {
        let mut open = lock(&self.open);
        open.retain(|_, channel| channel.strong_count() > 0);
        open.len() + lock(&self.attempts).len() >= self.config.connections
    }

    fn begin(self: &Arc<Self>, id: ConnId, session: Session, at: SignalAddress, role: Role) -> Attempt {
        let (sender, receiver) = mpsc::channel(MAX_MAIL);
        let slot = Slot { mail: sender, at: at.clone(), session: session.clone(), offer: None };
        lock(&self.attempts).insert(id, slot);
        Attempt::new(self, id, session, at, role, receiver)
    }

    fn post(&self, id: ConnId, mail: Mail) {
        if let Some(slot) = lock(&self.attempts).get(&id) {
            // the surplus is lost, as signals may be
            let _ = slot.mail.try_send(mail);
        }
    }

    fn handle(self: &Arc<Self>, arrived: SignalIn) {
        let SignalIn { from, back, signal, .. } = arrived;
        let session = (from, signal.session);
        if signal.transport != crate::NAME || session.1.is_empty() || session.1.len() > MAX_SESSION || from == self.me {
            return;
        }
        let Some(body) = Body::parse(signal.kind, &signal.body) else { return };
        let mail = match body {
            Body::Offer(sdp) => return self.offered(session, back, sdp),
            Body::Answer(sdp) => Mail::Answer(sdp),
            Body::Candidate(attribute) => Mail::Candidate(attribute),
            Body::Bye(reason) => {
                let (kind, detail) = reason.error();
                Mail::End(kind, detail)
            }
        };
        let id = {
            let offers = lock(&self.offers);
            offers.find(&session, true).or_else(|| offers.find(&session, false))
        };
        if let Some(id) = id {
            self.post(id, mail);
        }
    }

    fn offered(self: &Arc<Self>, session: Session, back: SignalAddress, sdp: String) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let admission = lock(&self.offers).offer(session.clone(), id, Instant::now());
        let busy = self.is_closed() || self.accepted.is_full() || self.is_full();
        match admission {
            Admission::Duplicate | Admission::TooFast => {}
            Admission::OursWins(ours) => {
                let repeat = lock(&self.attempts).get(&ours).and_then(|slot| {
                    Some((slot.at.clone(), Body::Offer(slot.offer.clone()?).into_signal(slot.session.1.clone())))
                });
                if let Some((at, signal)) = repeat {
                    self.outbox.send(session.0, at, signal);
                }
            }
            Admission::Accept { superseded } if !busy => {
                if let Some(dial) = superseded {
                    self.post(dial, Mail::End(TransportErrorKind::Superseded, ""));
                }
                let mut attempt = self.begin(id, session, back, Role::Answerer);
                let shared = Arc::clone(self);
                self.tasks.spawn(async move {
                    let result = Box::pin(attempt.run(Some(&sdp), &mut false)).await;
                    let (device, at, session) = (attempt.device, attempt.at.clone(), attempt.session.clone());
                    drop(attempt);
                    match result {
                        Ok(connection) => {
                            let connection: Arc<dyn Connection> = Arc::new(connection);
                            if let Err(refused) = shared.accepted.push(connection) {
                                refused.close(CloseCode::FULL).await;
                            }
                        }
                        Err(e) => {
                            tracing::debug!(?device, error = %e, "an accepted OFFER led nowhere");
                            if e.kind() == TransportErrorKind::Handshake {
                                shared.outbox.send(device, at, Body::Bye(Reason::Unusable).into_signal(session));
                            }
                        }
                    }
                });
            }
            Admission::Accept { .. } | Admission::Busy => {
                lock(&self.offers).remove(id);
                self.outbox.send(session.0, back, Body::Bye(Reason::Busy).into_signal(session.1));
            }
        }
    }
}

/// A bound [`WebRtcShell`](crate::WebRtcShell).
#[derive(Debug)]
pub struct WebRtcShellEndpoint {
    shared: Arc<Shared>,
}

impl WebRtcShellEndpoint {
    pub(super) fn open(config: Config, hook: bool, cx: BindContext) -> Result<Self, TransportError> {
        let wrong = |detail: &str| crate::error(TransportErrorKind::Config, detail);
        let port = cx.signals.ok_or_else(|| wrong("a signal port is needed"))?;
        if config.relay_only && config.turn.is_none() {
            return Err(wrong("relay_only needs a TURN server"));
        }
        let tasks = Arc::new(Tasks::default());
        let shared = Arc::new(Shared {
            me: cx.me,
            hook,
            outbox: Outbox::new(port, Arc::clone(&tasks), config.connect_timeout),
            offers: Mutex::new(Offers::new(cx.me, &config)),
            attempts: Mutex::default(),
            open: Mutex::default(),
            accepted: AcceptQueue::new(config.accept_queue),
            tasks: Arc::clone(&tasks),
            closed: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            config,
        });
        let reader = Arc::clone(&shared);
        tasks.spawn(async move {
            while let Some(signal) = reader.outbox.port.next().await {
                reader.outbox.room().await;
                reader.handle(signal);
            }
        });
        Ok(Self { shared })
    }

    /// What the endpoint holds; what only the own driver has is zero.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let offers = lock(&shared.offers);
        Stats {
            tasks: shared.tasks.count(),
            connections: lock(&shared.open).values().filter(|channel| channel.strong_count() > 0).count(),
            attempts: lock(&shared.attempts).len(),
            sessions: offers.len(),
            refused_offers: offers.refused(),
            accept_queue: shared.accepted.len(),
            ..Stats::default()
        }
    }
}

/// Tells the peer if a dial ends before it succeeded.
struct Farewell<'a> {
    shared: &'a Shared,
    to: PeerId,
    at: &'a SignalAddress,
    session: Bytes,
    announced: bool,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if self.announced {
            let reason = if self.shared.is_closed() { Reason::Closing } else { Reason::Cancelled };
            let bye = Body::Bye(reason).into_signal(self.session.clone());
            self.shared.outbox.send(self.to, self.at.clone(), bye);
        }
    }
}

#[async_trait]
impl Endpoint for WebRtcShellEndpoint {
    /// Empty: it is reached by signalling.
    fn addresses(&self) -> Vec<SignalAddress> {
        Vec::new()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        let shared = &self.shared;
        if shared.is_closed() {
            return Err(crate::error(TransportErrorKind::Closed, "the endpoint is closed"));
        }
        if (!to.is_signalling() && to.scheme() != crate::NAME) || peer == shared.me {
            return Err(crate::error(TransportErrorKind::BadAddress, to.as_str()));
        }
        if shared.is_full() {
            return Err(crate::error(TransportErrorKind::Busy, "this endpoint has all the connections it may have"));
        }
        let session = Bytes::copy_from_slice(&random::bytes::<16>()?);
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        lock(&shared.offers).dial((peer, session.clone()), id).map_err(|refusal| match refusal {
            DialRefusal::Superseded => crate::error(TransportErrorKind::Superseded, ""),
            DialRefusal::Dialling => crate::error(TransportErrorKind::Busy, "this device is being dialled already"),
        })?;
        let mut attempt = shared.begin(id, (peer, session.clone()), to.clone(), Role::Offerer);
        let mut farewell = Farewell { shared, to: peer, at: to, session, announced: false };
        let result = Box::pin(attempt.run(None, &mut farewell.announced)).await;
        farewell.announced &= matches!(
            result.as_ref().map_err(TransportError::kind),
            Err(TransportErrorKind::Timeout | TransportErrorKind::Handshake | TransportErrorKind::Closed)
        );
        result.map(|connection| Arc::new(connection) as Arc<dyn Connection>)
    }

    async fn next(&self) -> Option<Incoming> {
        self.shared.accepted.next().await
    }

    async fn close(&self) {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        let waiting = shared.accepted.close();
        for id in lock(&shared.attempts).keys().copied().collect::<Vec<_>>() {
            shared.post(id, Mail::End(TransportErrorKind::Closed, "the endpoint is closed"));
        }
        let open: Vec<_> = lock(&shared.open).drain().filter_map(|(_, channel)| channel.upgrade()).collect();
        for channel in open {
            shared.tasks.spawn(async move { channel.close(CloseCode::LEAVING).await });
        }
        drop(waiting);
        shared.outbox.drain(shared.config.linger).await;
        // dropped links close in tasks of their own; only the reader of signals runs on
        shared.tasks.settle(1, shared.config.linger * 2).await;
        shared.tasks.shutdown().await;
    }
}

impl Drop for WebRtcShellEndpoint {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        drop(self.shared.accepted.close());
        self.shared.tasks.abort();
    }
}
