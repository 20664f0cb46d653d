//! Rows as bytes: each field in its turn, numbers big-endian, lengths in front.

use byway_api::{
    Bytes, InboxRow, InboxState, MessageId, OutboxRow, OutboxState, PeerId, PinRow, RecordRow, RouteRow, Row, SeenRow,
    SignalAddress, UserId, WallTime,
};

/// Written as it is read. `get` takes from the front, and `None` if that is not what was written.
pub(crate) trait Field: Sized {
    fn put(&self, to: &mut Vec<u8>);
    fn get(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! fixed {
    ($($type:ty: $to:expr, $from:expr;)+) => { $(impl Field for $type {
        fn put(&self, to: &mut Vec<u8>) {
            let bytes = $to;
            to.extend_from_slice(&bytes(self));
        }
        fn get(from: &mut &[u8]) -> Option<Self> {
            let (bytes, rest) = from.split_first_chunk()?;
            *from = rest;
            let read = $from;
            Some(read(*bytes))
        }
    })+ };
}
fixed! {
    u8: |n: &Self| [*n], |[n]: [u8; 1]| n;
    u32: |n: &Self| n.to_be_bytes(), Self::from_be_bytes;
    u64: |n: &Self| n.to_be_bytes(), Self::from_be_bytes;
    f64: |n: &Self| n.to_be_bytes(), Self::from_be_bytes;
    bool: |b: &Self| [u8::from(*b)], |[b]: [u8; 1]| b != 0;
    WallTime: |t: &Self| t.as_millis().to_be_bytes(), |b| Self::from_millis(i64::from_be_bytes(b));
    PeerId: |id: &Self| *id.as_bytes(), Self::from_bytes;
    MessageId: |id: &Self| *id.as_bytes(), Self::from_bytes;
}

impl Field for Bytes {
    fn put(&self, to: &mut Vec<u8>) {
        (self.len() as u64).put(to);
        to.extend_from_slice(self);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::get(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(Self::copy_from_slice(bytes))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        if bool::get(from)? { T::get(from).map(Some) } else { Some(None) }
    }
}

impl Field for Vec<u64> {
    fn put(&self, to: &mut Vec<u8>) {
        (self.len() as u64).put(to);
        self.iter().for_each(|n| n.put(to));
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        (0..u64::get(from)?).map(|_| u64::get(from)).collect()
    }
}

macro_rules! text {
    ($($type:ty: $as:ident;)+) => { $(impl Field for $type {
        fn put(&self, to: &mut Vec<u8>) {
            Bytes::copy_from_slice(self.$as().as_bytes()).put(to);
        }
        fn get(from: &mut &[u8]) -> Option<Self> {
            std::str::from_utf8(&Bytes::get(from)?).ok()?.parse().ok()
        }
    })+ };
}
text! { String: as_str; UserId: as_str; SignalAddress: as_str; }

macro_rules! states {
    ($($type:ident: $($state:ident)+;)+) => { $(impl Field for $type {
        fn put(&self, to: &mut Vec<u8>) {
            // one that this version does not know begins anew: it costs a repetition, and no message
            [$(Self::$state),+].iter().position(|state| state == self).map_or(0, |at| at as u8).put(to);
        }
        fn get(from: &mut &[u8]) -> Option<Self> {
            [$(Self::$state),+].get(usize::from(u8::get(from)?)).copied()
        }
    })+ };
}
states! { OutboxState: Queued Delivered Read Expired; InboxState: New Read; }

macro_rules! rows {
    ($($type:ident: $($field:ident)+;)+) => { $(impl Field for $type {
        fn put(&self, to: &mut Vec<u8>) {
            $(self.$field.put(to);)+
        }
        fn get(from: &mut &[u8]) -> Option<Self> {
            Some(Self { $($field: Field::get(from)?),+ })
        }
    })+ };
}
rows! {
    RouteRow: user peer address last_seen success_rate path;
    RecordRow: peer user seq record expires_at;
    OutboxRow: message to_user to_peer epoch seq content size reply_to queued_at expires_at retry_count next_try state;
    InboxRow: from_peer epoch seq message from_user content size reply_to sent_at received_at expires_at late state;
    SeenRow: from_peer epoch floor above used_at;
    PinRow: user peer since;
}

/// What is kept of a row; nothing of a live connection.
pub(crate) fn put_row(row: &Row, to: &mut Vec<u8>) {
    fn tagged(tag: u8, row: &impl Field, to: &mut Vec<u8>) {
        tag.put(to);
        row.put(to);
    }
    match row {
        Row::Route(row) => tagged(1, row, to),
        Row::Record(row) => tagged(2, row, to),
        Row::Outbox(row) => tagged(3, row, to),
        Row::Inbox(row) => tagged(4, row, to),
        Row::Seen(row) => tagged(5, row, to),
        Row::Meta { key, value } => {
            tagged(6, key, to);
            value.put(to);
        }
        Row::Pin(row) => tagged(7, row, to),
        Row::Blocked(user) => tagged(8, user, to),
        _ => {}
    }
}

pub(crate) fn get_row(from: &mut &[u8]) -> Option<Row> {
    Some(match u8::get(from)? {
        1 => Row::Route(Field::get(from)?),
        2 => Row::Record(Field::get(from)?),
        3 => Row::Outbox(Field::get(from)?),
        4 => Row::Inbox(Field::get(from)?),
        5 => Row::Seen(Field::get(from)?),
        6 => Row::Meta { key: Field::get(from)?, value: Field::get(from)? },
        7 => Row::Pin(Field::get(from)?),
        8 => Row::Blocked(Field::get(from)?),
        _ => return None,
    })
}
