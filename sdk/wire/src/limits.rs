//! Everything a peer could overdo, and how much of it is taken.
//!
//! Sizes are bytes. The codec enforces what is visible in one frame; the rest is enforced by whoever
//! keeps the counts. Crossing a limit is a clear error, never a panic and never silent loss.

use std::time::Duration;

use byway_api::WallTime;

// ---- sizes

/// One transport frame after Hello: a batch of `Frame`s. There is no chunking.
pub const FRAME_MAX: usize = 64 * 1024;
/// Everything one side may send before Hello has succeeded.
pub const HELLO_MAX: usize = 8 * 1024;
/// `Frame`s in one transport frame.
pub const FRAMES_PER_BATCH: usize = 2048;
/// An encoded `Content` without its `sender_record`.
pub const CONTENT_MAX: usize = 56 * 1024;
/// What an app may send in one message. With the longest ids and a record of [`RECORD_MAX`] it still
/// fits into [`ENVELOPE_MAX`].
pub const BODY_MAX: usize = CONTENT_MAX - 1024;
/// A `SealedEnvelope`.
pub const ENVELOPE_MAX: usize = 60 * 1024;
/// A signed `PeerRecord`.
pub const RECORD_MAX: usize = 4 * 1024;
/// A credential.
pub const CREDENTIAL_MAX: usize = 2 * 1024;
/// A proof for a server.
pub const PROOF_MAX: usize = 2 * 1024;
/// One frame of the signalling socket.
pub const SOCKET_FRAME_MAX: usize = 64 * 1024;
/// The body of a signal.
pub const SIGNAL_MAX: usize = 16 * 1024;
/// The session of a signal; at least 1.
pub const SIGNAL_SESSION_MAX: usize = 16;
/// A name of a transport, a nonce of a server, a target of a proof; at least 1.
pub const NAME_MAX: usize = 256;
/// A request id.
pub const REQUEST_ID_MAX: usize = 64;
/// A text for people in a refusal; longer ones are cut.
pub const TEXT_MAX: usize = 256;

// ---- counts

/// Addresses in a record.
pub const RECORD_ADDRESSES: usize = 8;
/// Capabilities in a record or a Hello.
pub const CAPABILITIES: usize = 32;
/// One capability: 1 to this many printable ASCII characters.
pub const CAPABILITY_MAX: usize = 64;
/// Seal keys in a record.
pub const RECORD_SEAL_KEYS: usize = 4;
/// Coordinators in a record.
pub const RECORD_COORDINATORS: usize = 8;
/// Message ids in the receipts of one frame.
pub const RECEIPT_IDS: usize = 256;
/// Presences in a `NetworkState`; also its bound on each list of hints.
pub const STATE_PRESENCES: usize = 512;
/// Records in a `NetworkState`.
pub const STATE_RECORDS: usize = 64;
/// Records in a `PeerFound`.
pub const FOUND_RECORDS: usize = 8;
/// All records of a `PeerFound` together.
pub const FOUND_BYTES: usize = 32 * 1024;
/// Records in a `Goodbye`.
pub const GOODBYE_RECORDS: usize = 3;

// ---- times

/// Wire times before this long ago are taken as this long ago.
pub const PAST_MAX: Duration = days(30);
/// Wire times later than this from now are taken as this from now; also the longest life of mail.
pub const FUTURE_MAX: Duration = days(14);
/// The longest life of a record.
pub const RECORD_LIFE: Duration = days(14);
/// The longest life of a credential.
pub const CREDENTIAL_LIFE: Duration = days(30);
/// How far two clocks may differ where credentials and proofs are judged.
pub const CREDENTIAL_SKEW: Duration = Duration::from_secs(300);
/// How far a neighbour's clock may differ from ours.
pub const CLOCK_SKEW: Duration = days(1);
/// A proof is good for this long before and after its time.
pub const PROOF_AGE: Duration = Duration::from_secs(300);
/// A device is believed to be online this long after the time of its beacon.
pub const BEACON_LIFE: Duration = Duration::from_secs(600);
/// From an open channel to a link.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a signal is worth anything.
pub const SIGNAL_LIFE: Duration = Duration::from_secs(60);
/// How long ids of signals and receipts are remembered.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(120);

// ---- links

