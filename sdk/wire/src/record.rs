use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use byway_api::{Member, Membership, NetworkId, PeerId, SignalAddress, UserId, WallTime};
use prost::Message as _;

use crate::digest::sha256;
use crate::error::at_most;
use crate::fields::{Most, check_counts, message};
use crate::{DeviceKey, Domain, WireError, limits, proto, seal, verify};

/// A public key that envelopes for a device are sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealPublic {
    /// 1 = X25519, HKDF-SHA256, ChaCha20Poly1305.
    pub suite: u32,
    /// The key.
    pub public_key: [u8; 32],
    /// Until when to seal to it.
    pub not_after: WallTime,
}

impl SealPublic {
    /// The first 8 bytes of the key's SHA-256.
    pub fn key_id(&self) -> [u8; 8] {
        key_id(&self.public_key)
    }
}

pub(crate) fn key_id(public_key: &[u8; 32]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&sha256(public_key)[..8]);
    id
}

/// What a device wants to say about itself.
#[derive(Clone, Debug)]
pub struct RecordDraft {
    /// The network.
    pub network: NetworkId,
    /// The device's user, as in the credential.
    pub user: UserId,
    /// Higher than in any earlier record of the device.
    pub seq: u64,
    /// Now.
    pub issued_at: WallTime,
    /// At most [`limits::RECORD_LIFE`] later.
    pub expires_at: WallTime,
    /// At most [`limits::RECORD_ADDRESSES`].
    pub addresses: Vec<SignalAddress>,
    /// At most [`limits::CAPABILITIES`], each 1 to [`limits::CAPABILITY_MAX`] printable ASCII characters.
    pub capabilities: Vec<String>,
    /// At most [`limits::CREDENTIAL_MAX`] bytes.
    pub credential: String,
    /// At most [`limits::RECORD_SEAL_KEYS`].
    pub seal_keys: Vec<SealPublic>,
    /// At most [`limits::RECORD_COORDINATORS`].
    pub coordinators: Vec<PeerId>,
}

impl RecordDraft {
    /// Signs the record and verifies the result, so that we never publish what others refuse.
    ///
    /// # Errors
    /// As [`VerifiedRecord::verify`].
    pub fn sign(
        self,
        key: &DeviceKey,
        membership: &dyn Membership,
        now: WallTime,
    ) -> Result<VerifiedRecord, WireError> {
        let seal_key = |k: &SealPublic| proto::SealKey {
            suite: k.suite,
            public_key: Bytes::copy_from_slice(&k.public_key),
            not_after: k.not_after.as_millis(),
        };
        let record = proto::PeerRecord {
            network_id: self.network.as_str().to_owned(),
            user_id: self.user.as_str().to_owned(),
            peer_key: Bytes::copy_from_slice(key.peer().as_bytes()),
            seq: self.seq,
            issued_at: self.issued_at.as_millis(),
            expires_at: self.expires_at.as_millis(),
            addresses: self.addresses.iter().map(|a| a.as_str().to_owned()).collect(),
            capabilities: self.capabilities,
            credential: self.credential,
            seal_keys: self.seal_keys.iter().map(seal_key).collect(),
            coordinators: self.coordinators.iter().map(|p| Bytes::copy_from_slice(p.as_bytes())).collect(),
        };
        let payload = Bytes::from(record.encode_to_vec());
        let signature = Bytes::copy_from_slice(&key.sign(Domain::PeerRecord, &payload));
        let signed = proto::Signed { payload, signature, credential: String::new() };
        VerifiedRecord::verify(&signed.encode_to_vec().into(), &self.network, membership, now)
    }
}

/// A record whose signature, network, life and credential were found good. Cheap to clone.
///
/// Only verifying makes one. It does not stay true for ever: compare [`expires_at`](Self::expires_at)
/// and [`Member::expires_at`] with the clock before relying on it.
#[derive(Clone)]
pub struct VerifiedRecord(Arc<Record>);

struct Record {
    bytes: Bytes,
    peer: PeerId,
    member: Member,
    credential: String,
    seq: u64,
    issued_at: WallTime,
    expires_at: WallTime,
    addresses: Vec<SignalAddress>,
    capabilities: Vec<String>,
    seal_keys: Vec<SealPublic>,
    coordinators: Vec<PeerId>,
}

const WHAT: &str = "record";

const COUNTS: [Most; 4] = [
    Most(7, "addresses of a record", limits::RECORD_ADDRESSES),
    Most(8, "capabilities of a record", limits::CAPABILITIES),
    Most(10, "seal keys of a record", limits::RECORD_SEAL_KEYS),
    Most(11, "coordinators of a record", limits::RECORD_COORDINATORS),
];

