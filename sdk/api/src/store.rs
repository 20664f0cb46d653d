use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{MessageId, PeerId, SignalAddress, StoreError, UserId, WallTime};

/// When a write must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// With the next durable commit, at latest about a second later. Losing it costs a resend.
    Relaxed,
    /// Before `apply` returns, through a power cut.
    Durable,
}

/// One remembered way to reach a device. Key: user, peer, address.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRow {
    /// Whose device.
    pub user: UserId,
    /// The device.
    pub peer: PeerId,
    /// The way.
    pub address: SignalAddress,
    /// When the device was last known there.
    pub last_seen: WallTime,
    /// Moving average of dial outcomes, 0 to 1.
    pub success_rate: f64,
    /// How it last connected, for people: `direct webrtc`, `via 12D3..`.
    pub path: String,
}

/// The newest signed record of a device. Key: peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// The device.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
    /// Its sequence number.
    pub seq: u64,
    /// The signed bytes.
    pub record: Bytes,
    /// When it ends.
    pub expires_at: WallTime,
}

/// Where an outgoing message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OutboxState {
    /// Not acknowledged yet.
    Queued,
    /// On a device of the recipient. The content is gone from the row.
    Delivered,
    /// Shown to the recipient.
    Read,
    /// Given up at its expiry.
    Expired,
}

/// One outgoing message for one device. Key: message, device. `to_peer` is `None` while the user has
/// no known device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The message.
    pub message: MessageId,
    /// The user it is for.
    pub to_user: UserId,
    /// The device it is for.
    pub to_peer: Option<PeerId>,
    /// Epoch of the sequence number; 0 while unbound.
    pub epoch: u64,
    /// Sequence number towards the device; 0 while unbound.
    pub seq: u64,
    /// What the app sent. `None` in a loaded header, and once it is delivered.
    pub content: Option<Bytes>,
    /// Length of the content in bytes, kept when the content is gone.
    pub size: u32,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When the app sent it.
    pub queued_at: WallTime,
    /// When it is given up.
    pub expires_at: WallTime,
    /// Attempts so far.
    pub retry_count: u32,
    /// When it is tried again.
    pub next_try: WallTime,
    /// Where it stands.
    pub state: OutboxState,
}

/// Where an incoming message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InboxState {
    /// Not taken by the app.
    New,
    /// Read by the app and not done.
    Read,
}

/// One incoming message. Key: sender device, epoch, seq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// The sending device.
    pub from_peer: PeerId,
    /// Epoch of the sequence number.
    pub epoch: u64,
    /// Sequence number of the sender towards us.
    pub seq: u64,
    /// The message.
    pub message: MessageId,
    /// The sending user.
    pub from_user: UserId,
    /// What was sent. `None` in a loaded header.
    pub content: Option<Bytes>,
    /// Length of the content in bytes.
    pub size: u32,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The sender's time.
    pub sent_at: WallTime,
    /// When it arrived here.
    pub received_at: WallTime,
    /// The sender's expiry.
    pub expires_at: WallTime,
    /// It came after a gap had been given up.
    pub late: bool,
    /// Where it stands.
    pub state: InboxState,
}

/// What was seen of one epoch of one sending device. Key: peer, epoch.
///
/// Everything below `floor` and everything in `above` was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRow {
    /// The sending device.
    pub from_peer: PeerId,
    /// The epoch.
    pub epoch: u64,
    /// The lowest number not yet seen.
    pub floor: u64,
    /// Numbers above the floor that were seen, ascending.
    pub above: Vec<u64>,
    /// When the epoch was last used.
    pub used_at: WallTime,
}

/// The first device seen for a user, or one it authorised. Key: user, peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRow {
    /// The user.
    pub user: UserId,
    /// The device.
    pub peer: PeerId,
    /// Since when.
    pub since: WallTime,
}

/// A mirror of a live connection, for people who look into the file. Key: peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// The device.
    pub peer: PeerId,
    /// State of the link.
    pub connection_state: String,
    /// State of its channel.
    pub data_channel_state: String,
    /// Since when.
    pub connected_at: WallTime,
}

