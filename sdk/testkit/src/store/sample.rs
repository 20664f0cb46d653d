//! Rows to write. Small numbers name people, devices and messages.

use bytes::Bytes;
use byway_api::{
    ConnectionRow, InboxRow, InboxState, MessageId, OutboxRow, OutboxState, PeerId, PinRow, RecordRow, RouteRow,
    SeenRow, SignalAddress, UserId, WallTime, Write,
};

pub(crate) fn user(n: u8) -> UserId {
    let name = format!("user-{n}");
    UserId::new(&name).unwrap_or_else(|e| unreachable!("{e}"))
}

pub(crate) fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

pub(crate) fn message(n: u16) -> MessageId {
    let mut id = [0x5a; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(id)
}

pub(crate) fn address(n: u8) -> SignalAddress {
    let text = format!("mem:{n}");
    SignalAddress::new(&text).unwrap_or_else(|e| unreachable!("{e}"))
}

pub(crate) fn at(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

/// A queued message for one device, or for nobody's yet.
pub(crate) fn outbox(n: u16, to: Option<u8>) -> OutboxRow {
    let content = Bytes::from(format!("message {n}"));
    OutboxRow {
        message: message(n),
        to_user: user(1),
        to_peer: to.map(peer),
        epoch: if to.is_some() { 7 } else { 0 },
        seq: if to.is_some() { u64::from(n) + 1 } else { 0 },
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        content: Some(content),
        reply_to: None,
        queued_at: at(1000 + i64::from(n)),
        expires_at: at(1_000_000),
        retry_count: 0,
        next_try: at(2000),
        state: OutboxState::Queued,
    }
}

pub(crate) fn append(n: u16, to: Option<u8>) -> Write {
    Write::Append(outbox(n, to))
}

pub(crate) fn inbox(from: u8, epoch: u64, seq: u64) -> InboxRow {
    let content = Bytes::from(format!("{from}/{epoch}/{seq}"));
    InboxRow {
        from_peer: peer(from),
        epoch,
        seq,
        message: message(u16::from_be_bytes([from, seq.to_le_bytes()[0]])),
        from_user: user(from),
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        content: Some(content),
        reply_to: Some(message(0)),
        sent_at: at(500),
        received_at: at(1000),
        expires_at: at(1_000_000),
        late: seq % 2 == 1,
        state: InboxState::New,
    }
}

pub(crate) fn seen(from: u8, epoch: u64, floor: u64, above: &[u64]) -> SeenRow {
    SeenRow { from_peer: peer(from), epoch, floor, above: above.to_vec(), used_at: at(1000) }
}

/// A message that moves the floor behind it.
pub(crate) fn receive(from: u8, epoch: u64, seq: u64) -> Write {
    Write::Receive { row: inbox(from, epoch, seq), seen: seen(from, epoch, seq + 1, &[]) }
}

pub(crate) fn route(of: u8, device: u8, at_address: u8, success_rate: f64, last_seen: i64) -> RouteRow {
    RouteRow {
        user: user(of),
        peer: peer(device),
        address: address(at_address),
        last_seen: at(last_seen),
        success_rate,
        path: format!("direct {at_address}"),
    }
}

pub(crate) fn record(of: u8, device: u8, seq: u64) -> RecordRow {
    let record = Bytes::from(format!("record {device} {seq}"));
    RecordRow { peer: peer(device), user: user(of), seq, record, expires_at: at(9000) }
}

pub(crate) fn meta(key: &str, value: &str) -> Write {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Write::Meta { key: key.to_owned(), value, durability: byway_api::Durability::Relaxed }
}

pub(crate) fn pin(of: u8, device: u8) -> PinRow {
    PinRow { user: user(of), peer: peer(device), since: at(77) }
}

pub(crate) fn connection(device: u8) -> ConnectionRow {
    ConnectionRow {
        peer: peer(device),
        connection_state: "connected".to_owned(),
        data_channel_state: "open".to_owned(),
        connected_at: at(1000),
    }
}
