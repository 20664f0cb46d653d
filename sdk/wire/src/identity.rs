use std::fmt;

use byway_api::{PeerId, Secret};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::digest::sha256;
use crate::{WireError, base64url};

/// What a signature is for. A signature made for one domain is worthless in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Domain {
    /// The dialer's half of Hello.
    HelloDialer,
    /// The answerer's half of Hello.
    HelloAnswerer,
    /// A peer record.
    PeerRecord,
    /// The content of an envelope.
    Content,
    /// A beacon.
    Beacon,
}

impl Domain {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::HelloDialer => b"byway/hello-auth/v1/dialer\0",
            Self::HelloAnswerer => b"byway/hello-auth/v1/answerer\0",
            Self::PeerRecord => b"byway/peer-record/v1\0",
            Self::Content => b"byway/content/v1\0",
            Self::Beacon => b"byway/beacon/v1\0",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::HelloDialer | Self::HelloAnswerer => "hello",
            Self::PeerRecord => "record",
            Self::Content => "content",
            Self::Beacon => "beacon",
        }
    }

    fn input(self, message: &[u8]) -> Vec<u8> {
        [self.prefix(), message].concat()
    }
}

/// The Ed25519 key of a device. Erased on drop; `Debug` shows only the peer.
pub struct DeviceKey {
    key: SigningKey,
    peer: PeerId,
}

impl DeviceKey {
    /// The key of a seed.
    pub fn from_seed(seed: &Secret) -> Self {
        let key = SigningKey::from_bytes(seed.expose());
        let peer = PeerId::from_bytes(key.verifying_key().to_bytes());
        Self { key, peer }
    }

    /// The device.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Signs the domain's prefix, a zero byte and `message`.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> [u8; 64] {
        self.sign_plain(&domain.input(message))
    }

    /// Signs exactly `message`; only for JWS, whose header is the domain.
    pub(crate) fn sign_plain(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?})", self.peer)
    }
}

/// Checks a signature that [`DeviceKey::sign`] made: strictly, so that no second signature and no
/// weak key passes (RFC 8032, `verify_strict`).
///
/// # Errors
/// [`WireError::BadSignature`].
pub fn verify(peer: &PeerId, domain: Domain, message: &[u8], signature: &[u8]) -> Result<(), WireError> {
    verify_plain(peer, domain.what(), &domain.input(message), signature)
}

pub(crate) fn verify_plain(
    peer: &PeerId,
    what: &'static str,
    message: &[u8],
    signature: &[u8],
) -> Result<(), WireError> {
    let bad = || WireError::BadSignature { what };
    let key = VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| bad())?;
    let signature = Signature::from_slice(signature).map_err(|_| bad())?;
    key.verify_strict(message, &signature).map_err(|_| bad())
}

/// The RFC 7638 thumbprint of the device key as a JWK (RFC 8037), base64url: `jkt`.
pub fn thumbprint(peer: &PeerId) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url::encode(peer.as_bytes()));
    base64url::encode(&sha256(jwk.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_of_rfc_8037() {
        let x = base64url::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let peer = PeerId::from_slice(&x).unwrap();
        assert_eq!(thumbprint(&peer), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_signature_is_good_in_its_domain_only() {
        let key = DeviceKey::from_seed(&Secret::new([1; 32]));
        let signature = key.sign(Domain::Beacon, b"m");
        assert_eq!(verify(&key.peer(), Domain::Beacon, b"m", &signature), Ok(()));
        for domain in [Domain::HelloDialer, Domain::HelloAnswerer, Domain::PeerRecord, Domain::Content] {
            assert!(verify(&key.peer(), domain, b"m", &signature).is_err(), "{domain:?}");
        }
        assert!(verify(&key.peer(), Domain::Beacon, b"n", &signature).is_err());
        assert!(verify(&key.peer(), Domain::Beacon, b"m", &signature[..63]).is_err());
    }

    #[test]
    fn weak_keys_are_refused() {
        // The neutral element as a key: with R = neutral and s = 0 a lax check accepts anything.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(verify(&PeerId::from_bytes(neutral), Domain::Beacon, b"anything", &signature).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = DeviceKey::from_seed(&Secret::new([1; 32]));
        assert_eq!(format!("{key:?}"), format!("DeviceKey({:?})", key.peer()));
    }
}
