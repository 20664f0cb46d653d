use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{PeerId, Prover, SignalError, SignalErrorKind};
use byway_wire::{SocketFrame, SocketStatus, peek};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::pace::{Beat, Pulse};
use crate::queue::Queue;
use crate::serve::{decode, goodbye, incoming, lost, write};
use crate::{Closed, Packet, Socket};

/// The numbers of a [`Client`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The plugin named in errors; default `"socket"`.
    pub plugin: &'static str,
    /// From the first byte until the server has taken the proof; default 5 s.
    pub connect_timeout: Duration,
    /// How long a `send` waits for its status; default 5 s.
    pub send_timeout: Duration,
    /// Sends that wait for their status; default 32. The surplus is `Busy`.
    pub in_flight: usize,
    /// Received envelopes that wait for `recv`; default 32. While it is full nothing is read.
    pub queue: usize,
    /// How long one write may take; default 10 s.
    pub write_timeout: Duration,
    /// A ping after this much silence; default 30 s, longer than a server's, so that it rarely comes to it.
    pub ping_every: Duration,
    /// Unanswered pings before the socket counts as dead; default 2.
    pub missed_pings: u32,
    /// How long closing may take; default 1 s.
    pub close_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            plugin: "socket",
            connect_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(5),
            in_flight: 32,
            queue: 32,
            write_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(30),
            missed_pings: 2,
            close_timeout: Duration::from_secs(1),
        }
    }
}

/// What a server sends unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// An envelope, and the device whose socket it came from.
    Mail {
        /// The sender's device, as the server proved it.
        from: PeerId,
        /// The sealed envelope.
        envelope: Bytes,
    },
    /// The registry would like this device to be a coordinator.
    Appoint,
}

/// The client's side of the signalling socket, attached.
///
/// # Behavior
/// * `send` returns when the server has answered; any number of sends may run at once.
/// * When the socket ends, every waiting `send` gets its answer (`Unreachable`), `recv` yields what had
///   arrived and then `None`, and [`closed`](Self::closed) tells why. A client does not reconnect.
///
/// # Shutdown
/// After [`close`](Self::close) its task and its socket are gone. Dropping aborts.
pub struct Client {
    shared: Arc<Shared>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    end: watch::Receiver<Option<Closed>>,
    task: Mutex<JoinSet<()>>,
}

struct Shared {
    config: ClientConfig,
    queue: Queue,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: BTreeMap<u64, oneshot::Sender<SocketStatus>>,
    ended: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("closed", &*self.end.borrow()).finish_non_exhaustive()
    }
}

