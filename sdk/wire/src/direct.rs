//! The bytes of a [`Direct`], written and read without intermediate messages.
//!
//! This is the path of every message between connected devices. The bytes are those of a `Frame`
//! with a `Content` in it; tests hold them against the generated code.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use byway_api::{MessageId, NetworkId, WallTime};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::content::optional_message;
use crate::error::at_most;
use crate::fields::{Fields, Value};
use crate::{Direct, WireError, limits};

/// Number of `Frame.direct`.
pub(crate) const FIELD: u32 = 11;

const WHAT: &str = "direct";

impl Direct {
    /// Length of the `Content`.
    pub(crate) fn content_len(&self) -> usize {
        let number = |tag: usize, n: u64| if n == 0 { 0 } else { tag + encoded_len_varint(n) };
        let body = self.body.len();
        18 + number(1, self.sent_at.as_millis() as u64)
            + number(1, self.expires_at.as_millis() as u64)
            + if self.reply_to.is_some() { 18 } else { 0 }
            + 1
            + encoded_len_varint(body as u64)
            + body
            + number(1, self.seq)
            + number(2, self.epoch)
            + number(2, self.floor)
    }

    /// Writes the `Content`.
    pub(crate) fn put_content(&self, buf: &mut BytesMut) {
        put_bytes(2, self.message.as_bytes(), buf);
        put_number(7, self.sent_at.as_millis() as u64, buf);
        put_number(8, self.expires_at.as_millis() as u64, buf);
        if let Some(id) = &self.reply_to {
            put_bytes(9, id.as_bytes(), buf);
        }
        put_bytes(10, &self.body, buf);
        put_number(14, self.seq, buf);
        put_number(16, self.epoch, buf);
        put_number(17, self.floor, buf);
    }

    /// Reads the `Content` that stands in `frame[range]`. `None` if it says something that a link
    /// does not carry: another body than the app's, or names, which the link already says.
    pub(crate) fn read(
        frame: &Bytes,
        range: Range<usize>,
        network: &NetworkId,
        now: WallTime,
    ) -> Result<Option<Self>, WireError> {
        let (mut name, mut message, mut reply_to, mut body) = (0..0, 0..0, 0..0, None);
        let (mut sent_at, mut expires_at, mut seq, mut epoch, mut floor) = (0, 0, 0, 0, 0);
        let mut foreign = false;
        let mut fields = Fields::within(WHAT, frame, range);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(range)) => name = range,
                (2, Value::Bytes(range)) => message = range,
                (3..=6, Value::Bytes(range)) => foreign |= !range.is_empty(),
                (7, Value::Varint(n)) => sent_at = n as i64,
                (8, Value::Varint(n)) => expires_at = n as i64,
                (9, Value::Bytes(range)) => reply_to = range,
                (10, Value::Bytes(range)) => body = Some(range),
                (11 | 12, Value::Bytes(_)) => body = None,
                (14, Value::Varint(n)) => seq = n,
                (16, Value::Varint(n)) => epoch = n,
                (17, Value::Varint(n)) => floor = n,
                (1..=6 | 9..=13 | 15, Value::Varint(_) | Value::Fixed)
                | (7 | 8 | 14 | 16 | 17, Value::Bytes(_) | Value::Fixed) => {
                    return Err(WireError::malformed(WHAT, "wire type"));
                }
                _ => {}
            }
        }
        if !name.is_empty() && frame[name] != *network.as_str().as_bytes() {
            return Err(WireError::WrongNetwork);
        }
        let Some(body) = body.filter(|_| !foreign) else { return Ok(None) };
        at_most("message", limits::BODY_MAX, body.len())?;
        let time = |ms| limits::clamp_time(WallTime::from_millis(ms), now);
        Ok(Some(Self {
            message: MessageId::from_slice(&frame[message]).map_err(WireError::id(WHAT))?,
            epoch,
            seq,
            floor,
            sent_at: time(sent_at),
            expires_at: time(expires_at),
            reply_to: optional_message(WHAT, &frame[reply_to])?,
            body: frame.slice(body),
        }))
    }
}

/// Writes a length-delimited field, empty or not.
pub(crate) fn put_bytes(number: u32, bytes: &[u8], buf: &mut BytesMut) {
    encode_varint(u64::from(number << 3 | 2), buf);
    encode_varint(bytes.len() as u64, buf);
    buf.put_slice(bytes);
}

fn put_number(number: u32, n: u64, buf: &mut BytesMut) {
    if n != 0 {
        encode_varint(u64::from(number << 3), buf);
        encode_varint(n, buf);
    }
}
