//! The bytes of keys and of values.
//!
//! A key is its kind and its fields in an order in which bytes sort as the rows do: numbers and times
//! big-endian, texts ended by a zero byte, which no name has. A value is a version, its fields, and a
//! CRC-32 of both, so that a value that was damaged, cut off or moved is an error and not a row.

use bytes::Bytes;
use byway_api::{MessageId, PeerId, SignalAddress, UserId, WallTime};

/// The version of values that this program writes and the only one it reads.
const VERSION: u8 = 1;
const CHECKSUM: usize = 4;

/// A key or value that this store did not write, or that was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("a value is cut off or its checksum is wrong")]
    Checksum,
    #[error("a value has version {0}, which this program does not know")]
    Version(u8),
    #[error("a row has a field that this program does not know")]
    Field,
    #[error("a row lacks a part")]
    Missing,
}

/// Appends fields.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// The beginning of a key.
    pub(crate) fn key(kind: u8) -> Self {
        let mut key = Vec::with_capacity(96);
        key.push(kind);
        Self(key)
    }

    /// The beginning of a value that will have about `len` bytes.
    pub(crate) fn value(len: usize) -> Self {
        let mut value = Vec::with_capacity(1 + len + CHECKSUM);
        value.push(VERSION);
        Self(value)
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn small(self, n: u32) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub(crate) fn number(self, n: u64) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub(crate) fn time(self, t: WallTime) -> Self {
        self.number(sortable(t))
    }

    /// Newest first.
    pub(crate) fn recency(self, t: WallTime) -> Self {
        self.number(!sortable(t))
    }

    /// A rate of [`rate`], best first.
    pub(crate) fn rank(self, rate: f64) -> Self {
        self.number(!rate.to_bits())
    }

    pub(crate) fn peer(self, peer: &PeerId) -> Self {
        self.bytes(peer.as_bytes())
    }

    pub(crate) fn message(self, message: &MessageId) -> Self {
        self.bytes(message.as_bytes())
    }

    /// The device a message is for. None at all sorts before any.
    pub(crate) fn device(self, peer: Option<&PeerId>) -> Self {
        match peer {
            Some(peer) => self.peer(peer),
            None => self,
        }
    }

    pub(crate) fn user(self, user: &UserId) -> Self {
        self.bytes(user.as_str().as_bytes()).byte(0)
    }

    /// A text with its length before it.
    pub(crate) fn text(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.small(len).bytes(text.as_bytes())
    }

    pub(crate) fn reply_to(self, message: Option<&MessageId>) -> Self {
        match message {
            None => self.byte(0),
            Some(message) => self.byte(1).message(message),
        }
    }

    /// Ascending numbers as the differences between them, seven bits a byte (LEB128): a run of
    /// neighbours costs a byte each.
    pub(crate) fn marks(mut self, above: &[u64]) -> Self {
        let mut last = 0u64;
        for &n in above {
            let mut left = n.wrapping_sub(last);
            last = n;
            while left >= 0x80 {
                self.0.push(left.to_le_bytes()[0] | 0x80);
                left >>= 7;
            }
            self.0.push(left.to_le_bytes()[0]);
        }
        self
    }

    /// The key.
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }

    /// The value, with its checksum.
    pub(crate) fn seal(self) -> Vec<u8> {
        let checksum = crc32(&self.0);
        self.bytes(&checksum.to_be_bytes()).0
    }
}

/// A rate is 0 to 1; anything else, even NaN, becomes the nearest.
pub(crate) fn rate(rate: f64) -> f64 {
    // Negative zero has another sign bit and would sort elsewhere.
    if rate > 0.0 { rate.min(1.0) } else { 0.0 }
}

fn sortable(t: WallTime) -> u64 {
    t.as_millis().cast_unsigned() ^ (1 << 63)
}

type Read<T> = Result<T, Damaged>;

/// Reads fields from left to right.
pub(crate) struct Decoder<'b>(&'b [u8]);

impl<'b> Decoder<'b> {
    /// The fields of a key behind its kind.
    pub(crate) fn key(key: &'b [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    /// The fields of a value.
    pub(crate) fn value(value: &'b [u8]) -> Read<Self> {
        let (rest, checksum) = value.split_last_chunk::<CHECKSUM>().ok_or(Damaged::Checksum)?;
        if crc32(rest) != u32::from_be_bytes(*checksum) {
            return Err(Damaged::Checksum);
        }
        match rest.split_first() {
            Some((&VERSION, fields)) => Ok(Self(fields)),
            Some((&version, _)) => Err(Damaged::Version(version)),
            None => Err(Damaged::Checksum),
        }
    }

    fn take<const N: usize>(&mut self) -> Read<&'b [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged::Field)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Read<u8> {
        self.take::<1>().map(|byte| byte[0])
    }

    pub(crate) fn small(&mut self) -> Read<u32> {
        self.take().copied().map(u32::from_be_bytes)
    }

    pub(crate) fn number(&mut self) -> Read<u64> {
        self.take().copied().map(u64::from_be_bytes)
    }