/// One change. A batch of them is atomic. A kind that names neither `Duplicate` nor `Missing` is always
/// `Done`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// A message enters the outbox. Durable. `Duplicate` if its key exists; the row is left as it is.
    Append(OutboxRow),
    /// The unbound row of a message is replaced by one row per device; a device that has a row already
    /// keeps that one. Durable. `Missing` if there is no unbound row or no device; nothing is written
    /// then.
    Bind {
        /// The message.
        message: MessageId,
        /// Its rows, one per device. Their `content` is ignored: it is taken from the unbound row.
        rows: Vec<OutboxRow>,
    },
    /// A message enters the inbox together with its mark. Durable. `Duplicate` if an inbox row or the
    /// stored mark already has it; nothing is written then.
    Receive {
        /// The message.
        row: InboxRow,
        /// The mark that covers it; replaces the stored one.
        seen: SeenRow,
    },
    /// State of an outgoing message. Relaxed. `Missing` if there is no such row. In any state but
    /// `Queued` the content is dropped.
    Progress {
        /// The message.
        message: MessageId,
        /// The device; `None` for the unbound row.
        to_peer: Option<PeerId>,
        /// Where it stands.
        state: OutboxState,
        /// Attempts so far.
        retry_count: u32,
        /// When it is tried again.
        next_try: WallTime,
    },
    /// An outgoing message is forgotten. Relaxed. `Missing` if there is no such row.
    Forget {
        /// The message.
        message: MessageId,
        /// The device; `None` for the unbound row.
        to_peer: Option<PeerId>,
    },
    /// State of an incoming message. Relaxed. `Missing` if there is no such row.
    Mark {
        /// The sending device.
        from_peer: PeerId,
        /// The epoch.
        epoch: u64,
        /// The number.
        seq: u64,
        /// Where it stands.
        state: InboxState,
    },
    /// The app is done with an incoming message: the row goes, the mark stays. Relaxed. `Missing` if
    /// there is no such row.
    Take {
        /// The sending device.
        from_peer: PeerId,
        /// The epoch.
        epoch: u64,
        /// The number.
        seq: u64,
    },
    /// A mark is replaced. Relaxed.
    Seen(SeenRow),
    /// A mark is forgotten. Relaxed. `Missing` if there is none.
    Unsee {
        /// The sending device.
        from_peer: PeerId,
        /// The epoch.
        epoch: u64,
    },
    /// A route is inserted or replaced. Relaxed.
    Route(RouteRow),
    /// All routes and the record of a device are forgotten. Relaxed. `Missing` if there were none.
    DropPeer {
        /// The device.
        peer: PeerId,
    },
    /// A record is inserted, or replaces one with a smaller `seq`. Relaxed. `Duplicate` if the stored
    /// one is as new.
    Record(RecordRow),
    /// A named value is set, or removed with `None`.
    Meta {
        /// The name, at most 128 bytes.
        key: String,
        /// The value, at most 64 KiB.
        value: Option<Bytes>,
        /// When it must be on disk.
        durability: Durability,
    },
    /// A device is pinned to its user. Relaxed. `Duplicate` if it is.
    Pin(PinRow),
    /// All pins of a user are forgotten. Durable. `Missing` if there were none.
    Unpin {
        /// The user.
        user: UserId,
    },
    /// A user is blocked or unblocked. Durable.
    Block {
        /// The user.
        user: UserId,
        /// Blocked or not.
        blocked: bool,
    },
    /// A live connection is mirrored. Relaxed. The table is empty after opening the store.
    Connection(ConnectionRow),
    /// A connection ended. Relaxed. `Missing` if there is no row.
    Disconnected {
        /// The device.
        peer: PeerId,
    },
}

impl Write {
    /// When it must be on disk.
    pub const fn durability(&self) -> Durability {
        match self {
            Self::Append(_) | Self::Bind { .. } | Self::Receive { .. } | Self::Unpin { .. } | Self::Block { .. } => {
                Durability::Durable
            }
            Self::Meta { durability, .. } => *durability,
            _ => Durability::Relaxed,
        }
    }
}

