//! The engine: runs `byway-core` and carries out what it wants done.
//!
//! This file is the boundary to the rest of the crate. What the app sees is built on
//! [`EngineConfig`], [`start`], [`EngineHandle`] and [`InboxReceiver`]; everything below
//! `engine/` is private to the engine.
//!
//! ```text
//! EngineHandle --Command--> driver --In--> NodeCore --Out--> driver --> connections, store, plugins
//!                             ^                                |
//!                             +---------- completions ---------+
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{
    DiscoveryStep, KeyError, KeyStore, Membership, MessageId, NetworkId, PeerId, Relay, Route, RouteStore, SignalError,
    Signaling, StoreError, Transport, TransportError, UserId, WallTime,
};
use byway_core::io::{Event, InboxItem, InboxKey, Refusal, SendCommand};
use byway_core::status::DeviceDelivery;
use byway_core::view::{CoreMetrics, Explanation};
use byway_core::{OpId, Tuning};
use byway_wire::VerifiedRecord;
use byway_wire::WireError;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::members::Roster;
use crate::relay::PeerRelay;

mod commands;
mod connection;
mod dial;
mod driver;
mod effects;
mod endpoints;
mod handshake;
mod identity;
mod ids;
mod keeper;
mod launch;
mod letters;
mod meter;
mod ops;
mod records;
mod runtime;
mod settings;
mod shared;
mod signals;
mod status;
mod steps;
mod stop;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use identity::Credential;
pub(crate) use runtime::{Clock, now_wall, timeout};
pub(crate) use settings::Settings;
pub(crate) use status::MessageStatus;

use runtime::Runtime;
use shared::{InboxRoom, Notice, Shared};

/// Everything a node is made of.
#[derive(Debug)]
pub(crate) struct EngineConfig {
    /// The network.
    pub(crate) network: NetworkId,
    /// Whose device this is.
    pub(crate) user: UserId,
    /// Device key and seal keys; they are made here if there are none yet.
    pub(crate) keys: Arc<dyn KeyStore>,
    /// What proves that the device is the user's.
    pub(crate) credential: Credential,
    /// Judges the credentials of others, and ours.
    pub(crate) membership: Arc<dyn Membership>,
    /// Routes, outbox, inbox. Open already; the engine closes it.
    pub(crate) store: Arc<dyn RouteStore>,
    /// In order of preference.
    pub(crate) transports: Vec<Arc<dyn Transport>>,
    /// The ladder, first rung first.
    pub(crate) steps: Vec<Arc<dyn DiscoveryStep>>,
    /// Signalling sockets that this device serves itself. Their addresses stand first in our record.
    pub(crate) listeners: Vec<Arc<dyn Signaling>>,
    /// Carriers of signals that others serve, in order of preference. Their own addresses are our
    /// homes (the registry): they stand last in our record, and signals go there last.
    pub(crate) carriers: Vec<Arc<dyn Signaling>>,
    /// Carries sealed messages of ours, and says whose it carries for others.
    pub(crate) relay: Arc<dyn Relay>,
    /// What this device offers: `relay`, `coordinator;cap=64`, ...
    pub(crate) capabilities: Vec<String>,
    /// Routes out of invites. A record that does not verify is an error of [`start`].
    pub(crate) bootstrap: Vec<Route>,
    /// Numbers of the core.
    pub(crate) tuning: Tuning,
    /// Numbers of the engine.
    pub(crate) settings: Settings,
    /// Where time comes from.
    pub(crate) clock: Clock,
}

impl EngineConfig {
    /// A configuration without plugins but the store.
    pub(crate) fn new(
        network: NetworkId,
        user: UserId,
        keys: Arc<dyn KeyStore>,
        credential: Credential,
        membership: Arc<dyn Membership>,
        store: Arc<dyn RouteStore>,
    ) -> Self {
        Self {
            network,
            user,
            keys,
            credential,
            membership,
            store,
            transports: Vec::new(),
            steps: Vec::new(),
            listeners: Vec::new(),
            carriers: Vec::new(),
            relay: Arc::new(PeerRelay::new()),
            capabilities: vec!["relay".to_owned()],
            bootstrap: Vec::new(),
            tuning: Tuning::default(),
            settings: Settings::default(),
            clock: Clock::System,
        }
    }
}

