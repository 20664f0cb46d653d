//! The protobuf wire format, read in place: which field stands where, without building messages.

use std::ops::Range;

use crate::error::at_most;
use crate::{WireError, limits};

/// The value of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: where the bytes stand.
    Bytes(Range<usize>),
    /// Wire types 1 and 5, which no message of ours uses.
    Fixed,
}

/// Walks over the fields that stand in `buf[at..end]`.
pub(crate) struct Fields<'a> {
    what: &'static str,
    buf: &'a [u8],
    at: usize,
    end: usize,
}

/// Where and why the walk ended early. Small and plain, because it is in the way of every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    what: &'static str,
    detail: &'static str,
    at: usize,
}

impl From<Broken> for WireError {
    #[cold]
    fn from(e: Broken) -> Self {
        Self::malformed(e.what, format!("{} at byte {}", e.detail, e.at))
    }
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(what: &'static str, buf: &'a [u8]) -> Self {
        Self { what, buf, at: 0, end: buf.len() }
    }

    pub(crate) const fn within(what: &'static str, buf: &'a [u8], range: Range<usize>) -> Self {
        Self { what, buf, at: range.start, end: range.end }
    }

    /// The next field: its number and value. `None` at the end.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value)>, Broken> {
        if self.at == self.end {
            return Ok(None);
        }
        let Ok(key) = u32::try_from(self.varint()?) else { return Err(self.broken("field number")) };
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => Value::Bytes(self.delimited()?),
            5 => self.skip(4)?,
            _ => return Err(self.broken("wire type")),
        };
        match key >> 3 {
            0 => Err(self.broken("field number")),
            number => Ok(Some((number, value))),
        }
    }

    /// A length and where so many bytes stand. `None` at the end.
    pub(crate) fn next_delimited(&mut self) -> Result<Option<Range<usize>>, Broken> {
        if self.at == self.end { Ok(None) } else { self.delimited().map(Some) }
    }

    #[inline(always)]
    fn delimited(&mut self) -> Result<Range<usize>, Broken> {
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.end - self.at => {
                let start = self.at;
                self.at += len;
                Ok(start..self.at)
            }
            _ => Err(self.broken("length")),
        }
    }

    fn skip(&mut self, len: usize) -> Result<Value, Broken> {
        if self.end - self.at < len {
            return Err(self.broken("length"));
        }
        self.at += len;
        Ok(Value::Fixed)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Broken> {
        match self.buf[self.at..self.end] {
            [byte @ 0..0x80, ..] => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for (i, &byte) in self.buf[self.at..self.end].iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.broken("number"))
    }

    #[cold]
    const fn broken(&self, detail: &'static str) -> Broken {
        Broken { what: self.what, detail, at: self.at }
    }
}

/// How often a field may be repeated.
pub(crate) struct Most(pub(crate) u32, pub(crate) &'static str, pub(crate) usize);

/// Refuses a message that repeats a field too often, before anything is allocated for it.
pub(crate) fn check_counts(what: &'static str, message: &[u8], limits: &[Most]) -> Result<(), WireError> {
    let mut counts = [0usize; 8];
    let mut fields = Fields::new(what, message);
    while let Some((number, _)) = fields.next()? {
        for (Most(limited, name, max), count) in limits.iter().zip(&mut counts) {
            if *limited == number {
                *count += 1;
                at_most(name, *max, *count)?;
            }
        }
    }
    Ok(())
}

/// Refuses more ids than allowed in all `Receipt`s that stand in field `number` of a message.
pub(crate) fn check_receipts(what: &'static str, message: &[u8], number: u32) -> Result<(), WireError> {
    let mut count = 0;
    let mut fields = Fields::new(what, message);
    while let Some(field) = fields.next()? {
        let (n, Value::Bytes(receipt)) = field else { continue };
        if n != number {
            continue;
        }
        // An empty receipt counts too: it also costs an allocation.
        count += 1;
        at_most("receipts", limits::RECEIPT_IDS, count)?;
        let mut receipt = Fields::within(what, message, receipt);
        let mut ids = 0;
        while let Some((n, _)) = receipt.next()? {
            ids += usize::from(n == 2);
        }
        count += ids.saturating_sub(1);
        at_most("messages of a receipt", limits::RECEIPT_IDS, count)?;
    }
    Ok(())
}

/// Decodes a message and names it in the error.
pub(crate) fn message<M: prost::Message + Default>(what: &'static str, bytes: impl bytes::Buf) -> Result<M, WireError> {
    M::decode(bytes).map_err(|e| WireError::malformed(what, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_they_stand() {
        let buf = [0x08, 0x96, 0x01, 0x12, 0x02, 0xaa, 0xbb, 0x1d, 1, 2, 3, 4];
        let mut fields = Fields::new("test", &buf);
        assert_eq!(fields.next(), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(fields.next(), Ok(Some((2, Value::Bytes(5..7)))));
        assert_eq!(fields.next(), Ok(Some((3, Value::Fixed))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn impossible_encodings_are_refused() {
        let too_long = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        for wrong in [&[0x00, 0x00][..], &[0x08], &[0x12, 0x03, 1, 2], &[0x0b], &[0x0c], &[0x0d, 1], &too_long] {
            let mut fields = Fields::new("test", wrong);
            assert!(fields.next().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_largest_number_is_read() {
        let buf = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Fields::new("test", &buf).next(), Ok(Some((1, Value::Varint(u64::MAX)))));
    }

    #[test]
    fn a_part_ends_at_its_end() {
        let buf = [0x12, 0x02, 0xaa, 0xbb];
        assert!(Fields::within("test", &buf, 0..3).next().is_err());
    }
}
