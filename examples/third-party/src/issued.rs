//! Membership by an issuer: whoever runs the group signs who belongs to it, with one Ed25519 key.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use byway_api::{
    Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId, Secret, Trust, UserId, WallTime,
};
use ed25519_dalek::{SIGNATURE_LENGTH, Signature, Signer as _, SigningKey, VerifyingKey};

const NAME: &str = "issued";
/// Signed in front of every credential, so that nothing else that the key signs can be one.
const DOMAIN: &[u8] = b"byway-third-party/issued/v1\0";
/// The longest credential, in bytes: all parts at their longest are below.
const LONGEST: usize = 1024;
/// How far two clocks may differ (`sdk/docs/protocol.md`, section 1).
const SKEW: Duration = Duration::from_secs(300);

/// Signs credentials. Belongs where accounts are kept, never into the app.
pub struct Issuer {
    key: SigningKey,
    network: NetworkId,
}

impl Issuer {
    /// The issuer of a network.
    pub fn new(seed: &Secret, network: NetworkId) -> Self {
        Self { key: SigningKey::from_bytes(seed.expose()), network }
    }

    /// What members need to know of it.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// A credential: the device `peer` is one of `user`'s from `from` on, for so long. Times are whole
    /// seconds; what is below is cut off.
    ///
    /// ```text
    /// base64url( signature | network '\n' peer '\n' from '\n' until '\n' user )
    /// ```
    /// None of the parts can have a line end.
    pub fn issue(&self, user: &UserId, peer: &PeerId, from: WallTime, life: Duration) -> String {
        let from = from.as_millis() / 1000;
        let until = from.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
        let claims = format!("{}\n{peer}\n{from}\n{until}\n{user}", self.network);
        let signature = self.key.sign(&[DOMAIN, claims.as_bytes()].concat());
        BASE64.encode([&signature.to_bytes(), claims.as_bytes()].concat())
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("network", &self.network).finish_non_exhaustive()
    }
}

/// Accepts the credentials of one issuer for one network.
#[derive(Clone, Debug)]
pub struct Issued {
    issuer: VerifyingKey,
    network: NetworkId,
}

impl Issued {
    /// Members of `network` are those whom the holder of this public key has signed.
    ///
    /// # Errors
    /// `BadSignature` if the bytes are no Ed25519 key.
    pub fn new(issuer: &[u8; 32], network: NetworkId) -> Result<Self, MembershipError> {
        let issuer = VerifyingKey::from_bytes(issuer)
            .map_err(|e| error(MembershipErrorKind::BadSignature, "the issuer's key is not one").with_source(e))?;
        Ok(Self { issuer, network })
    }
}

impl Membership for Issued {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        use MembershipErrorKind::{BadSignature, Expired, Malformed, NotYetValid, WrongKey, WrongNetwork};
        let malformed = || error(Malformed, "ask the issuer for a new credential");
        if credential.len() > LONGEST {
            return Err(malformed());
        }
        // The engine refuses padding and spare bits that are not zero: one credential, one text.
        let bytes = BASE64.decode(credential).map_err(|_| malformed())?;
        let (signature, claims) = bytes.split_first_chunk::<SIGNATURE_LENGTH>().ok_or_else(malformed)?;
        // First of all: nothing else is looked at that the issuer has not said.
        self.issuer
            .verify_strict(&[DOMAIN, claims].concat(), &Signature::from_bytes(signature))
            .map_err(|_| error(BadSignature, "it is not from the issuer of this network"))?;

        let mut parts = std::str::from_utf8(claims).map_err(|_| malformed())?.splitn(5, '\n');
        let mut next = || parts.next().ok_or_else(malformed);
        let network: NetworkId = next()?.parse().map_err(|_| malformed())?;
        let peer: PeerId = next()?.parse().map_err(|_| malformed())?;
        let from = WallTime::from_millis(seconds(next()?).ok_or_else(malformed)?);
        let until = WallTime::from_millis(seconds(next()?).ok_or_else(malformed)?);
        let user: UserId = next()?.parse().map_err(|_| malformed())?;

        if network != self.network {
            return Err(error(WrongNetwork, format!("it is for {network}")));
        }
        if peer != *key {
            return Err(error(WrongKey, format!("it is for the device {}", peer.short())));
        }
        if now.plus(SKEW) < from {
            return Err(error(NotYetValid, format!("it begins at {from}; check the clocks")));
        }
        if now.minus(SKEW) >= until {
            return Err(error(Expired, format!("it ended at {until}; ask the issuer for a new one")));
        }
        Ok(Member::new(user, peer, Trust::Issued, until))
    }
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<i64>().ok()?.checked_mul(1000)
}

fn error(kind: MembershipErrorKind, detail: impl Into<String>) -> MembershipError {
    MembershipError::new(kind, NAME, detail)
}