/// Why a node does not start: every problem that was found, not only the first.
#[derive(Debug, Error)]
#[error("the node cannot start: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub(crate) struct StartError {
    /// At least one.
    pub(crate) problems: Vec<StartProblem>,
}

/// One reason why a node does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum StartProblem {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// A transport sends plain bytes over a network.
    #[error("the transport {0} does not encrypt and is refused")]
    Insecure(&'static str),
    /// A transport could not be bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A carrier of signals cannot work.
    #[error(transparent)]
    Carrier(#[from] SignalError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read or made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Our own record, made of credential, keys and addresses, is not valid.
    #[error("this device's own record is not valid, check the credential: {0}")]
    Record(WireError),
    /// The record of an invite is not valid.
    #[error("the invite for {peer} is not valid: {error}")]
    Invite {
        /// The device that the invite is for.
        peer: PeerId,
        /// What is wrong with its record.
        error: WireError,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum CommandError {
    /// The core refused; nothing was stored.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub(crate) struct SendRequest {
    /// To whom.
    pub(crate) to: UserId,
    /// Its id; `None` makes a random one. The same id again gives the message that is there.
    pub(crate) message: Option<MessageId>,
    /// What; at most `byway_wire::limits::CONTENT_MAX` bytes, else [`Refusal::TooLarge`].
    pub(crate) body: Bytes,
    /// The message it answers.
    pub(crate) reply_to: Option<MessageId>,
    /// For how long it is tried.
    pub(crate) expires_in: Duration,
}

/// A message that is durably queued.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Its id.
    pub(crate) message: MessageId,
    /// It was there before, under the same id.
    pub(crate) existing: bool,
    /// Where it stands, live.
    pub(crate) status: MessageStatus,
}

/// All numbers of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub(crate) struct EngineMetrics {
    /// What the core counts.
    pub(crate) core: CoreMetrics,
    /// Calls to a server: one per token taken from the budget.
    pub(crate) registry_calls: u64,
    /// Calls that were not made because the budget was used up.
    pub(crate) registry_refused: u64,
    /// Signals that went out over a metered carrier's open socket; they cost no call.
    pub(crate) registry_signals: u64,
    /// Signals that went out through a neighbour.
    pub(crate) neighbour_signals: u64,
    /// Signals that went out over a member's listener.
    pub(crate) listener_signals: u64,
    /// Signals that were opened and given to a transport.
    pub(crate) signals_received: u64,
    /// Carried envelopes that were dropped: not readable, too old, seen before, not admitted.
    pub(crate) signals_dropped: u64,
    /// Connections that did not pass Hello.
    pub(crate) handshakes_failed: u64,
    /// Connections that were refused because too many were half open.
    pub(crate) half_open_refused: u64,
    /// Transactions that reached the disk durably since the store was opened.
    pub(crate) durable_commits: u64,
}

/// Where our signed record stands and how others reach us, for invites.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    /// The network.
    pub(crate) network: NetworkId,
    /// The user.
    pub(crate) user: UserId,
    /// The device.
    pub(crate) peer: PeerId,
    /// The newest record; its addresses are those others should try.
    pub(crate) record: VerifiedRecord,
}

/// What the driver is told by the app's side.
#[derive(Debug)]
pub(crate) enum Command {
    Send { command: Box<SendCommand>, expires_in: Duration, status: MessageStatus },
    Status { message: MessageId, reply: oneshot::Sender<Option<MessageStatus>> },
    Deliveries { message: MessageId, reply: oneshot::Sender<Vec<DeviceDelivery>> },
    Seek(UserId),
    Read { key: InboxKey, reply: oneshot::Sender<Result<(), CommandError>> },
    Done { key: InboxKey, reply: oneshot::Sender<Result<(), CommandError>> },
    Block { user: UserId, blocked: bool, reply: oneshot::Sender<Result<(), CommandError>> },
    Trust { user: UserId, peer: PeerId, reply: oneshot::Sender<Result<(), CommandError>> },
    Explain { user: UserId, reply: oneshot::Sender<Option<Explanation>> },
    Metrics { reply: oneshot::Sender<EngineMetrics> },
    Suspend { reply: oneshot::Sender<()> },
    Resume { reply: oneshot::Sender<()> },
    NetworkChanged,
}

