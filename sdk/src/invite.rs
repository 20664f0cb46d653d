//! A text that lets one member find another one without a server.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use thiserror::Error;

const PREFIX: &str = "byway1:";

/// What one member gives another to be found by: `byway1:` and the base64url of its signed record.
///
/// The record names the member's device, keys and addresses, and is signed as a whole: an invite that
/// was altered anywhere is refused. It is no secret and grants nothing; whoever has it can find the
/// device, and whether they are let in is decided by their own credential. It is good for as long as
/// the record is, at most 14 days, and for as long as the addresses in it are.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    text: String,
    record: Bytes,
}

impl Invite {
    /// The longest record that an invite carries, in bytes.
    pub const MAX_RECORD: usize = byway_wire::limits::RECORD_MAX;

    pub(crate) fn new(record: Bytes) -> Self {
        Self { text: format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&record)), record }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The signed record, not verified yet.
    pub(crate) const fn record(&self) -> &Bytes {
        &self.record
    }
}

/// Why there is no [`Invite`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The text is none.
    #[error("an invite is one word that begins with \"byway1:\"; {0}")]
    Text(&'static str),
    /// This device has no address that it could give away.
    #[error("nobody can dial this device: give it a .listener(..), or a registry that is up, and try again")]
    NoAddress,
}

impl FromStr for Invite {
    type Err = InviteError;

    /// Reads an invite; white space around it is ignored. Whose it is shows when it is used.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(InviteError::Text("this text does not"))?;
        if encoded.len() > Self::MAX_RECORD.div_ceil(3) * 4 {
            return Err(InviteError::Text("this one is too long"));
        }
        let record = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InviteError::Text("this one is damaged"))?;
        if record.is_empty() {
            return Err(InviteError::Text("this one is empty"));
        }
        Ok(Self { text: text.to_owned(), record: record.into() })
    }
}

impl AsRef<str> for Invite {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invite({} bytes)", self.record.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_reads_its_own_text() {
        let invite = Invite::new(Bytes::from_static(b"a signed record"));
        assert_eq!(format!(" {invite}\n").parse::<Invite>().unwrap(), invite);
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("byway1:{}", "A".repeat(2 * Invite::MAX_RECORD));
        for wrong in ["", "byway1:", "byway2:AAAA", "AAAA", "byway1:A+A/", "byway1:AB", &long] {
            assert!(wrong.parse::<Invite>().is_err(), "{wrong}");
        }
    }
}
