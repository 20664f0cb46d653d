use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::PeerId;

/// Why a text is not a [`SignalAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a signal address is at most 256 ASCII characters of the form scheme:rest; got {0:?}")]
pub struct AddressError(String);

/// One way to reach a device, as text: `scheme:rest`, ASCII, at most 256 bytes.
///
/// | address | means |
/// |---|---|
/// | `ws(s)://host:port/{peerId}` | signal through a registry or a member's listener; `peerId` is the device to reach |
/// | `peer:{peerId}` | signal through that neighbour |
/// | `mem:{n}` | the in-process transport |
/// | `{name}:...` | dialled by the transport of that name; never by a carrier of signals ([`Signaling`](crate::Signaling)) |
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalAddress(Arc<str>);

impl SignalAddress {
    /// The longest address, in bytes.
    pub const MAX: usize = 256;

    /// Checks and wraps an address.
    ///
    /// # Errors
    /// [`AddressError`] if it is too long, not printable ASCII, or has no scheme.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        let printable = text.len() <= Self::MAX && text.bytes().all(|b| b.is_ascii_graphic());
        let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && !rest.is_empty()
                && scheme.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
        });
        if printable && scheme { Ok(Self(text.into())) } else { Err(AddressError(text.chars().take(80).collect())) }
    }

    /// Signal through the neighbour `via`.
    pub fn through(via: PeerId) -> Self {
        Self(format!("peer:{via}").into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// What stands behind the first colon.
    pub fn rest(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, rest)| rest)
    }

    /// The neighbour of a `peer:` address.
    pub fn via(&self) -> Option<PeerId> {
        if self.scheme() == "peer" { self.rest().parse().ok() } else { None }
    }

    /// True for `ws:` and `wss:`, the addresses of a signalling socket.
    pub fn is_socket(&self) -> bool {
        matches!(self.scheme(), "ws" | "wss")
    }

    /// True if the address only carries signals (`ws`, `wss`, `peer`): a transport that needs
    /// signalling dials it, whatever its name.
    pub fn is_signalling(&self) -> bool {
        self.is_socket() || self.scheme() == "peer"
    }

    /// A socket address split into its base (`ws://host:port`) and the device it names.
    pub fn socket_parts(&self) -> Option<(&str, PeerId)> {
        if !self.is_socket() {
            return None;
        }
        let (base, peer) = self.0.rsplit_once('/')?;
        Some((base, peer.parse().ok()?))
    }

    /// The same socket with another device in the path.
    ///
    /// # Errors
    /// [`AddressError`] if `base` is no socket URL or the whole becomes too long.
    pub fn socket(base: &str, peer: PeerId) -> Result<Self, AddressError> {
        let address = Self::new(&format!("{}/{peer}", base.trim_end_matches('/')))?;
        if address.is_socket() { Ok(address) } else { Err(AddressError(base.chars().take(80).collect())) }
    }
}

impl fmt::Display for SignalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SignalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SignalAddress {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        Self::new(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_socket_address() {
        let peer = PeerId::from_bytes([3; 32]);
        let a = SignalAddress::socket("ws://127.0.0.1:9000/", peer).unwrap();
        assert_eq!(a.as_str(), format!("ws://127.0.0.1:9000/{peer}"));
        assert_eq!(a.socket_parts(), Some(("ws://127.0.0.1:9000", peer)));
        assert!(SignalAddress::socket("http://x", peer).is_err());
    }

    #[test]
    fn through_a_neighbour() {
        let peer = PeerId::from_bytes([3; 32]);
        assert_eq!(SignalAddress::through(peer).via(), Some(peer));
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for wrong in ["", "nothing", ":x", "a:", "A:b", "ws://h/\u{e9}", "a b:c", &format!("x:{}", "y".repeat(256))] {
            assert!(SignalAddress::new(wrong).is_err(), "{wrong}");
        }
    }
}