/// Starts a node: loads the store, binds the transports, attaches the carriers, and lets the core
/// begin. When it returns the node dials and accepts.
///
/// # Errors
/// [`StartError`] with everything that is wrong. Whatever was opened is closed again, the store too.
///
/// # Cancellation
/// Dropping the future releases everything.
pub(crate) async fn start(config: EngineConfig) -> Result<(EngineHandle, InboxReceiver), StartError> {
    launch::start(config).await
}

/// The app's side of a running node. Cheap to clone. When the last clone is dropped every task of the
/// node is aborted; [`EngineHandle::shutdown`] is the orderly way.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    runtime: Runtime,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.runtime.abort();
    }
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("peer", &self.inner.shared.identity.peer()).finish_non_exhaustive()
    }
}

impl EngineHandle {
    fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>, runtime: Runtime) -> Self {
        Self { inner: Arc::new(Inner { commands, shared, runtime }) }
    }

    async fn command(&self, command: Command) -> Result<(), CommandError> {
        self.inner.commands.send(command).await.map_err(|_| CommandError::Stopped)
    }

    async fn request<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.command(make(reply)).await?;
        answer.await.map_err(|_| CommandError::Stopped)
    }

    /// Queues a message and returns once it is durable.
    ///
    /// # Errors
    /// [`CommandError::Refused`]: nothing was stored.
    ///
    /// # Cancellation
    /// Dropping the future recalls nothing: the message may be queued or not.
    pub(crate) async fn send(&self, request: SendRequest) -> Result<Sent, CommandError> {
        let SendRequest { to, message, body, reply_to, expires_in } = request;
        let message = match message {
            Some(id) => id,
            None => self.inner.shared.ids.next().map_err(|_| CommandError::Stopped)?,
        };
        // The driver fills in what it alone knows: the request's number and the time.
        let (op, expires_at) = (OpId(0), WallTime::default());
        let command = Box::new(SendCommand { op, to, message, body, reply_to, expires_at });
        let status = MessageStatus::new();
        self.command(Command::Send { command, expires_in, status: status.clone() }).await?;
        let existing = status.queued().await?;
        Ok(Sent { message, existing, status })
    }

    /// Where a message stands that was sent earlier, in an earlier run too; `None` if it is not (or
    /// not any more) in the outbox.
    pub(crate) async fn status(&self, message: MessageId) -> Result<Option<MessageStatus>, CommandError> {
        self.request(|reply| Command::Status { message, reply }).await
    }

    /// Where a message stands for each device of its recipient.
    pub(crate) async fn deliveries(&self, message: MessageId) -> Result<Vec<DeviceDelivery>, CommandError> {
        self.request(|reply| Command::Deliveries { message, reply }).await
    }

    /// Begins to connect to a user. Returns once the core was told.
    pub(crate) async fn seek(&self, user: UserId) -> Result<(), CommandError> {
        self.command(Command::Seek(user)).await
    }

    /// Tells the sender that a message was read.
    pub(crate) async fn read(&self, key: InboxKey) -> Result<(), CommandError> {
        self.request(|reply| Command::Read { key, reply }).await?
    }

    /// Ends with an incoming message: it is not shown again.
    pub(crate) async fn done(&self, key: InboxKey) -> Result<(), CommandError> {
        self.request(|reply| Command::Done { key, reply }).await?
    }

    /// Refuses or admits a user from now on, over restarts.
    pub(crate) async fn block(&self, user: UserId, blocked: bool) -> Result<(), CommandError> {
        self.request(|reply| Command::Block { user, blocked, reply }).await?
    }

    /// Pins a user to a device, in place of what was pinned.
    pub(crate) async fn trust(&self, user: UserId, peer: PeerId) -> Result<(), CommandError> {
        self.request(|reply| Command::Trust { user, peer, reply }).await?
    }

    /// The trace of the last lookup of a user.
    pub(crate) async fn explain(&self, user: UserId) -> Result<Option<Explanation>, CommandError> {
        self.request(|reply| Command::Explain { user, reply }).await
    }

    /// All numbers.
    pub(crate) async fn metrics(&self) -> Result<EngineMetrics, CommandError> {
        self.request(|reply| Command::Metrics { reply }).await
    }

    /// Closes all connections and stops all timers until [`Self::resume`].
    pub(crate) async fn suspend(&self) -> Result<(), CommandError> {
        self.request(|reply| Command::Suspend { reply }).await
    }

    /// Goes on after [`Self::suspend`].
    pub(crate) async fn resume(&self) -> Result<(), CommandError> {
        self.request(|reply| Command::Resume { reply }).await
    }

    /// Says that addresses or routes of this machine have changed. Never waits; a hint that comes
    /// while the command queue is full is dropped, since the next turn looks anyway.
    pub(crate) fn network_changed(&self) {
        let _ = self.inner.commands.try_send(Command::NetworkChanged);
    }

    /// The member list; changes are coalesced.
    pub(crate) fn roster(&self) -> watch::Receiver<Arc<Roster>> {
        self.inner.shared.roster.subscribe()
    }

    /// What happens, as hints. [`Event::Message`] and [`Event::RosterChanged`] are not among them.
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.shared.events.subscribe()
    }

    /// Who we are, with the newest record.
    pub(crate) fn me(&self) -> Me {
        self.inner.shared.identity.me()
    }

    /// The wall time as the node sees it.
    pub(crate) fn wall(&self) -> WallTime {
        self.inner.runtime.now().wall
    }

    /// Tells when the node has stopped, without keeping it running.
    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline(self.inner.commands.clone())
    }

    /// For how long the node has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.inner.runtime.now().tick.since(byway_core::Tick::default())
    }

    /// In an open network: a token that makes `device` another device of our user.
    pub(crate) fn authorize(&self, device: &PeerId) -> Result<String, CommandError> {
        let jti = runtime::random().map_err(|_| CommandError::Stopped)?;
        Ok(self.inner.shared.identity.authorize(device, self.wall(), jti))
    }

    /// In an issued network: replaces the credential, before the old one ends. The record is signed
    /// anew and announced. Fails with the reason if the membership does not accept it for our device.
    pub(crate) fn renew_credential(&self, credential: String) -> Result<(), byway_api::MembershipError> {
        self.inner.shared.identity.renew(credential, self.wall())
    }

    /// Stops in order: says goodbye, flushes what is written, closes transports, carriers and store,
    /// and joins every task. Bounded by `Settings::shutdown_wait` for each stage. The second call
    /// waits for the first.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not save its last writes.
    pub(crate) async fn shutdown(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        // Not a command: commands wait while the store is behind.
        self.inner.shared.notify(Notice::Shutdown { reply }).await;
        let closed = answer.await;
        self.inner.runtime.join().await;
        closed.unwrap_or(Ok(()))
    }

    /// How many tasks of the node run now.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.inner.runtime.tasks()
    }
}

/// Tells when a node has stopped. It does not keep it running.
#[derive(Clone, Debug)]
pub(crate) struct Lifeline(mpsc::Sender<Command>);

impl Lifeline {
    /// Waits until the node has stopped. Cancel-safe.
    pub(crate) async fn ended(&self) {
        self.0.closed().await;
    }
}

/// The app's inbox queue: one consumer.
#[derive(Debug)]
pub(crate) struct InboxReceiver {
    items: mpsc::Receiver<InboxItem>,
    room: Arc<InboxRoom>,
}

impl InboxReceiver {
    const fn new(items: mpsc::Receiver<InboxItem>, room: Arc<InboxRoom>) -> Self {
        Self { items, room }
    }

    /// The next message; `None` once the node has stopped and the queue is empty. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<InboxItem> {
        let item = self.items.recv().await?;
        self.room.taken();
        Some(item)
    }
}
