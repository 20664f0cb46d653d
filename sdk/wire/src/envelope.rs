//! What is visible of a sealed envelope from outside.

use byway_api::{EnvelopeId, PeerId, Sealed, WallTime};

use crate::digest::sha256_of_parts;
use crate::error::at_most;
use crate::fields::message;
use crate::{WireError, limits, proto};

/// What a carrier may know of an envelope. Nothing of it is verified; only the recipient can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvelopeHead {
    /// The device that can open it.
    pub to: PeerId,
    /// When it is worth nothing any more. As it stands on the wire: bring it into bounds with
    /// [`limits::clamp_time`] before any arithmetic.
    pub expires_at: WallTime,
    /// Version of the envelope.
    pub version: u32,
    /// How it is sealed.
    pub suite: u32,
}

const WHAT: &str = "envelope";

/// Reads what a carrier may know, whatever the suite.
///
/// # Errors
/// [`WireError::TooLarge`] above [`limits::ENVELOPE_MAX`], [`WireError::Malformed`].
pub fn peek(envelope: &[u8]) -> Result<EnvelopeHead, WireError> {
    use crate::fields::{Fields, Value};
    at_most(WHAT, limits::ENVELOPE_MAX, envelope.len())?;
    let (mut to, mut expires_at, mut version, mut suite) = (&[][..], 0, 0, 0);
    let mut fields = Fields::new(WHAT, envelope);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(n)) => version = n as u32,
            (2, Value::Varint(n)) => suite = n as u32,
            (3, Value::Bytes(range)) => to = &envelope[range],
            (5, Value::Varint(n)) => expires_at = n as i64,
            (1..=7, Value::Fixed) | (1..=2 | 5, Value::Bytes(_)) | (3 | 4 | 6 | 7, Value::Varint(_)) => {
                return Err(WireError::malformed(WHAT, "wire type"));
            }
            _ => {}
        }
    }
    let to = PeerId::from_slice(to).map_err(WireError::id(WHAT))?;
    Ok(EnvelopeHead { to, expires_at: WallTime::from_millis(expires_at), version, suite })
}

/// What a holder keys the envelope by: SHA-256 over what is authenticated, the encapsulated key and
/// the ciphertext. Bytes that someone appended do not change it.
///
/// # Errors
/// [`WireError::TooLarge`], [`WireError::Malformed`].
pub fn envelope_id(mail: &Sealed) -> Result<EnvelopeId, WireError> {
    let envelope = Envelope::parse(mail)?;
    let id = sha256_of_parts(&[&envelope.aad(), &envelope.raw.enc, &envelope.raw.ciphertext]);
    Ok(EnvelopeId::from_bytes(id))
}

/// A parsed envelope.
pub(crate) struct Envelope {
    pub(crate) raw: proto::SealedEnvelope,
    pub(crate) to: PeerId,
    pub(crate) key_id: [u8; 8],
}

impl Envelope {
    pub(crate) fn parse(mail: &Sealed) -> Result<Self, WireError> {
        at_most(WHAT, limits::ENVELOPE_MAX, mail.envelope.len())?;
        let raw: proto::SealedEnvelope = message(WHAT, mail.envelope.clone())?;
        let to = PeerId::from_slice(&raw.to_peer).map_err(WireError::id(WHAT))?;
        let key_id = raw.key_id[..].try_into().map_err(|_| WireError::malformed(WHAT, "key id"))?;
        Ok(Self { raw, to, key_id })
    }

    /// What is authenticated besides the ciphertext.
    pub(crate) fn aad(&self) -> [u8; 56] {
        aad(self.raw.version, self.raw.suite, &self.to, &self.key_id, self.raw.expires_at)
    }
}

/// Version, suite, recipient, key id and expiry as fixed bytes, numbers big-endian.
pub(crate) fn aad(version: u32, suite: u32, to: &PeerId, key_id: &[u8; 8], expires_at: i64) -> [u8; 56] {
    let mut aad = [0; 56];
    aad[..4].copy_from_slice(&version.to_be_bytes());
    aad[4..8].copy_from_slice(&suite.to_be_bytes());
    aad[8..40].copy_from_slice(to.as_bytes());
    aad[40..48].copy_from_slice(key_id);
    aad[48..].copy_from_slice(&expires_at.to_be_bytes());
    aad
}
