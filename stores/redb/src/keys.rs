//! The keys of the one table, by kind. Every load is a range of one kind, in its own order.
//!
//! | kind | key | value |
//! |---|---|---|
//! | `ROUTE` | device, user, address | rate, last seen: finds the two below |
//! | `BEST_ROUTE` | user, rate, last seen, device, address | path |
//! | `ANY_ROUTE` | rate, last seen, user, device, address | |
//! | `RECORD` | device | number, end, user, record |
//! | `RECORD_OF` | user, device | |
//! | `OUTBOX` | message, device | header |
//! | `OUTBOX_ORDER` | queued at, message, device | |
//! | `OUTBOX_CONTENT` | message, device | content |
//! | `INBOX` | device, epoch, number | header |
//! | `INBOX_ORDER` | received at, device, epoch, number | |
//! | `INBOX_CONTENT` | device, epoch, number | content |
//! | `SEEN` | device, epoch | mark |
//! | `META` | name | value |
//! | `PIN` | user, device | since |
//! | `BLOCKED` | user | |
//! | `CONNECTION` | device | states, since |

use byway_api::{MessageId, PeerId, SignalAddress, UserId, WallTime};

use crate::codec::Encoder;

pub(crate) const ROUTE: u8 = 1;
pub(crate) const BEST_ROUTE: u8 = 2;
pub(crate) const ANY_ROUTE: u8 = 3;
pub(crate) const RECORD: u8 = 4;
pub(crate) const RECORD_OF: u8 = 5;
pub(crate) const OUTBOX: u8 = 6;
pub(crate) const OUTBOX_ORDER: u8 = 7;
pub(crate) const OUTBOX_CONTENT: u8 = 8;
pub(crate) const INBOX: u8 = 9;
pub(crate) const INBOX_ORDER: u8 = 10;
pub(crate) const INBOX_CONTENT: u8 = 11;
pub(crate) const SEEN: u8 = 12;
pub(crate) const META: u8 = 13;
pub(crate) const PIN: u8 = 14;
pub(crate) const BLOCKED: u8 = 15;
pub(crate) const CONNECTION: u8 = 16;

pub(crate) type Bytes = Vec<u8>;

/// All keys of a kind begin so.
pub(crate) fn all(kind: u8) -> Bytes {
    vec![kind]
}

/// Keys of a kind that begin with a user.
pub(crate) fn of_user(kind: u8, user: &UserId) -> Bytes {
    Encoder::key(kind).user(user).done()
}

/// Keys of a kind that are, or begin with, a device.
pub(crate) fn of_peer(kind: u8, peer: &PeerId) -> Bytes {
    Encoder::key(kind).peer(peer).done()
}

pub(crate) fn route(peer: &PeerId, user: &UserId, address: &SignalAddress) -> Bytes {
    Encoder::key(ROUTE).peer(peer).user(user).bytes(address.as_str().as_bytes()).done()
}

/// What a route is ranked by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rank {
    pub(crate) success_rate: f64,
    pub(crate) last_seen: WallTime,
}

pub(crate) fn best_route(user: &UserId, rank: Rank, peer: &PeerId, address: &SignalAddress) -> Bytes {
    let key = Encoder::key(BEST_ROUTE).user(user).rank(rank.success_rate).recency(rank.last_seen);
    key.peer(peer).bytes(address.as_str().as_bytes()).done()
}

pub(crate) fn any_route(user: &UserId, rank: Rank, peer: &PeerId, address: &SignalAddress) -> Bytes {
    let key = Encoder::key(ANY_ROUTE).rank(rank.success_rate).recency(rank.last_seen);
    key.user(user).peer(peer).bytes(address.as_str().as_bytes()).done()
}

/// A pin, or the device of a record by its user.
pub(crate) fn user_peer(kind: u8, user: &UserId, peer: &PeerId) -> Bytes {
    Encoder::key(kind).user(user).peer(peer).done()
}

/// Header or content of an outgoing message.
pub(crate) fn outbox(kind: u8, message: &MessageId, to_peer: Option<&PeerId>) -> Bytes {
    Encoder::key(kind).message(message).device(to_peer).done()
}

pub(crate) fn outbox_order(queued_at: WallTime, message: &MessageId, to_peer: Option<&PeerId>) -> Bytes {
    Encoder::key(OUTBOX_ORDER).time(queued_at).message(message).device(to_peer).done()
}

/// Header or content of an incoming message.
pub(crate) fn inbox(kind: u8, peer: &PeerId, epoch: u64, seq: u64) -> Bytes {
    Encoder::key(kind).peer(peer).number(epoch).number(seq).done()
}

pub(crate) fn inbox_order(received_at: WallTime, peer: &PeerId, epoch: u64, seq: u64) -> Bytes {
    Encoder::key(INBOX_ORDER).time(received_at).peer(peer).number(epoch).number(seq).done()
}

pub(crate) fn seen(peer: &PeerId, epoch: u64) -> Bytes {
    Encoder::key(SEEN).peer(peer).number(epoch).done()
}

pub(crate) fn meta(name: &str) -> Bytes {
    Encoder::key(META).bytes(name.as_bytes()).done()
}

pub(crate) fn blocked(user: &UserId) -> Bytes {
    Encoder::key(BLOCKED).bytes(user.as_str().as_bytes()).done()
}

/// The key of another kind with the same fields.
pub(crate) fn with_kind(kind: u8, key: &[u8]) -> Bytes {
    let mut key = key.to_vec();
    if let Some(first) = key.first_mut() {
        *first = kind;
    }
    key
}
