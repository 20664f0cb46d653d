//! Names of things: networks, users, devices, messages.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Why a text or a byte string is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a network id.
    #[error("a network id is 1 to 64 characters of a-z, 0-9, '.', '_' and '-'; got {0:?}")]
    Network(String),
    /// Not a user id.
    #[error("a user id is 1 to 128 bytes of NFC text without control characters; got {0:?}")]
    User(String),
    /// Not a device id.
    #[error("a peer id is the base58 text of an Ed25519 key, \"12D3KooW...\"; got {0:?}")]
    Peer(String),
    /// A byte string of the wrong length.
    #[error("{what} is {want} bytes; got {got}")]
    Length {
        /// What was being read.
        what: &'static str,
        /// The bytes it has.
        want: usize,
        /// The bytes that were there.
        got: usize,
    },
    /// Not hexadecimal text.
    #[error("a message id is 32 hexadecimal digits; got {0:?}")]
    Message(String),
}

/// A closed group of members: 1 to 64 characters of `[a-z0-9._-]`, because it stands in URLs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(Arc<str>);

impl NetworkId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`IdError::Network`] if it is empty, longer than 64 characters or has other characters.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let ok = (1..=64).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if ok { Ok(Self(name.into())) } else { Err(IdError::Network(shortened(name))) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person or bot: an opaque text of 1 to 128 bytes in Unicode NFC without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`IdError::User`] if it is empty, longer than 128 bytes, not NFC or has control characters.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let ok = (1..=128).contains(&name.len())
            && !name.chars().any(char::is_control)
            && (name.is_ascii() || unicode_normalization::is_nfc(name));
        if ok { Ok(Self(name.into())) } else { Err(IdError::User(shortened(name))) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

macro_rules! text_id {
    ($name:ident) => {
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Self::new(s)
            }
        }
    };
}
text_id!(NetworkId);
text_id!(UserId);

/// One running installation: its Ed25519 public key.
///
/// The text form is the libp2p PeerId of that key (`12D3KooW...`), so the id carries the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Identity multihash of a protobuf-encoded Ed25519 public key (libp2p peer-ids specification).
const PEER_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    /// From the 32 bytes of the key. Whether they are a valid curve point is seen at the first signature.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From a byte string on the wire.
    ///
    /// # Errors
    /// [`IdError::Length`] unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        exactly("a peer key", bytes).map(Self)
    }

    /// The last eight characters of the text form, for people and logs.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut id = [0u8; 38];
        id[..6].copy_from_slice(&PEER_PREFIX);
        id[6..].copy_from_slice(&self.0);
        f.write_str(&bs58::encode(id).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "..{}", self.short())
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Peer(shortened(s));
        if s.len() > 64 {
            return Err(wrong());
        }
        let raw = bs58::decode(s).into_vec().map_err(|_| wrong())?;
        match raw.strip_prefix(&PEER_PREFIX) {
            Some(key) => Self::from_slice(key).map_err(|_| wrong()),
            None => Err(wrong()),
        }
    }
}

fn exactly<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], IdError> {
    bytes.try_into().map_err(|_| IdError::Length { what, want: N, got: bytes.len() })
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// From a byte string on the wire.
            ///
            /// # Errors
            /// [`IdError::Length`] if the length differs.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                exactly($what, bytes).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    };
}

byte_id!(
    /// One message, the same on every path and on every device of the recipient.
    MessageId, 16, "a message id"
);
byte_id!(
    /// What a holder keys sealed mail by: a digest of the envelope.
    EnvelopeId, 32, "an envelope id"
);
byte_id!(
    /// One process start of a device; tells a restarted peer from its own corpse.
    Instance, 16, "an instance"
);

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Message(shortened(s));
        if s.len() != 32 || !s.is_ascii() {
            return Err(wrong());
        }
        let mut id = [0u8; 16];
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_is_a_libp2p_peer_id() {
        let id = PeerId::from_bytes([7; 32]);
        let text = id.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse::<PeerId>().unwrap(), id);
    }

    #[test]
    fn a_peer_id_of_another_key_type_is_refused() {
        for wrong in ["", "Qmabc", "12D3KooW", "0OIl", &"1".repeat(200)] {
            assert!(wrong.parse::<PeerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn network_ids_stand_in_urls() {
        assert!(NetworkId::new("team-blue.2_x").is_ok());
        for wrong in ["", "Team", "a/b", "a b", &"a".repeat(65)] {
            assert!(NetworkId::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn user_ids_are_nfc_text() {
        assert!(UserId::new("J\u{fc}rgen").is_ok());
        for wrong in ["", "a\nb", "Ju\u{308}rgen", &"a".repeat(129)] {
            assert!(UserId::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn message_ids_read_their_own_text() {
        let id = MessageId::from_bytes([0xa5; 16]);
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert!("zz".repeat(16).parse::<MessageId>().is_err());
        assert!("é".repeat(16).parse::<MessageId>().is_err());
    }
}
