//! Transports that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

#![expect(clippy::disallowed_methods, reason = "what is broken here is, in part, how tasks are kept")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byway_api::{
    BindContext, Bytes, ChannelBinding, CloseCode, Connection, Endpoint, Incoming, PathInfo, PeerId, Received,
    SignalAddress, Transport, TransportCaps, TransportError, TransportErrorKind, async_trait,
};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The 300th frame of a connection arrives twice.
    Repeats,
    /// Frames without bytes are swallowed.
    SwallowsEmpty,
    /// A frame that is too long closes the connection.
    BreaksOnTooLong,
    /// Reads ahead without bound, so that a sender never has to wait.
    Hoards,
    /// All connections of an endpoint send one after the other.
    OneLane,
    /// Every close is `NORMAL`.
    ForgetsTheCode,
    /// A send after one's own close succeeds.
    SendsAfterTheEnd,
    /// All connections have the same binding.
    OneBinding,
    /// `peer` is the device itself.
    WrongPeer,
    /// `next` loses a connection if it is dropped in the wrong moment.
    LosesWhenCancelled,
    /// Dials again when the other side's dial has won.
    Insists,
    /// A dial that was dropped goes on, and its connection stays open.
    DialsOn,
    /// The endpoint keeps a handle of each connection.
    KeepsHandles,
    /// A dial after `Endpoint::close` fails with a wrong kind.
    MisnamesClosed,
    /// `bind` starts a task that nobody ends.
    LeavesATask,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::Repeats, &["frames_arrive_whole_in_order_and_once"]),
        (Self::SwallowsEmpty, &["an_empty_frame_is_a_frame"]),
        (Self::BreaksOnTooLong, &["a_longer_frame_is_refused_and_the_connection_lives"]),
        (Self::Hoards, &["send_waits_for_room", "empty_frames_are_bounded_too"]),
        (Self::OneLane, &["a_full_connection_does_not_stall_another"]),
        (Self::ForgetsTheCode, &["the_close_code_arrives"]),
        (Self::SendsAfterTheEnd, &["after_close_nothing_is_sent"]),
        (Self::OneBinding, &["bindings_are_equal_and_unique"]),
        (Self::WrongPeer, &["the_peer_is_right_if_known"]),
        (Self::LosesWhenCancelled, &["next_is_cancel_safe"]),
        (Self::Insists, &["crossing_dials_make_one_connection"]),
        (Self::DialsOn, &["a_dropped_dial_leaves_nothing"]),
        (Self::KeepsHandles, &["dropping_the_last_handle_closes"]),
        (Self::MisnamesClosed, &["closing_an_endpoint_is_final"]),
        (Self::LeavesATask, &["no_task_is_left"]),
    ];
}

/// A transport with one [`Fault`].
#[derive(Clone, Debug)]
pub struct BrokenTransport {
    inner: Arc<dyn Transport>,
    fault: Fault,
}

impl BrokenTransport {
    /// Breaks a sound transport.
    pub fn new(inner: Arc<dyn Transport>, fault: Fault) -> Self {
        Self { inner, fault }
    }
}

#[async_trait]
impl Transport for BrokenTransport {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn caps(&self) -> TransportCaps {
        self.inner.caps()
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        if self.fault == Fault::LeavesATask {
            tokio::spawn(std::future::pending::<()>());
        }
        let me = cx.me;
        let inner = self.inner.bind(cx).await?;
        Ok(Arc::new(BrokenEndpoint {
            inner,
            fault: self.fault,
            me,
            lane: Arc::new(Semaphore::new(1)),
            kept: Arc::default(),
        }))
    }
}

#[derive(Debug)]
struct BrokenEndpoint {
    inner: Arc<dyn Endpoint>,
    fault: Fault,
    me: PeerId,
    lane: Arc<Semaphore>,
    kept: Arc<Mutex<Vec<Arc<dyn Connection>>>>,
}

impl BrokenEndpoint {
    fn wrap(&self, inner: Arc<dyn Connection>) -> Arc<dyn Connection> {
        if self.fault == Fault::KeepsHandles {
            lock(&self.kept).push(Arc::clone(&inner));
        }
        let hoard = (self.fault == Fault::Hoards).then(|| Hoard::start(Arc::clone(&inner)));
        Arc::new(BrokenConnection {
            inner,
            fault: self.fault,
            me: self.me,
            lane: Arc::clone(&self.lane),
            received: AtomicU64::new(0),
            again: Mutex::default(),
            closed: AtomicBool::new(false),
            hoard,
        })
    }

    async fn dial_on(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        let (answer, answered) = oneshot::channel();
        let (inner, to, kept) = (Arc::clone(&self.inner), to.clone(), Arc::clone(&self.kept));
        tokio::spawn(async move {
            if let Err(Ok(unwanted)) = answer.send(inner.dial(peer, &to).await) {
                lock(&kept).push(unwanted);
            }
        });
        answered.await.unwrap_or_else(|_| Err(TransportError::new(TransportErrorKind::Other, "broken", "")))
    }
}