impl VerifiedRecord {
    /// Verifies the bytes of a `Signed` `PeerRecord`.
    ///
    /// The result keeps a copy of its own, so that it does not hold the frame it came in. Fields
    /// that a newer version appended to `Signed` are not kept.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Malformed`], [`WireError::BadSignature`],
    /// [`WireError::WrongNetwork`], [`WireError::Expired`], [`WireError::NotYetValid`],
    /// [`WireError::Credential`], or [`WireError::Mismatch`] if the credential is another user's.
    pub fn verify(
        bytes: &Bytes,
        network: &NetworkId,
        membership: &dyn Membership,
        now: WallTime,
    ) -> Result<Self, WireError> {
        at_most(WHAT, limits::RECORD_MAX, bytes.len())?;
        let copy = Bytes::copy_from_slice(bytes);
        let signed: proto::Signed = message(WHAT, copy)?;
        check_counts(WHAT, &signed.payload, &COUNTS)?;
        let record: proto::PeerRecord = message(WHAT, signed.payload.clone())?;
        let malformed = WireError::id(WHAT);
        let peer = PeerId::from_slice(&record.peer_key).map_err(&malformed)?;
        verify(&peer, Domain::PeerRecord, &signed.payload, &signed.signature)?;

        if record.network_id != network.as_str() {
            return Err(WireError::WrongNetwork);
        }
        let (issued_at, expires_at) = life(record.issued_at, record.expires_at, now)?;
        check_capabilities(WHAT, &record.capabilities)?;
        let address = |text: &String| SignalAddress::new(text).map_err(|e| WireError::malformed(WHAT, e));
        let addresses = record.addresses.iter().map(address).collect::<Result<_, _>>()?;
        let coordinator = |key: &Bytes| PeerId::from_slice(key).map_err(&malformed);
        let coordinators = record.coordinators.iter().map(coordinator).collect::<Result<_, _>>()?;
        let seal_keys = seal_keys(&record.seal_keys, now)?;
        at_most("credential", limits::CREDENTIAL_MAX, record.credential.len())?;
        let member = membership.verify(&record.credential, &peer, now)?;
        if member.user.as_str() != record.user_id || member.peer != peer {
            return Err(WireError::Mismatch { what: "user" });
        }
        let signed = proto::Signed { credential: String::new(), ..signed };
        Ok(Self(Arc::new(Record {
            bytes: signed.encode_to_vec().into(),
            peer,
            member,
            credential: record.credential,
            seq: record.seq,
            issued_at,
            expires_at,
            addresses,
            capabilities: record.capabilities,
            seal_keys,
            coordinators,
        })))
    }

    /// The signed bytes, at most [`limits::RECORD_MAX`].
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The device.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Its user.
    pub fn user(&self) -> &UserId {
        &self.0.member.user
    }

    /// What its credential proves.
    pub fn member(&self) -> &Member {
        &self.0.member
    }

    /// Its credential.
    pub fn credential(&self) -> &str {
        &self.0.credential
    }

    /// Of two records of a device, the one with the higher number holds.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// When it was signed.
    pub fn issued_at(&self) -> WallTime {
        self.0.issued_at
    }

    /// When it ends.
    pub fn expires_at(&self) -> WallTime {
        self.0.expires_at
    }

    /// Where the device can be reached.
    pub fn addresses(&self) -> &[SignalAddress] {
        &self.0.addresses
    }

    /// What it can do: names, some with parameters, `coordinator;cap=64`.
    pub fn capabilities(&self) -> &[String] {
        &self.0.capabilities
    }

    /// Whether it has a capability of that name, with or without parameters.
    pub fn has_capability(&self, name: &str) -> bool {
        self.0.capabilities.iter().any(|c| c.split(';').next() == Some(name))
    }

    /// What to seal to; only suites that this version knows.
    pub fn seal_keys(&self) -> &[SealPublic] {
        &self.0.seal_keys
    }

    /// The devices that hold its mail.
    pub fn coordinators(&self) -> &[PeerId] {
        &self.0.coordinators
    }
}

/// Whose record this says it is. Nothing is verified: for a directory that only sorts records.
///
/// # Errors
/// [`WireError::TooLarge`] or [`WireError::Malformed`].
pub fn claimed_user(bytes: &Bytes) -> Result<UserId, WireError> {
    at_most(WHAT, limits::RECORD_MAX, bytes.len())?;
    let signed: proto::Signed = message(WHAT, bytes.clone())?;
    let record: proto::PeerRecord = message(WHAT, signed.payload)?;
    UserId::new(&record.user_id).map_err(WireError::id(WHAT))
}

impl PartialEq for VerifiedRecord {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for VerifiedRecord {}

impl fmt::Debug for VerifiedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} {:?} seq {})", self.0.member.user, self.0.peer, self.0.seq)
    }
}

/// A record must be begun, not ended, and not longer than allowed.
fn life(issued_at: i64, expires_at: i64, now: WallTime) -> Result<(WallTime, WallTime), WireError> {
    let life = expires_at.saturating_sub(issued_at);
    if life <= 0 || life > limits::RECORD_LIFE.as_millis() as i64 {
        return Err(WireError::malformed(WHAT, "a life of more than 14 days, or none"));
    }
    let (issued_at, expires_at) = (WallTime::from_millis(issued_at), WallTime::from_millis(expires_at));
    if issued_at > now.plus(limits::CLOCK_SKEW) {
        return Err(WireError::NotYetValid { what: WHAT });
    }
    if expires_at <= now {
        return Err(WireError::Expired { what: WHAT });
    }
    Ok((limits::clamp_time(issued_at, now), limits::clamp_time(expires_at, now)))
}

fn seal_keys(keys: &[proto::SealKey], now: WallTime) -> Result<Vec<SealPublic>, WireError> {
    keys.iter()
        .filter(|key| key.suite == seal::SUITE)
        .map(|key| {
            let public_key = key.public_key[..].try_into().map_err(|_| WireError::malformed(WHAT, "seal key"))?;
            let not_after = limits::clamp_time(WallTime::from_millis(key.not_after), now);
            Ok(SealPublic { suite: key.suite, public_key, not_after })
        })
        .collect()
}

/// Refuses capabilities that are too many, too long or not printable.
pub(crate) fn check_capabilities(what: &'static str, capabilities: &[String]) -> Result<(), WireError> {
    at_most("capabilities", limits::CAPABILITIES, capabilities.len())?;
    for capability in capabilities {
        at_most("capability", limits::CAPABILITY_MAX, capability.len())?;
        if capability.is_empty() || !capability.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(WireError::malformed(what, "capability"));
        }
    }
    Ok(())
}
