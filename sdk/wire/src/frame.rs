//! What two connected devices say to each other.

use bytes::Bytes;
use byway_api::{CloseCode, MessageId, PeerId, Sealed, SignalAddress, UserId, WallTime};

use crate::{Beacon, ReceiptKind, VerifiedRecord};

/// Which queue a frame waits in. Control goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent.
    Control,
    /// Messages and relayed mail.
    Data,
}

/// One typed frame of a link. Only verified records and beacons are inside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// Who knows this user?
    Query(PeerQuery),
    /// The answer.
    Found(PeerFound),
    /// Who is there.
    State(NetworkState),
    /// A message between the two ends of the link.
    Direct(Direct),
    /// What became of messages.
    Receipts(Receipts),
    /// A sealed envelope for a neighbour of the receiver, or for the receiver.
    Relay(Relay),
    /// What became of a relayed envelope.
    RelayAck(RelayAck),
    /// Is the link alive?
    Ping(u64),
    /// It is; the number of the ping.
    Pong(u64),
    /// A coordinator is still one.
    Heartbeat,
    /// The link ends.
    Goodbye(Goodbye),
}

impl Frame {
    /// Which queue it waits in.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Direct(_) | Self::Relay(_) => Lane::Data,
            _ => Lane::Control,
        }
    }
}

/// Asks a neighbour for routes to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerQuery {
    /// Who is sought.
    pub user: UserId,
    /// Repeated by the answer; at most 64 bytes.
    pub request_id: String,
    /// How many further hops it may take; more than 1 is read as 1.
    pub hops: u32,
    /// How long the asker still waits, in milliseconds; more than a minute is read as a minute.
    pub deadline_ms: u64,
}

/// Routes to a user.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerFound {
    /// Who was sought.
    pub user: UserId,
    /// Of the query.
    pub request_id: String,
    /// The best way, if there is one besides those in the records.
    pub address: Option<SignalAddress>,
    /// When the answerer knew the user to be there.
    pub last_seen: WallTime,
    /// The answerer would relay.
    pub can_relay: bool,
    /// Of the user's devices: 1 to 8, 32 KiB together.
    pub records: Vec<VerifiedRecord>,
}

/// Who is there, as one neighbour knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkState {
    /// Hints only; at most 512.
    pub online_members: Vec<UserId>,
    /// Hints only; at most 512.
    pub coordinators: Vec<PeerId>,
    /// When it was said.
    pub timestamp: WallTime,
    /// At most 512.
    pub presence: Vec<Presence>,
    /// At most 64.
    pub records: Vec<VerifiedRecord>,
    /// The newest revocation list that the neighbour holds.
    pub revocation_seq: u64,
    /// Only what changed.
    pub delta: bool,
    /// Over what was last told on this link.
    pub digest: Option<[u8; 16]>,
    /// Asks for everything.
    pub want_full: bool,
    /// Asks for the newest records of these devices; at most 512.
    pub want_records: Vec<PeerId>,
}

/// One device, as one neighbour knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The device.
    pub peer: PeerId,
    /// The newest record of it that the neighbour holds.
    pub record_seq: u64,
    /// When it was seen.
    pub seen_at: WallTime,
    /// The device's own word, if new on this link. Verified, whatever its age.
    pub beacon: Option<Beacon>,
    /// The neighbour holds a live link to it.
    pub link: bool,
    /// Seconds since the beacon was signed, by the clocks of those who passed it on: each adds for how
    /// long it held it.
    pub age_s: u32,
}

/// A message to the far end of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The same on every path and for every device of the recipient.
    pub message: MessageId,
    /// What `seq` counts in.
    pub epoch: u64,
    /// Position towards the recipient's device.
    pub seq: u64,
    /// The lowest position not yet delivered or given up.
    pub floor: u64,
    /// When the app sent it.
    pub sent_at: WallTime,
    /// When it is worth nothing any more.
    pub expires_at: WallTime,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The app's bytes, at most [`limits::BODY_MAX`](crate::limits::BODY_MAX). A slice of the
    /// received frame: copy it before keeping it for long.
    pub body: Bytes,
}

/// What became of messages that the far end of the link sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// What.
    pub kind: ReceiptKind,
    /// Of which messages; 1 to 256.
    pub messages: Vec<MessageId>,
    /// When.
    pub at: WallTime,
}

/// A sealed envelope on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// For a neighbour of the receiver, or for the receiver itself. The envelope names the same device.
    pub mail: Sealed,
    /// Repeated by the answer; at most 64 bytes.
    pub request_id: Bytes,
}

/// What became of a relayed envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayAck {
    /// Of the relayed envelope.
    pub request_id: Bytes,
    /// What.
    pub status: RelayStatus,
}

/// What became of a relayed envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RelayStatus {
    /// It is in the queue of the link to its recipient.
    Forwarded,
    /// There is no link to its recipient.
    NotConnected,
    /// Too much was relayed for this sender, or the recipient's queue is full.
    Quota,
    /// Larger than the link to its recipient takes.
    TooLarge,
    /// Not carried at all: expired, or against the relay's policy. Another relay may.
    Refused,
}

/// The last frame of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Goodbye {
    /// Why it ends.
    pub code: CloseCode,
    /// Neighbours to try instead; at most 3.
    pub records: Vec<VerifiedRecord>,
}