#[async_trait]
impl Endpoint for BrokenEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        self.inner.addresses()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        loop {
            let dialled = if self.fault == Fault::DialsOn {
                self.dial_on(peer, to).await
            } else {
                self.inner.dial(peer, to).await
            };
            match (self.fault, dialled) {
                (Fault::Insists, Err(e)) if e.kind() == TransportErrorKind::Superseded => {}
                (Fault::MisnamesClosed, Err(e)) if e.kind() == TransportErrorKind::Closed => {
                    return Err(TransportError::new(TransportErrorKind::Other, "broken", "").with_source(e));
                }
                (_, dialled) => return dialled.map(|inner| self.wrap(inner)),
            }
        }
    }

    async fn next(&self) -> Option<Incoming> {
        let incoming = self.inner.next().await?;
        if self.fault == Fault::LosesWhenCancelled {
            tokio::task::yield_now().await;
        }
        Some(match incoming {
            Incoming::Connection(inner) => Incoming::Connection(self.wrap(inner)),
            other => other,
        })
    }

    async fn network_changed(&self) {
        self.inner.network_changed().await;
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[derive(Debug)]
struct BrokenConnection {
    inner: Arc<dyn Connection>,
    fault: Fault,
    me: PeerId,
    lane: Arc<Semaphore>,
    received: AtomicU64,
    again: Mutex<Option<Bytes>>,
    closed: AtomicBool,
    hoard: Option<Hoard>,
}

#[async_trait]
impl Connection for BrokenConnection {
    fn peer(&self) -> Option<PeerId> {
        if self.fault == Fault::WrongPeer { Some(self.me) } else { self.inner.peer() }
    }

    fn binding(&self) -> ChannelBinding {
        let mut binding = self.inner.binding();
        if self.fault == Fault::OneBinding {
            binding.bytes = vec![1];
        }
        binding
    }

    fn path(&self) -> PathInfo {
        self.inner.path()
    }

    async fn send(&self, frame: Bytes) -> Result<(), TransportError> {
        let _turn = match self.fault {
            Fault::OneLane => self.lane.acquire().await.ok(),
            _ => None,
        };
        match self.inner.send(frame).await {
            Err(e) if self.fault == Fault::BreaksOnTooLong && e.kind() == TransportErrorKind::TooLarge => {
                self.inner.close(CloseCode::PROTOCOL).await;
                Err(e)
            }
            Err(_) if self.fault == Fault::SendsAfterTheEnd && self.closed.load(Ordering::Relaxed) => Ok(()),
            sent => sent,
        }
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        /// No other promise's test sends so many frames over one connection.
        const REPEATED: u64 = 300;
        if let Some(frame) = lock(&self.again).take() {
            return Ok(Received::Frame(frame));
        }
        if let Some(hoard) = &self.hoard {
            return Ok(hoard.next().await);
        }
        loop {
            let received = self.inner.recv().await?;
            if let Received::Frame(frame) = &received {
                if self.fault == Fault::SwallowsEmpty && frame.is_empty() {
                    continue;
                }
                let number = self.received.fetch_add(1, Ordering::Relaxed);
                if self.fault == Fault::Repeats && number == REPEATED {
                    *lock(&self.again) = Some(frame.clone());
                }
            }
            return Ok(received);
        }
    }

    async fn close(&self, code: CloseCode) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(hoard) = &self.hoard {
            lock(&hoard.frames).clear();
        }
        self.inner.close(if self.fault == Fault::ForgetsTheCode { CloseCode::NORMAL } else { code }).await;
    }
}

/// Everything the far side sent, read as fast as it came.
#[derive(Debug)]
struct Hoard {
    frames: Arc<Mutex<VecDeque<Received>>>,
    news: Arc<Notify>,
    reading: AbortHandle,
}

impl Hoard {
    fn start(inner: Arc<dyn Connection>) -> Self {
        let (frames, news) = (Arc::<Mutex<VecDeque<Received>>>::default(), Arc::new(Notify::new()));
        let (into, told) = (Arc::clone(&frames), Arc::clone(&news));
        let reading = tokio::spawn(async move {
            while let Ok(received) = inner.recv().await {
                let ended = matches!(received, Received::Closed(_));
                lock(&into).push_back(received);
                told.notify_one();
                if ended {
                    break;
                }
            }
        });
        Self { frames, news, reading: reading.abort_handle() }
    }

    async fn next(&self) -> Received {
        loop {
            {
                let mut frames = lock(&self.frames);
                match frames.front() {
                    Some(Received::Closed(code)) => return Received::Closed(*code),
                    Some(_) => {
                        if let Some(frame) = frames.pop_front() {
                            return frame;
                        }
                    }
                    None => {}
                }
            }
            self.news.notified().await;
        }
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