/// Channels without a finished Hello, in all.
pub const HALF_OPEN: usize = 64;
/// Channels without a finished Hello from one IP address; loopback is exempt.
pub const HALF_OPEN_PER_IP: usize = 8;
/// Unanswered offers of one peer.
pub const OFFERS_PER_PEER: usize = 4;
/// Unanswered offers in all.
pub const OFFERS: usize = 16;
/// Wait between two offers of one peer.
pub const OFFER_INTERVAL: Duration = Duration::from_secs(1);
/// Protocol errors inside [`PROTOCOL_ERROR_WINDOW`] that close a link and ban its key.
pub const PROTOCOL_ERRORS: u32 = 10;
/// See [`PROTOCOL_ERRORS`].
pub const PROTOCOL_ERROR_WINDOW: Duration = Duration::from_secs(60);
/// How long a key is banned.
pub const BAN: Duration = Duration::from_secs(600);

// ---- queries and presence

/// Further hops of a query; more are cut to this.
pub const QUERY_HOPS: u32 = 1;
/// Neighbours a query is passed on to.
pub const QUERY_FANOUT: usize = 3;
/// Request ids remembered, each for [`QUERY_MEMORY`].
pub const QUERY_IDS: usize = 4096;
/// See [`QUERY_IDS`]; also the longest deadline of a query.
pub const QUERY_MEMORY: Duration = Duration::from_secs(60);
/// Queries per second and link.
pub const QUERY_RATE: u32 = 5;
/// Queries at once per link.
pub const QUERY_BURST: u32 = 20;
/// Frames that one lookup may cause.
pub const LOOKUP_FRAMES: usize = 60;
/// `NetworkState`s at once per link.
pub const STATE_BURST: u32 = 20;
/// Refill of one `NetworkState` per link.
pub const STATE_REFILL: Duration = Duration::from_secs(15);
/// Members in the roster.
pub const ROSTER_MEMBERS: usize = 10_000;
/// Devices of one member.
pub const MEMBER_DEVICES: usize = 8;
/// New members per link and hour.
pub const NEW_MEMBERS_PER_HOUR: usize = 2_000;

// ---- messages

/// Dedup marks of one device in all.
pub const SEEN_MARKS: usize = 100_000;
/// Dedup marks of one sender; then the sender is refused, none is evicted.
pub const SEEN_MARKS_PER_SENDER: usize = 10_000;
/// How long a dedup mark outlives its message.
pub const SEEN_AFTER_EXPIRY: Duration = days(1);
/// Messages of one sender that wait for a gap.
pub const REORDER_MESSAGES: usize = 256;
/// Bytes of one sender that wait for a gap.
pub const REORDER_BYTES: usize = 4 * 1024 * 1024;
/// Mail held for one device.
pub const MAILBOX_BYTES: usize = 4 * 1024 * 1024;
/// Envelopes held for one device.
pub const MAILBOX_ENVELOPES: usize = 1_000;
/// Mail of one sender held for one device.
pub const MAILBOX_SENDER_BYTES: usize = 1024 * 1024;
/// Envelopes of one sender held for one device.
pub const MAILBOX_SENDER_ENVELOPES: usize = 200;
/// Mail of one sender held for all devices.
pub const MAILBOX_SENDER_TOTAL: usize = 8 * 1024 * 1024;
/// Mail held in all.
pub const MAILBOX_TOTAL: usize = 64 * 1024 * 1024;
/// Relayed bytes per second and sender.
pub const RELAY_RATE: usize = 256 * 1024;
/// Relayed bytes per day and sender.
pub const RELAY_DAY: usize = 64 * 1024 * 1024;
/// Relayed bytes of one sender that wait to be written.
pub const RELAY_IN_FLIGHT: usize = 1024 * 1024;
/// Envelopes for us that one neighbour hands over, bytes per second: those of all senders for whom it
/// relays.
pub const CARRIED_RATE: usize = 1024 * 1024;

// ---- servers

/// Calls per minute and device.
pub const REGISTRY_CALLS_PER_MINUTE: u32 = 10;
/// Calls at once per device.
pub const REGISTRY_BURST: u32 = 20;
/// Failed authentications per minute and IP address.
pub const REGISTRY_FAILED_AUTHS: u32 = 60;
/// Socket frames per second.
pub const SOCKET_RATE: u32 = 20;
/// Sockets of a member's listener.
pub const LISTENER_SOCKETS: usize = 32;

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 24 * 60 * 60)
}

/// A time from the wire, brought into [now - [`PAST_MAX`], now + [`FUTURE_MAX`]]. Do this before any
/// arithmetic with it.
#[must_use]
pub fn clamp_time(at: WallTime, now: WallTime) -> WallTime {
    at.clamp(now.minus(PAST_MAX), now.plus(FUTURE_MAX))
}

/// A text for people from somebody else: cut to [`TEXT_MAX`] bytes, control characters made blank.
pub(crate) fn cut_text(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}