/// What became of one [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// Written.
    Done,
    /// It was there already; nothing changed.
    Duplicate,
    /// What it changes is not there; nothing changed.
    Missing,
}

/// What to read. Rows come in the order given here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// Routes of one user, or of all: by `success_rate` descending, then `last_seen` descending.
    Routes {
        /// Only this user's.
        user: Option<UserId>,
    },
    /// Records of one user's devices, or of all: by peer.
    Records {
        /// Only this user's.
        user: Option<UserId>,
    },
    /// Outbox headers (no content): by `queued_at`, message, device.
    Outbox,
    /// Outbox rows of one message with content.
    OutboxContent(MessageId),
    /// Inbox headers (no content): by `received_at`, sender, epoch, seq.
    Inbox,
    /// One inbox row with content.
    InboxContent {
        /// The sending device.
        from_peer: PeerId,
        /// The epoch.
        epoch: u64,
        /// The number.
        seq: u64,
    },
    /// All marks: by peer, epoch.
    Seen,
    /// Named values whose name starts with this: by name.
    Meta {
        /// The prefix.
        prefix: String,
    },
    /// All pins: by user, peer.
    Pins,
    /// All blocked users: by name.
    Blocked,
    /// Live connections: by peer.
    Connections,
}

/// Where a page ended. Opaque: made by a store for itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Bytes);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// One row that was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Row {
    /// A route.
    Route(RouteRow),
    /// A record.
    Record(RecordRow),
    /// An outgoing message.
    Outbox(OutboxRow),
    /// An incoming message.
    Inbox(InboxRow),
    /// A mark.
    Seen(SeenRow),
    /// A named value.
    Meta {
        /// The name.
        key: String,
        /// The value.
        value: Bytes,
    },
    /// A pin.
    Pin(PinRow),
    /// A blocked user.
    Blocked(UserId),
    /// A live connection.
    Connection(ConnectionRow),
}

/// Keeps what must survive a restart: routes, outbox, inbox, marks.
///
/// # Behavior
/// * `apply` is atomic: either every write of the batch is applied, in order, or none is, and the
///   error says so. It answers one [`Applied`] per write.
/// * A batch that holds a [`Durable`](Durability::Durable) write is on disk when `apply` returns, and
///   survives a power cut. A batch of only relaxed writes is visible to `load` at once and on disk
///   with the next durable batch, or about a second later.
/// * Batches take effect in the order in which `apply` was called.
/// * `load` sees every batch whose `apply` has returned. It returns at most `limit` rows behind
///   `after`, each with its key; fewer than `limit` means that there are no more. Rows that change
///   while pages are read may be missed or seen in either state; rows that do not change are seen once.
/// * One process at a time: a second one gets `Busy` when it opens the store.
/// * A damaged, newer, read-only or full store is an error with that kind; nothing of it is changed
///   and nothing acknowledged is lost.
///
/// # Cancellation
/// A dropped `apply` may or may not take effect, as a whole. A dropped `load` has no effect.
///
/// # Shutdown
/// `close` makes everything durable and releases files and locks; afterwards every call fails with
/// `Closed`. It is idempotent. Dropping the store does the same without waiting.
///
/// # Notes to implementers
/// Many callers call `apply` at once: commit what waits in one transaction. Run
/// `byway_testkit::store_conformance!` over it.
#[async_trait]
pub trait RouteStore: fmt::Debug + Send + Sync + 'static {
    /// A short constant name.
    fn name(&self) -> &'static str;

    /// Applies a batch: at most 4,096 writes.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch took effect.
    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError>;

    /// Reads a page: at most `limit` rows (1 to 4,096) behind `after`.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError>;

    /// How many transactions reached the disk durably since the store was opened. Zero for a store
    /// without a disk.
    fn durable_commits(&self) -> u64 {
        0
    }

    /// Makes everything durable and releases files and locks.
    ///
    /// # Errors
    /// [`StoreError`] if the last relaxed writes could not be saved.
    async fn close(&self) -> Result<(), StoreError>;
}