impl Client {
    /// Attaches over a connected socket: waits for the challenge, proves, waits until the proof is taken.
    ///
    /// `prover` signs only for a target that `accepts` says yes to: the URL that was dialled, or the
    /// PeerId of the listener that was meant. A server that asks for a proof of another target wants
    /// to use it there.
    ///
    /// # Errors
    /// `Refused` (wrong key, wrong target), `Busy` (no place there), `Unreachable` (everything else).
    ///
    /// # Cancellation
    /// Dropping the future drops the socket.
    pub async fn connect<S, E>(
        mut socket: S,
        prover: &dyn Prover,
        accepts: impl Fn(&str) -> bool + Send + Sync,
        config: ClientConfig,
    ) -> Result<Self, SignalError>
    where
        S: Socket<E> + 'static,
        E: fmt::Display + Send + 'static,
    {
        let attached = timeout(config.connect_timeout, attach(&mut socket, prover, &accepts)).await;
        if let Err(why) = attached.unwrap_or(Err(Closed::TooLate)) {
            goodbye(&mut socket, &Closed::Local, config.close_timeout).await;
            let kind = match &why {
                Closed::Refused(_) => SignalErrorKind::Refused,
                Closed::Full | Closed::Flood => SignalErrorKind::Busy,
                _ => SignalErrorKind::Unreachable,
            };
            return Err(
                SignalError::new(kind, config.plugin, "could not attach to the signalling socket").with_source(why)
            );
        }
        let queue = Queue::new(config.in_flight + 1, usize::MAX);
        let (to_inbox, inbox) = mpsc::channel(config.queue.max(1));
        let (ended, end) = watch::channel(None);
        let shared = Arc::new(Shared { config, queue, waiting: Mutex::default() });
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&shared).run(socket, to_inbox, ended));
        Ok(Self { shared, inbox: tokio::sync::Mutex::new(inbox), end, task: Mutex::new(task) })
    }

    /// Hands an envelope to the device `to`, attached to the same server.
    ///
    /// # Errors
    /// `NoSuchPeer`, `Busy`, `Refused` (too large, or no envelope for `to`), `Unreachable` (the socket ended, or no answer in
    /// [`ClientConfig::send_timeout`]; the envelope may or may not have arrived then).
    ///
    /// # Cancellation
    /// Dropping the future may or may not have sent.
    pub async fn send(&self, to: PeerId, envelope: Bytes) -> Result<(), SignalError> {
        let error = |kind, detail: &str| Err(SignalError::new(kind, self.shared.config.plugin, detail));
        // A server closes the socket of whoever sends something else.
        match peek(&envelope) {
            Ok(head) if head.to == to => {}
            Ok(_) => return error(SignalErrorKind::Refused, "the envelope is for another device"),
            Err(e) => {
                return Err(SignalError::new(SignalErrorKind::Refused, self.shared.config.plugin, "").with_source(e));
            }
        }
        let Some((ticket, answer)) = self.shared.ticket() else {
            return match *self.end.borrow() {
                None => error(SignalErrorKind::Busy, "too many sends wait for an answer"),
                Some(_) => self.gone(),
            };
        };
        if self.shared.queue.push(SocketFrame::Send { to, envelope, seq: ticket.seq }).is_err() {
            return match self.shared.queue.ended() {
                None => error(SignalErrorKind::Busy, "the socket is busy"),
                Some(_) => self.gone(),
            };
        }
        match timeout(self.shared.config.send_timeout, answer).await {
            Ok(Ok(SocketStatus::Ok)) => Ok(()),
            Ok(Ok(SocketStatus::NoSuchPeer)) => error(SignalErrorKind::NoSuchPeer, "not attached to this server"),
            Ok(Ok(_)) => error(SignalErrorKind::Busy, "the server or the device is busy; try again later"),
            Ok(Err(_)) => self.gone(),
            Err(_) => error(SignalErrorKind::Unreachable, "the server did not answer in time"),
        }
    }

    fn gone(&self) -> Result<(), SignalError> {
        let why = self.end.borrow().clone();
        let kind = if why == Some(Closed::Local) { SignalErrorKind::Closed } else { SignalErrorKind::Unreachable };
        let mut error = SignalError::new(kind, self.shared.config.plugin, "the socket has ended");
        if let Some(why) = why {
            error = error.with_source(why);
        }
        Err(error)
    }

    /// What the server sends next; `None` once the socket has ended. Cancel-safe; awaited by one task.
    pub async fn recv(&self) -> Option<Incoming> {
        self.inbox.lock().await.recv().await
    }

    /// Waits until the socket has ended and tells why.
    pub async fn closed(&self) -> Closed {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        ended.unwrap_or(Closed::Local)
    }

    /// Why the socket has ended, if it has.
    pub fn ended(&self) -> Option<Closed> {
        self.end.borrow().clone()
    }

    /// Says goodbye and waits until the socket and its task are gone. Idempotent.
    pub async fn close(&self) {
        self.shared.queue.end(Closed::Local);
        let mut task = std::mem::take(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner));
        if task.join_next().await.is_none() {
            self.closed().await;
        }
    }
}

