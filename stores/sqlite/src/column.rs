//! Values of the API as columns, and back.

use bytes::Bytes;
use byway_api::{InboxState, MessageId, OutboxState, PeerId, SignalAddress, UserId, WallTime};
use rusqlite::types::Type;
use rusqlite::{Error, Row};

/// 64 bits as SQLite's signed integer with the same bits.
pub(crate) const fn number(n: u64) -> i64 {
    n.cast_signed()
}

/// Digits of a fixed length: they sort as the bytes do.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// An epoch is a random number of 64 bits; as digits it sorts as the number does.
pub(crate) fn epoch(epoch: u64) -> String {
    hex(&epoch.to_be_bytes())
}

pub(crate) fn message(id: &MessageId) -> String {
    hex(id.as_bytes())
}

/// `to_peer` is part of a key, where SQLite would hold any two NULLs to be different.
pub(crate) fn device(peer: Option<&PeerId>) -> String {
    peer.map(ToString::to_string).unwrap_or_default()
}

/// A rate is 0 to 1; anything else, even NaN (which SQLite stores as NULL), becomes the nearest.
pub(crate) fn rate(rate: f64) -> f64 {
    if rate.is_nan() { 0.0 } else { rate.clamp(0.0, 1.0) }
}

pub(crate) const fn outbox_state(state: OutboxState) -> &'static str {
    match state {
        OutboxState::Queued => "queued",
        OutboxState::Delivered => "delivered",
        OutboxState::Read => "read",
        OutboxState::Expired => "expired",
        _ => panic!("a state this version of the store does not know: update byway-store-sqlite"),
    }
}

pub(crate) const fn inbox_state(state: InboxState) -> &'static str {
    match state {
        InboxState::New => "new",
        InboxState::Read => "read",
        _ => panic!("a state this version of the store does not know: update byway-store-sqlite"),
    }
}

/// Ascending numbers as the differences between them, seven bits a byte (LEB128): a run of neighbours
/// costs a byte each.
pub(crate) fn marks(above: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(above.len() + 8);
    let mut last = 0u64;
    for &n in above {
        let mut left = n.wrapping_sub(last);
        last = n;
        while left >= 0x80 {
            bytes.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        bytes.push(left.to_le_bytes()[0]);
    }
    bytes
}

/// What [`marks`] wrote; `None` if it did not.
pub(crate) fn read_marks(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut above = Vec::with_capacity(bytes.len());
    let (mut last, mut n, mut shift) = (0u64, 0u64, 0);
    for &byte in bytes {
        if shift >= u64::BITS {
            return None;
        }
        n |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            last = last.wrapping_add(n);
            above.push(last);
            (n, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(above)
}

/// Reads the columns of a row from left to right.
pub(crate) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

type Read<T> = rusqlite::Result<T>;

impl<'r, 's> Columns<'r, 's> {
    pub(crate) fn new(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn parse<T, E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Read<T> {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str()?;
        parse(text).map_err(|e| Error::FromSqlConversionFailure(at, Type::Text, Box::new(e)))
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        let at = self.step();
        self.row.get(at)
    }

    pub(crate) fn user(&mut self) -> Read<UserId> {
        self.parse(UserId::new)
    }

    pub(crate) fn peer(&mut self) -> Read<PeerId> {
        self.parse(str::parse)
    }

    pub(crate) fn device(&mut self) -> Read<Option<PeerId>> {
        self.parse(|text| if text.is_empty() { Ok(None) } else { text.parse().map(Some) })
    }

    pub(crate) fn address(&mut self) -> Read<SignalAddress> {
        self.parse(SignalAddress::new)
    }

    pub(crate) fn message(&mut self) -> Read<MessageId> {
        self.parse(str::parse)
    }

    pub(crate) fn reply_to(&mut self) -> Read<Option<MessageId>> {
        if self.row.get_ref(self.next)?.as_str_or_null()?.is_none() {
            self.step();
            return Ok(None);
        }
        self.message().map(Some)
    }

    pub(crate) fn epoch(&mut self) -> Read<u64> {
        self.parse(|text| u64::from_str_radix(text, 16))
    }

    pub(crate) fn outbox_state(&mut self) -> Read<OutboxState> {
        self.parse(|text| match text {
            "queued" => Ok(OutboxState::Queued),
            "delivered" => Ok(OutboxState::Delivered),
            "read" => Ok(OutboxState::Read),
            "expired" => Ok(OutboxState::Expired),
            _ => Err(UnknownState),
        })
    }

    pub(crate) fn inbox_state(&mut self) -> Read<InboxState> {
        self.parse(|text| match text {
            "new" => Ok(InboxState::New),
            "read" => Ok(InboxState::Read),
            _ => Err(UnknownState),
        })
    }

    pub(crate) fn number(&mut self) -> Read<u64> {
        let at = self.step();
        self.row.get(at).map(i64::cast_unsigned)
    }

    pub(crate) fn small(&mut self) -> Read<u32> {
        let at = self.step();
        self.row.get(at)
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        let at = self.step();
        self.row.get(at)
    }

    pub(crate) fn rate(&mut self) -> Read<f64> {
        let at = self.step();
        self.row.get(at)
    }

    pub(crate) fn time(&mut self) -> Read<WallTime> {
        let at = self.step();
        self.row.get(at).map(WallTime::from_millis)
    }

    pub(crate) fn bytes(&mut self) -> Read<Bytes> {
        let at = self.step();
        Ok(Bytes::copy_from_slice(self.row.get_ref(at)?.as_blob()?))
    }

    pub(crate) fn content(&mut self) -> Read<Option<Bytes>> {
        let at = self.step();
        Ok(self.row.get_ref(at)?.as_blob_or_null()?.map(Bytes::copy_from_slice))
    }

    pub(crate) fn marks(&mut self) -> Read<Vec<u64>> {
        let at = self.step();
        let bytes = self.row.get_ref(at)?.as_blob()?;
        read_marks(bytes).ok_or_else(|| Error::FromSqlConversionFailure(at, Type::Blob, Box::new(UnknownState)))
    }
}

/// A column holds nothing that this version writes.
#[derive(Debug, thiserror::Error)]
#[error("a value that this version does not know")]
struct UnknownState;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        for above in [vec![], vec![0], vec![1, 2, 3, 200, 201], vec![5, u64::MAX], vec![9, 3, 3], vec![1 << 63]] {
            assert_eq!(read_marks(&marks(&above)), Some(above));
        }
        assert_eq!(marks(&(100..200).collect::<Vec<_>>()).len(), 100);
    }

    #[test]
    fn damaged_marks_are_refused() {
        assert_eq!(read_marks(&[0x80]), None, "cut off");
        assert_eq!(read_marks(&[0xff; 12]), None, "longer than any number");
    }

    #[test]
    fn epochs_sort_as_numbers() {
        let epochs = [0, 1, 255, 256, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX];
        assert!(epochs.map(epoch).is_sorted());
        assert!(epochs.iter().all(|&e| u64::from_str_radix(&epoch(e), 16) == Ok(e)));
    }
}
