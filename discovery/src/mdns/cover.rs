//! What keeps a network's members from everybody else on the LAN.

use std::fmt;

use bytes::Bytes;
use byway_api::{NetworkId, PeerId};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use sha2::{Digest as _, Sha256};

/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;
/// Bytes that covering adds, without the nonce.
pub(super) const OVERHEAD: usize = 16;

/// What a device is called on the LAN: 20 hexadecimal digits, the same every time, that tell nothing to
/// those who do not know the name of its network.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(String);

impl Tag {
    const DIGITS: usize = 20;

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let well = text.len() == Self::DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        well.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Covers records with a key that follows from the network's name. Who does not know the name reads
/// neither it nor the user; who guesses it does: it is no protection of a network called `test`.
pub(super) struct Cover {
    network: NetworkId,
    key: [u8; 32],
}

impl fmt::Debug for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cover({})", self.network)
    }
}

/// Each input behind its length, and what it is for in front.
fn hash(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [b"byway/mdns/v1".as_slice(), purpose.as_bytes()].iter().chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Cover {
    pub(super) fn of(network: &NetworkId) -> Self {
        Self { key: hash("key", &[network.as_str().as_bytes()]), network: network.clone() }
    }

    pub(super) const fn network(&self) -> &NetworkId {
        &self.network
    }

    pub(super) fn tag(&self, peer: &PeerId) -> Tag {
        let digest = hash("tag", &[&self.key, peer.as_bytes()]);
        Tag(digest.iter().take(Tag::DIGITS / 2).map(|byte| format!("{byte:02x}")).collect())
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&self.key.into())
    }

    /// Covers a record. The nonce follows from it, so that the same record always looks the same.
    pub(super) fn put(&self, tag: &Tag, record: &[u8]) -> Option<([u8; NONCE], Vec<u8>)> {
        let digest = hash("nonce", &[&self.key, tag.as_str().as_bytes(), record]);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&digest[..NONCE]);
        let covered = self.cipher().encrypt(&nonce.into(), Payload { msg: record, aad: tag.as_str().as_bytes() });
        Some((nonce, covered.ok()?))
    }

    /// Uncovers what a member of this network has covered under this tag.
    pub(super) fn lift(&self, tag: &Tag, nonce: [u8; NONCE], covered: &[u8]) -> Option<Bytes> {
        let record =
            self.cipher().decrypt(&nonce.into(), Payload { msg: covered, aad: tag.as_str().as_bytes() }).ok()?;
        Some(record.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(network: &str) -> Cover {
        Cover::of(&NetworkId::new(network).unwrap())
    }

    #[test]
    fn only_the_network_reads_what_a_member_says() {
        let (ours, theirs) = (cover("team-blue"), cover("team-red"));
        let peer = PeerId::from_bytes([7; 32]);
        let tag = ours.tag(&peer);
        assert_ne!(tag, theirs.tag(&peer), "a device looks different in every network");
        let (nonce, covered) = ours.put(&tag, b"team-blue alice").unwrap();
        assert_eq!(covered.len(), b"team-blue alice".len() + OVERHEAD);
        assert!(!covered.windows(5).any(|w| w == b"alice"), "the name can be read");
        assert_eq!(ours.lift(&tag, nonce, &covered).as_deref(), Some(b"team-blue alice".as_slice()));
        assert_eq!(theirs.lift(&tag, nonce, &covered), None);
        assert_eq!(ours.lift(&ours.tag(&PeerId::from_bytes([8; 32])), nonce, &covered), None, "another device's name");
        for bit in 0..covered.len() * 8 {
            let mut altered = covered.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ours.lift(&tag, nonce, &altered), None, "bit {bit}");
        }
    }

    #[test]
    fn a_tag_is_what_a_tag_looks_like() {
        let tag = cover("team-blue").tag(&PeerId::from_bytes([7; 32]));
        assert_eq!(Tag::parse(tag.as_str()), Some(tag.clone()));
        for wrong in ["", "0", &tag.as_str().to_uppercase(), &format!("{}0", tag.as_str()), "gggggggggggggggggggg"] {
            assert_eq!(Tag::parse(wrong), None, "{wrong}");
        }
    }
}
