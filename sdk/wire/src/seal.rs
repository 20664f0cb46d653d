//! Sealed envelopes, suite 1: signed content inside single-shot HPKE base mode (RFC 9180).

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use byway_api::{Membership, MembershipErrorKind, NetworkId, PeerId, Sealed, Secret, WallTime};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, single_shot_open, single_shot_seal_with_rng,
};
use prost::Message as _;

use crate::digest::sha256_of_parts;
use crate::envelope::{Envelope, aad};
use crate::error::at_most;
use crate::fields::{check_receipts, message};
use crate::record::key_id;
use crate::{Content, DeviceKey, Domain, SealPublic, VerifiedRecord, WireError, limits, proto, verify};

type Kem = X25519HkdfSha256;

/// X25519, HKDF-SHA256, ChaCha20Poly1305.
pub(crate) const SUITE: u32 = 1;
const VERSION: u32 = 1;
const WHAT: &str = "envelope";

/// The secret half of a seal key. Erased on drop; `Debug` shows only the key id.
pub struct SealSecret {
    key: <Kem as hpke::Kem>::PrivateKey,
    public: [u8; 32],
}

impl SealSecret {
    /// The key of a seed (RFC 9180 `DeriveKeyPair`).
    pub fn from_seed(seed: &Secret) -> Self {
        let (key, public) = Kem::derive_keypair(seed.expose());
        Self { key, public: public.to_bytes().into() }
    }

    /// The public half, to be used until `not_after`.
    pub const fn public(&self, not_after: WallTime) -> SealPublic {
        SealPublic { suite: SUITE, public_key: self.public, not_after }
    }

    /// The id by which an envelope names the key.
    pub fn key_id(&self) -> [u8; 8] {
        key_id(&self.public)
    }
}

impl fmt::Debug for SealSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealSecret({:02x?})", self.key_id())
    }
}

/// Signs and seals `content` for the device `to`.
///
/// `randomness` must be fresh and secret for every call.
///
/// # Errors
/// [`WireError::TooLarge`] or [`WireError::Malformed`] if no recipient would take it,
/// [`WireError::Mismatch`] if sender, recipient or expiry are not those of the content,
/// [`WireError::Version`] for a suite that we do not know, [`WireError::Malformed`] for a key that is
/// none.
pub fn seal(
    content: &Content,
    key: &DeviceKey,
    to: PeerId,
    with: &SealPublic,
    expires_at: WallTime,
    randomness: [u8; 32],
) -> Result<Sealed, WireError> {
    let mismatch = |what| Err(WireError::Mismatch { what });
    if content.from_peer != key.peer() {
        return mismatch("from_peer");
    }
    if content.to_peer != to {
        return mismatch("to_peer");
    }
    if content.expires_at != expires_at {
        return mismatch("expires_at");
    }
    if with.suite != SUITE {
        return Err(WireError::Version { what: "seal key", got: with.suite });
    }
    content.check()?;
    let payload = Bytes::from(content.to_proto().encode_to_vec());
    check_size(&payload, content.sender_record.as_ref())?;
    let signature = Bytes::copy_from_slice(&key.sign(Domain::Content, &payload));
    let signed = proto::Signed { payload, signature, credential: String::new() }.encode_to_vec();

    let bad_key = |e: hpke::HpkeError| WireError::malformed("seal key", e);
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(&with.public_key).map_err(bad_key)?;
    let key_id = with.key_id();
    let aad = aad(VERSION, SUITE, &to, &key_id, expires_at.as_millis());
    let (enc, ciphertext) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        &public,
        &info(&content.network),
        &signed,
        &aad,
        &mut Given::new(randomness),
    )
    .map_err(bad_key)?;
    let envelope = proto::SealedEnvelope {
        version: VERSION,
        suite: SUITE,
        to_peer: Bytes::copy_from_slice(to.as_bytes()),
        key_id: Bytes::copy_from_slice(&key_id),
        expires_at: expires_at.as_millis(),
        enc: Bytes::copy_from_slice(&enc.to_bytes()),
        ciphertext: ciphertext.into(),
    }
    .encode_to_vec();
    at_most(WHAT, limits::ENVELOPE_MAX, envelope.len())?;
    Ok(Sealed { to, envelope: envelope.into() })
}

/// An envelope that was opened, and found genuine.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device that signed it.
    pub from: PeerId,
    /// What it says. Its network, devices and sending user are verified; whether `to_user` is us and
    /// whether it is a duplicate is the caller's matter.
    pub content: Content,
    /// The sender's newest verified record, of those inside and `known`.
    pub sender: VerifiedRecord,
}

