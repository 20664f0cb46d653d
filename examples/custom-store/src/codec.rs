//! Rows as bytes. A field that does not read back makes the whole record unreadable.

use byway_api::{
    Bytes, InboxRow, InboxState, MessageId, OutboxRow, OutboxState, PeerId, PinRow, RecordRow, RouteRow, Row, SeenRow,
    SignalAddress, UserId, WallTime,
};

/// Something that goes into the log and comes back.
pub(crate) trait Field: Sized {
    fn put(&self, to: &mut Vec<u8>);
    /// Reads from the front; `None` if that is not one.
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                from.split_off(..size_of::<Self>()).and_then(|b| b.try_into().ok()).map(Self::from_le_bytes)
            }
        }
    )*};
}
numbers!(u8, u32, u64, i64, f64);

impl Field for Bytes {
    fn put(&self, to: &mut Vec<u8>) {
        (self.len() as u64).put(to);
        to.extend_from_slice(self);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::take(from)?).ok()?;
        from.split_off(..length).map(Self::copy_from_slice)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        self.iter().for_each(|some| some.put(to));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        if bool::take(from)? { T::take(from).map(Some) } else { Some(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, to: &mut Vec<u8>) {
        (self.len() as u64).put(to);
        self.iter().for_each(|one| one.put(to));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        (0..u64::take(from)?).map(|_| T::take(from)).collect()
    }
}

/// Fields that are written as another one.
macro_rules! written_as {
    ($($type:ty: $form:ty = $to:expr, $back:expr;)*) => {$(
        impl Field for $type {
            fn put(&self, to: &mut Vec<u8>) {
                let form: fn(&Self) -> $form = $to;
                form(self).put(to);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let back: fn($form) -> Option<Self> = $back;
                back(<$form>::take(from)?)
            }
        }
    )*};
}
written_as! {
    bool: u8 = |b| u8::from(*b), |n| [false, true].get(usize::from(n)).copied();
    String: Bytes = |s| Bytes::copy_from_slice(s.as_bytes()), |b| Self::from_utf8(b.into()).ok();
    UserId: String = |user| user.as_str().to_owned(), |s| Self::new(&s).ok();
    SignalAddress: String = |address| address.as_str().to_owned(), |s| Self::new(&s).ok();
    PeerId: Bytes = |id| Bytes::copy_from_slice(id.as_bytes()), |b| b[..].try_into().ok().map(Self::from_bytes);
    MessageId: Bytes = |id| Bytes::copy_from_slice(id.as_bytes()), |b| b[..].try_into().ok().map(Self::from_bytes);
    WallTime: i64 = |time| time.as_millis(), |ms| Some(Self::from_millis(ms));
    OutboxState: u8 = |state| position(&OUTBOX, state), |n| OUTBOX.get(usize::from(n)).copied();
    InboxState: u8 = |state| position(&INBOX, state), |n| INBOX.get(usize::from(n)).copied();
}

const OUTBOX: [OutboxState; 4] = [OutboxState::Queued, OutboxState::Delivered, OutboxState::Read, OutboxState::Expired];
const INBOX: [InboxState; 2] = [InboxState::New, InboxState::Read];

fn position<T: PartialEq>(states: &[T], state: &T) -> u8 {
    let position = states.iter().position(|s| s == state).and_then(|n| u8::try_from(n).ok());
    position.unwrap_or_else(|| unreachable!("a state this version of the store does not know: update it"))
}

macro_rules! rows {
    ($($row:ident { $($field:ident),* })*) => {$(
        impl Field for $row {
            fn put(&self, to: &mut Vec<u8>) {
                $(self.$field.put(to);)*
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Field::take(from)?),* })
            }
        }
    )*};
}
rows! {
    RouteRow { user, peer, address, last_seen, success_rate, path }
    RecordRow { peer, user, seq, record, expires_at }
    OutboxRow {
        message, to_user, to_peer, epoch, seq, content, size, reply_to, queued_at, expires_at, retry_count, next_try,
        state
    }
    InboxRow {
        from_peer, epoch, seq, message, from_user, content, size, reply_to, sent_at, received_at, expires_at, late,
        state
    }
    SeenRow { from_peer, epoch, floor, above, used_at }
    PinRow { user, peer, since }
}

/// A kind that is not in the log is not written: live connections end with the process.
pub(crate) fn put_row(row: &Row, to: &mut Vec<u8>) -> bool {
    match row {
        Row::Route(row) => (0_u8.put(to), row.put(to)),
        Row::Record(row) => (1_u8.put(to), row.put(to)),
        Row::Outbox(row) => (2_u8.put(to), row.put(to)),
        Row::Inbox(row) => (3_u8.put(to), row.put(to)),
        Row::Seen(row) => (4_u8.put(to), row.put(to)),
        Row::Meta { key, value } => (5_u8.put(to), (key.put(to), value.put(to)).0),
        Row::Pin(row) => (6_u8.put(to), row.put(to)),
        Row::Blocked(user) => (7_u8.put(to), user.put(to)),
        _ => return false,
    };
    true
}

pub(crate) fn take_row(from: &mut &[u8]) -> Option<Row> {
    Some(match u8::take(from)? {
        0 => Row::Route(Field::take(from)?),
        1 => Row::Record(Field::take(from)?),
        2 => Row::Outbox(Field::take(from)?),
        3 => Row::Inbox(Field::take(from)?),
        4 => Row::Seen(Field::take(from)?),
        5 => Row::Meta { key: Field::take(from)?, value: Field::take(from)? },
        6 => Row::Pin(Field::take(from)?),
        7 => Row::Blocked(Field::take(from)?),
        _ => return None,
    })
}