    pub(crate) fn time(&mut self) -> Read<WallTime> {
        self.number().map(from_sortable)
    }

    pub(crate) fn recency(&mut self) -> Read<WallTime> {
        self.number().map(|n| from_sortable(!n))
    }

    pub(crate) fn rank(&mut self) -> Read<f64> {
        self.number().map(|n| f64::from_bits(!n))
    }

    pub(crate) fn peer(&mut self) -> Read<PeerId> {
        self.take().copied().map(PeerId::from_bytes)
    }

    pub(crate) fn message(&mut self) -> Read<MessageId> {
        self.take().copied().map(MessageId::from_bytes)
    }

    /// The device at the end of a key.
    pub(crate) fn device(&mut self) -> Read<Option<PeerId>> {
        if self.0.is_empty() { Ok(None) } else { self.peer().map(Some) }
    }

    pub(crate) fn user(&mut self) -> Read<UserId> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Damaged::Field)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        let name = str::from_utf8(name).map_err(|_| Damaged::Field)?;
        UserId::new(name).map_err(|_| Damaged::Field)
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        let len = usize::try_from(self.small()?).map_err(|_| Damaged::Field)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Damaged::Field)?;
        self.0 = rest;
        str::from_utf8(text).map(str::to_owned).map_err(|_| Damaged::Field)
    }

    pub(crate) fn reply_to(&mut self) -> Read<Option<MessageId>> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.message().map(Some),
            _ => Err(Damaged::Field),
        }
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged::Field),
        }
    }

    /// The rest, as [`Encoder::marks`] wrote it.
    pub(crate) fn marks(&mut self) -> Read<Vec<u64>> {
        let bytes = std::mem::take(&mut self.0);
        let mut above = Vec::with_capacity(bytes.len());
        let (mut last, mut n, mut shift) = (0u64, 0u64, 0);
        for &byte in bytes {
            if shift >= u64::BITS {
                return Err(Damaged::Field);
            }
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                last = last.wrapping_add(n);
                above.push(last);
                (n, shift) = (0, 0);
            }
        }
        if shift == 0 { Ok(above) } else { Err(Damaged::Field) }
    }

    /// The rest as an address.
    pub(crate) fn address(&mut self) -> Read<SignalAddress> {
        let rest = std::mem::take(&mut self.0);
        let text = str::from_utf8(rest).map_err(|_| Damaged::Field)?;
        SignalAddress::new(text).map_err(|_| Damaged::Field)
    }

    /// The rest as a text.
    pub(crate) fn rest_text(&mut self) -> Read<String> {
        str::from_utf8(std::mem::take(&mut self.0)).map(str::to_owned).map_err(|_| Damaged::Field)
    }

    /// The rest.
    pub(crate) fn rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.0))
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged::Field) }
    }
}

fn from_sortable(n: u64) -> WallTime {
    WallTime::from_millis((n ^ (1 << 63)).cast_signed())
}

/// CRC-32 of ISO 3309: it finds every change of a single bit and of any run of up to 32.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| (crc >> 8) ^ CRC_OF_BYTE[usize::from(crc.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(u32::MAX, step)
}

const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn bytes_sort_as_the_values_do() {
        let of = |build: &dyn Fn(Encoder) -> Encoder| build(Encoder::key(0)).done();
        let times = [i64::MIN, -1, 0, 1, i64::MAX].map(WallTime::from_millis);
        assert!(times.map(|t| of(&|e| e.time(t))).is_sorted());
        assert!(times.map(|t| of(&|e| e.recency(t))).iter().rev().is_sorted());
        let rates = [-1.0, 0.0, 0.1, 0.5, 1.0, 2.0].map(rate);
        assert!(rates.map(|r| of(&|e| e.rank(r))).iter().rev().is_sorted());
        assert_eq!([f64::NAN, -0.0, -3.0].map(|r| rate(r).to_bits()), [0; 3]);
        let users = ["a", "a b", "ab", "b"].map(|name| UserId::new(name).unwrap());
        assert!(users.map(|user| of(&|e| e.user(&user).number(9))).is_sorted());
    }

    #[test]
    fn marks_read_back() {
        for above in [vec![], vec![0], vec![1, 2, 3, 200, 201], vec![5, u64::MAX], vec![9, 3, 3], vec![1 << 63]] {
            let value = Encoder::value(0).marks(&above).seal();
            assert_eq!(Decoder::value(&value).unwrap().marks(), Ok(above));
        }
        for damaged in [vec![0x80], vec![0xff; 12]] {
            let value = Encoder::value(0).bytes(&damaged).seal();
            assert_eq!(Decoder::value(&value).unwrap().marks(), Err(Damaged::Field));
        }
    }

    #[test]
    fn a_value_of_another_version_is_refused() {
        let mut value = vec![VERSION + 1, 7];
        value.extend(crc32(&value).to_be_bytes());
        assert_eq!(Decoder::value(&value).err(), Some(Damaged::Version(2)));
    }
}