/// A place among the waiting sends; given back when dropped.
struct Ticket<'a> {
    shared: &'a Shared,
    seq: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.waiting().answers.remove(&self.seq);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if too many wait, or the socket has ended.
    fn ticket(&self) -> Option<(Ticket<'_>, oneshot::Receiver<SocketStatus>)> {
        let mut waiting = self.waiting();
        if waiting.ended || waiting.answers.len() >= self.config.in_flight {
            return None;
        }
        waiting.last += 1;
        let seq = waiting.last;
        let (answer, receiver) = oneshot::channel();
        waiting.answers.insert(seq, answer);
        drop(waiting);
        Some((Ticket { shared: self, seq }, receiver))
    }

    async fn run<S, E>(
        self: Arc<Self>,
        mut socket: S,
        inbox: mpsc::Sender<Incoming>,
        ended: watch::Sender<Option<Closed>>,
    ) where
        S: Socket<E>,
        E: fmt::Display,
    {
        let Err(why) = self.pump(&mut socket, &inbox).await;
        tracing::debug!(target: "byway::socket", %why, "signalling socket ended");
        self.queue.end(why.clone());
        ended.send_replace(Some(why.clone()));
        {
            let mut waiting = self.waiting();
            waiting.ended = true;
            waiting.answers.clear();
        }
        goodbye(&mut socket, &why, self.config.close_timeout).await;
    }

    async fn pump<S, E>(&self, socket: &mut S, inbox: &mpsc::Sender<Incoming>) -> Result<Infallible, Closed>
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        let config = &self.config;
        let mut pulse = Pulse::new(config.ping_every, config.missed_pings);
        // What did not fit into the inbox. Until it does nothing is read, so that the server notices.
        let mut held = None;
        loop {
            tokio::select! {
                biased;
                ready = self.queue.ready() => {
                    ready?;
                    write(socket, &self.queue, config.write_timeout).await?;
                }
                room = inbox.reserve(), if held.is_some() => {
                    let room = room.map_err(|_| Closed::Local)?;
                    if let Some(incoming) = held.take() {
                        room.send(incoming);
                    }
                    pulse.heard();
                }
                packet = socket.next(), if held.is_none() => {
                    let packet = incoming(packet)?;
                    pulse.heard();
                    match packet {
                        Packet::Frame(frame) => held = self.handle(decode(frame)?)?,
                        Packet::Close(_) => return Err(Closed::Remote),
                        Packet::Ping | Packet::Pong => {}
                    }
                }
                () = sleep_until(pulse.due()), if held.is_none() => match pulse.beat() {
                    Beat::Dead => return Err(Closed::Silent),
                    Beat::Ping => match timeout(config.write_timeout, socket.send(Packet::Ping)).await {
                        Ok(sent) => sent.map_err(lost)?,
                        Err(_) => return Err(Closed::Slow),
                    },
                },
            }
        }
    }

    fn handle(&self, frame: SocketFrame) -> Result<Option<Incoming>, Closed> {
        match frame {
            SocketFrame::From { from, envelope } => Ok(Some(Incoming::Mail { from, envelope })),
            SocketFrame::Appoint => Ok(Some(Incoming::Appoint)),
            SocketFrame::Status { status, seq, .. } => {
                // Nobody waits any more for an answer that is late.
                if let Some(answer) = self.waiting().answers.remove(&seq) {
                    let _ = answer.send(status);
                }
                Ok(None)
            }
            SocketFrame::Error { code, text } => Err(Closed::from_frame(code, text)),
            SocketFrame::Unknown => Ok(None),
            _ => Err(Closed::Malformed("a server sends Challenge only once, and neither Auth nor Send".to_owned())),
        }
    }
}

/// Challenge, proof, and the status that says that the proof was taken.
async fn attach<S, E>(
    socket: &mut S,
    prover: &dyn Prover,
    accepts: &(impl Fn(&str) -> bool + Send + Sync),
) -> Result<(), Closed>
where
    S: Socket<E>,
    E: fmt::Display,
{
    let mut proved = false;
    loop {
        let frame = match incoming(socket.next().await)? {
            Packet::Frame(frame) => decode(frame)?,
            Packet::Close(_) => return Err(Closed::Remote),
            Packet::Ping | Packet::Pong => continue,
        };
        match frame {
            SocketFrame::Challenge { nonce, target } if !proved => {
                if !accepts(&target) {
                    let text = format!(
                        "the server asks for a proof for {target:.200}, which is not what was dialled; \
                         a registry behind a proxy needs --public-url"
                    );
                    return Err(Closed::Refused(text));
                }
                let proof = SocketFrame::Auth(prover.prove("WS", &target, &nonce)).encode();
                socket.send(Packet::Frame(proof)).await.map_err(lost)?;
                proved = true;
            }
            SocketFrame::Status { seq: 0, status: SocketStatus::Ok, .. } if proved => return Ok(()),
            SocketFrame::Error { code, text } => return Err(Closed::from_frame(code, text)),
            SocketFrame::Unknown => {}
            _ => return Err(Closed::Malformed("the server's first message must be a Challenge".to_owned())),
        }
    }
}