/// Opens an envelope for the device `me`.
///
/// The checks, in this order: size, version and suite, recipient, key, expiry, HPKE, signature,
/// credential, names, inner expiry, revocation. The sender's credential comes from the record inside
/// or from `known`. Duplicates are the caller's matter.
///
/// # Errors
/// The [`WireError`] of the check that failed. After [`WireError::UnknownSender`] the same bytes can
/// be opened once `known` has the sender's record.
pub fn open(
    mail: &Sealed,
    me: PeerId,
    secrets: &[SealSecret],
    network: &NetworkId,
    membership: &dyn Membership,
    now: WallTime,
    known: impl Fn(&PeerId) -> Option<VerifiedRecord>,
) -> Result<Opened, WireError> {
    let envelope = Envelope::parse(mail)?;
    if envelope.raw.version != VERSION {
        return Err(WireError::Version { what: WHAT, got: envelope.raw.version });
    }
    if envelope.raw.suite != SUITE {
        return Err(WireError::Version { what: "seal suite", got: envelope.raw.suite });
    }
    if envelope.to != me || mail.to != me {
        return Err(WireError::WrongRecipient);
    }
    let secret = secrets.iter().find(|s| s.key_id() == envelope.key_id).ok_or(WireError::UnknownKey)?;
    if WallTime::from_millis(envelope.raw.expires_at) <= now {
        return Err(WireError::Expired { what: WHAT });
    }
    let signed: proto::Signed = message("content", decrypt(&envelope, secret, network)?)?;
    check_receipts("content", &signed.payload, 11)?;
    let raw: proto::Content = message("content", signed.payload.clone())?;
    check_size(&signed.payload, Some(&raw.sender_record))?;
    let inner_expiry = raw.expires_at;
    let from = PeerId::from_slice(&raw.from_peer).map_err(WireError::id("content"))?;
    verify(&from, Domain::Content, &signed.payload, &signed.signature)?;
    let content = Content::from_proto(raw, now)?;

    let sender = sender(&content, network, membership, now, known);
    let revoked = |e: &WireError| matches!(e, WireError::Credential { kind: MembershipErrorKind::Revoked, .. });
    let sender = match sender {
        Err(e) if !revoked(&e) => return Err(e),
        other => other,
    };
    if content.network != *network {
        return Err(WireError::WrongNetwork);
    }
    if content.to_peer != me {
        return Err(WireError::Mismatch { what: "to_peer" });
    }
    if sender.as_ref().is_ok_and(|s| *s.user() != content.from_user) {
        return Err(WireError::Mismatch { what: "from_user" });
    }
    if inner_expiry != envelope.raw.expires_at {
        return Err(WireError::Mismatch { what: "expires_at" });
    }
    let sender = sender?;
    Ok(Opened { from, content, sender })
}

fn check_size(content: &Bytes, sender_record: Option<&Bytes>) -> Result<(), WireError> {
    at_most("content", limits::CONTENT_MAX, content.len() - sender_record.map_or(0, Bytes::len))
}

fn decrypt(envelope: &Envelope, secret: &SealSecret, network: &NetworkId) -> Result<Bytes, WireError> {
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&envelope.raw.enc).map_err(|_| WireError::Undecryptable)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &secret.key,
        &enc,
        &info(network),
        &envelope.raw.ciphertext,
        &envelope.aad(),
    )
    .map(Bytes::from)
    .map_err(|_| WireError::Undecryptable)
}

/// The sender's record: the one inside unless a newer one is known. A record that has ended, or a
/// broken one, does not hurt if a good one is known.
fn sender(
    content: &Content,
    network: &NetworkId,
    membership: &dyn Membership,
    now: WallTime,
    known: impl Fn(&PeerId) -> Option<VerifiedRecord>,
) -> Result<VerifiedRecord, WireError> {
    let from = content.from_peer;
    let known = known(&from)
        .filter(|record| record.peer() == from)
        .map(|record| membership.verify(record.credential(), &from, now).map(|_| record));
    let inside = match &content.sender_record {
        Some(bytes) if !matches!(&known, Some(Ok(record)) if record.bytes() == bytes) => {
            let record = VerifiedRecord::verify(bytes, network, membership, now);
            Some(
                record.and_then(|r| if r.peer() == from { Ok(r) } else { Err(WireError::Mismatch { what: "record" }) }),
            )
        }
        _ => None,
    };
    match (inside, known) {
        (Some(Ok(inside)), Some(Ok(known))) if known.seq() > inside.seq() => Ok(known),
        (Some(Ok(inside)), _) => Ok(inside),
        (_, Some(Ok(known))) => Ok(known),
        (Some(Err(e)), _) => Err(e),
        (None, Some(Err(e))) => Err(e.into()),
        (None, None) => Err(WireError::UnknownSender { peer: from }),
    }
}

fn info(network: &NetworkId) -> Vec<u8> {
    [b"byway/seal/v1/", network.as_str().as_bytes()].concat()
}

/// The caller's randomness as the generator that `hpke` asks for: SHA-256 in counter mode.
struct Given {
    seed: [u8; 32],
    counter: u64,
}

impl Given {
    const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    fn block(&mut self) -> [u8; 32] {
        let block = sha256_of_parts(&[b"byway/seal-randomness/v1", &self.seed, &self.counter.to_be_bytes()]);
        self.counter += 1;
        block
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&self.block()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Given {}
