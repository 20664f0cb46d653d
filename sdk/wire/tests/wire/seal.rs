//! Sealed envelopes: the checks of opening one, in their order.

use bytes::Bytes;
use byway_api::{
    EnvelopeId, Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId, Sealed, Secret, WallTime,
};
use byway_wire::{
    Body, Content, Domain, OpenMembership, Opened, Receipt, ReceiptKind, SealSecret, VerifiedRecord, WireError,
    envelope_id, open, peek, proto, seal,
};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use prost::Message as _;

use crate::common::*;

pub(crate) fn open_at(
    mail: &Sealed,
    membership: &dyn Membership,
    now: WallTime,
    known: Option<VerifiedRecord>,
) -> Result<Opened, WireError> {
    let bob = bob();
    open(mail, bob.peer(), &[bob.seal], &network(), membership, now, |_| known.clone())
}

pub(crate) fn open_by_bob(mail: &Sealed) -> Result<Opened, WireError> {
    open_at(mail, &membership(), NOW, None)
}

#[test]
fn what_is_sealed_can_be_opened_by_its_recipient() {
    let (alice, bob) = (alice(), bob());
    let bodies = [
        Body::App(Bytes::from_static(b"hi")),
        Body::App(Bytes::new()),
        Body::Receipt(Receipt { kind: ReceiptKind::Unreadable, messages: vec![message(9)], at: NOW }),
        Body::Signal(signal()),
    ];
    for body in bodies {
        let content = Content { body, ..alice.content(&bob) };
        let mail = alice.seal_to(&bob, &content).unwrap();
        let opened = open_by_bob(&mail).unwrap();
        assert_eq!((opened.from, opened.content, opened.sender), (alice.peer(), content, alice.record()));
    }
}

#[test]
fn the_right_key_is_found_among_several() {
    let (alice, bob) = (alice(), bob());
    let mail = alice.mail(&bob);
    let older = SealSecret::from_seed(&Secret::new([200; 32]));
    let peer = bob.peer();
    let opened = open(&mail, peer, &[older, bob.seal], &network(), &membership(), NOW, |_| None);
    assert_eq!(opened.unwrap().from, alice.peer());
    let none = open(&mail, peer, &[], &network(), &membership(), NOW, |_| None);
    assert_eq!(none.unwrap_err(), WireError::UnknownKey);
}

#[test]
fn without_a_record_inside_the_sender_must_be_known() {
    let (alice, bob) = (alice(), bob());
    let content = Content { sender_record: None, ..alice.content(&bob) };
    let mail = alice.seal_to(&bob, &content).unwrap();
    assert_eq!(open_by_bob(&mail).unwrap_err(), WireError::UnknownSender { peer: alice.peer() });
    assert_eq!(open_at(&mail, &membership(), NOW, Some(alice.record())).unwrap().sender, alice.record());
    let other = open_at(&mail, &membership(), NOW, Some(person("carol", 3).record()));
    assert_eq!(other.unwrap_err(), WireError::UnknownSender { peer: alice.peer() });
}

#[test]
fn the_newer_record_of_the_sender_counts() {
    let (alice, bob) = (alice(), bob());
    let mail = alice.mail(&bob);
    let with_seq = |seq| {
        let mut draft = alice.draft();
        draft.seq = seq;
        draft.sign(&alice.key, &membership(), NOW).unwrap()
    };
    let seq = |known| open_at(&mail, &membership(), NOW, Some(with_seq(known))).unwrap().sender.seq();
    assert_eq!((seq(4), seq(6)), (5, 6));
}

#[test]
fn a_record_inside_that_has_ended_does_not_hurt_if_a_newer_one_is_known() {
    let (alice, bob) = (alice(), bob());
    let mut old = alice.draft();
    (old.issued_at, old.expires_at, old.seq) = (NOW.minus(DAY), NOW.plus(DAY / 24), 1);
    let old = old.sign(&alice.key, &membership(), NOW).unwrap();
    let content = Content { sender_record: Some(old.bytes().clone()), ..alice.content(&bob) };
    let mail = alice.seal_to(&bob, &content).unwrap();
    let later = NOW.plus(DAY / 12);
    assert_eq!(open_at(&mail, &membership(), later, None).unwrap_err(), WireError::Expired { what: "record" });
    assert_eq!(open_at(&mail, &membership(), later, Some(alice.record())).unwrap().sender, alice.record());
}

#[test]
fn only_the_recipient_can_open_it() {
    let (alice, bob) = (alice(), bob());
    let mail = alice.mail(&bob);
    let carol = person("carol", 3);
    let at_carol = |mail: &Sealed, secret: &SealSecret| {
        let secrets = [SealSecret::from_seed(&Secret::new([103; 32]))];
        assert_eq!(secret.key_id(), secrets[0].key_id());
        open(mail, carol.peer(), &secrets, &network(), &membership(), NOW, |_| None).unwrap_err()
    };
    assert_eq!(at_carol(&mail, &carol.seal), WireError::WrongRecipient);
    let redirected = Sealed { to: carol.peer(), envelope: mail.envelope.clone() };
    assert_eq!(at_carol(&redirected, &carol.seal), WireError::WrongRecipient);
    assert_eq!(open_by_bob(&Sealed { to: carol.peer(), ..mail }).unwrap_err(), WireError::WrongRecipient);
}

#[test]
fn expired_mail_is_refused() {
    let mail = alice().mail(&bob());
    let at = |now| open_at(&mail, &membership(), now, None).map(|_| ());
    assert_eq!(at(NOW.plus(DAY)), Err(WireError::Expired { what: "envelope" }));
    assert_eq!(at(WallTime::from_millis(NOW.plus(DAY).as_millis() - 1)), Ok(()));
}

#[test]
fn another_version_or_suite_is_named() {
    let changed = |change: fn(&mut proto::SealedEnvelope)| {
        let mail = alice().mail(&bob());
        let mut envelope = proto::SealedEnvelope::decode(mail.envelope).unwrap();
        change(&mut envelope);
        open_by_bob(&Sealed { to: mail.to, envelope: envelope.encode_to_vec().into() }).unwrap_err()
    };
    assert_eq!(changed(|e| e.version = 2), WireError::Version { what: "envelope", got: 2 });
    assert_eq!(changed(|e| e.suite = 2), WireError::Version { what: "seal suite", got: 2 });
    assert_eq!(changed(|e| e.key_id = vec![0; 8].into()), WireError::UnknownKey);
    assert_eq!(changed(|e| e.enc = vec![0; 32].into()), WireError::Undecryptable);
    assert_eq!(changed(|e| e.expires_at += 1), WireError::Undecryptable);
}

/// Seals any bytes for bob, as anybody can who knows his seal key.
pub(crate) fn seal_bytes(plain: &[u8], expires_at: i64) -> Sealed {
    let bob = bob();
    let with = bob.seal.public(NOW);
    let public = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&with.public_key).unwrap();
    let aad = [
        &1u32.to_be_bytes()[..],
        &1u32.to_be_bytes(),
        bob.peer().as_bytes(),
        &with.key_id(),
        &expires_at.to_be_bytes(),
    ]
    .concat();
    let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        b"byway/seal/v1/team-blue",
        plain,
        &aad,
        &mut Counting(0),
    )
    .unwrap();
    let envelope = proto::SealedEnvelope {
        version: 1,
        suite: 1,
        to_peer: Bytes::copy_from_slice(bob.peer().as_bytes()),
        key_id: Bytes::copy_from_slice(&with.key_id()),
        expires_at,
        enc: Bytes::copy_from_slice(&enc.to_bytes()),
        ciphertext: ciphertext.into(),
    };
    Sealed { to: bob.peer(), envelope: envelope.encode_to_vec().into() }
}

/// Content that alice signs, with changes that `seal` would refuse.
pub(crate) fn hostile(change: impl FnOnce(&mut proto::Content)) -> Result<Opened, WireError> {
    let mut content = alice_to_bob();
    change(&mut content);
    open_by_bob(&seal_bytes(&signed_content(content.encode_to_vec()), NOW.plus(DAY).as_millis()))
}

fn alice_to_bob() -> proto::Content {
    let signed = proto::Signed::decode(&decrypt(&alice().mail(&bob()))[..]).unwrap();
    proto::Content::decode(signed.payload).unwrap()
}

pub(crate) fn signed_content(payload: Vec<u8>) -> Vec<u8> {
    let signature = Bytes::copy_from_slice(&alice().key.sign(Domain::Content, &payload));
    proto::Signed { payload: payload.into(), signature, credential: String::new() }.encode_to_vec()
}

fn decrypt(mail: &Sealed) -> Vec<u8> {
    let envelope = proto::SealedEnvelope::decode(mail.envelope.clone()).unwrap();
    let (secret, _) = X25519HkdfSha256::derive_keypair(&[102; 32]);
    let aad = [
        &1u32.to_be_bytes()[..],
        &1u32.to_be_bytes(),
        &envelope.to_peer,
        &envelope.key_id,
        &envelope.expires_at.to_be_bytes(),
    ]
    .concat();
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret,
        &<X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&envelope.enc).unwrap(),
        b"byway/seal/v1/team-blue",
        &envelope.ciphertext,
        &aad,
    )
    .unwrap()
}

#[test]
fn of_several_faults_the_first_in_order_is_reported() {
    let revoking = Revoking(membership());
    let soon = NOW.plus(DAY).as_millis();
    let outer = |change: fn(&mut proto::SealedEnvelope)| {
        let mut envelope = proto::SealedEnvelope::decode(seal_bytes(b"nonsense", soon).envelope).unwrap();
        change(&mut envelope);
        let mail = Sealed { to: bob().peer(), envelope: envelope.encode_to_vec().into() };
        open_at(&mail, &revoking, NOW, None).unwrap_err()
    };
    let version = outer(|e| (e.version, e.suite, e.to_peer, e.expires_at) = (7, 7, vec![1; 32].into(), 0));
    assert_eq!(version, WireError::Version { what: "envelope", got: 7 });
    let suite = outer(|e| (e.suite, e.to_peer, e.expires_at) = (7, vec![1; 32].into(), 0));
    assert_eq!(suite, WireError::Version { what: "seal suite", got: 7 });
    let recipient = outer(|e| (e.to_peer, e.key_id, e.expires_at) = (vec![1; 32].into(), vec![0; 8].into(), 0));
    assert_eq!(recipient, WireError::WrongRecipient);
    assert_eq!(outer(|e| (e.key_id, e.expires_at) = (vec![0; 8].into(), 0)), WireError::UnknownKey);
    assert_eq!(outer(|e| e.expires_at = 0), WireError::Expired { what: "envelope" });
    assert_eq!(outer(|e| e.expires_at += 1), WireError::Undecryptable);

    let inner = |sign: bool, change: &dyn Fn(&mut proto::Content)| {
        let mut content = alice_to_bob();
        change(&mut content);
        let mut plain = signed_content(content.encode_to_vec());
        if !sign {
            *plain.last_mut().unwrap() ^= 1;
        }
        open_at(&seal_bytes(&plain, soon), &revoking, NOW, None).unwrap_err()
    };
    let stranger = |c: &mut proto::Content| c.sender_record.clear();
    let expiry = |c: &mut proto::Content| c.expires_at += 1;
    let names = |c: &mut proto::Content| c.to_peer = c.from_peer.clone();
    let all = |c: &mut proto::Content| {
        stranger(c);
        names(c);
        expiry(c);
    };
    assert_eq!(inner(false, &all), WireError::BadSignature { what: "content" });
    assert_eq!(inner(true, &all), WireError::UnknownSender { peer: alice().peer() });
    let both = |c: &mut proto::Content| {
        names(c);
        expiry(c);
    };
    assert_eq!(inner(true, &both), WireError::Mismatch { what: "to_peer" });
    assert_eq!(inner(true, &expiry), WireError::Mismatch { what: "expires_at" });
    let revoked = inner(true, &|_| ());
    assert!(matches!(revoked, WireError::Credential { kind: MembershipErrorKind::Revoked, .. }), "{revoked}");
}

#[test]
fn names_inside_must_match() {
    assert!(hostile(|_| ()).is_ok(), "unchanged it is good");
    let mismatch = |what| WireError::Mismatch { what };
    assert_eq!(hostile(|c| c.network_id = "team-red".to_owned()).unwrap_err(), WireError::WrongNetwork);
    assert_eq!(hostile(|c| c.from_user = "bob".to_owned()).unwrap_err(), mismatch("from_user"));
    assert_eq!(hostile(|c| c.to_peer = c.from_peer.clone()).unwrap_err(), mismatch("to_peer"));
    assert_eq!(hostile(|c| c.expires_at += 1).unwrap_err(), mismatch("expires_at"));
    let carol = person("carol", 3);
    let key = Bytes::copy_from_slice(carol.peer().as_bytes());
    assert_eq!(hostile(|c| c.from_peer = key).unwrap_err(), WireError::BadSignature { what: "content" });
    let record = carol.record().bytes().clone();
    assert_eq!(hostile(|c| c.sender_record = record).unwrap_err(), mismatch("record"));
}

#[test]
fn malformed_content_is_refused() {
    let malformed = |change: fn(&mut proto::Content)| matches!(hostile(change), Err(WireError::Malformed { .. }));
    assert!(malformed(|c| c.body = None));
    assert!(malformed(|c| c.message_id.truncate(15)));
    assert!(malformed(|c| c.reply_to.truncate(15)));
    assert!(malformed(|c| c.to_user.clear()));
    assert!(malformed(|c| c.body = Some(proto::content::Body::Receipt(proto::Receipt::default()))));
    assert!(malformed(|c| c.body = Some(proto::content::Body::Signal(proto::Signal::default()))));
    assert!(malformed(|c| {
        let receipt = proto::Receipt { kind: 1, message_ids: vec![], at: 0 };
        c.body = Some(proto::content::Body::Receipt(receipt));
    }));
}

#[test]
fn times_inside_are_brought_into_bounds() {
    let opened = hostile(|c| c.sent_at = i64::MIN).unwrap();
    assert_eq!(opened.content.sent_at, NOW.minus(30 * DAY));
    assert_eq!(hostile(|c| c.sent_at = i64::MAX).unwrap().content.sent_at, NOW.plus(14 * DAY));
    assert_eq!(hostile(|c| c.padding = vec![0; 100].into()).unwrap().content, alice().content(&bob()));
}

/// Everybody is who they say, and alice was revoked.
#[derive(Debug)]
struct Revoking(OpenMembership);

impl Membership for Revoking {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        let member = self.0.verify(credential, key, now)?;
        match member.user.as_str() {
            "alice" => Err(MembershipError::new(MembershipErrorKind::Revoked, "test", "")),
            _ => Ok(member),
        }
    }
}

#[test]
fn a_revoked_sender_is_refused_also_when_the_record_was_good_before() {
    let (alice, bob) = (alice(), bob());
    let revoking = Revoking(membership());
    let revoked = |r: Result<Opened, WireError>| {
        assert!(matches!(r, Err(WireError::Credential { kind: MembershipErrorKind::Revoked, .. })), "{r:?}");
    };
    revoked(open_at(&alice.mail(&bob), &revoking, NOW, None));
    let content = Content { sender_record: None, ..alice.content(&bob) };
    revoked(open_at(&alice.seal_to(&bob, &content).unwrap(), &revoking, NOW, Some(alice.record())));
}

#[test]
fn sealing_refuses_what_does_not_fit_together() {
    let (alice, bob) = (alice(), bob());
    let content = alice.content(&bob);
    let with = bob.seal.public(NOW);
    let try_seal = |key, to, with: &_, expires_at| seal(&content, key, to, with, expires_at, [0; 32]).map(|_| ());
    let mismatch = |what| Err(WireError::Mismatch { what });
    assert_eq!(try_seal(&bob.key, bob.peer(), &with, content.expires_at), mismatch("from_peer"));
    assert_eq!(try_seal(&alice.key, alice.peer(), &with, content.expires_at), mismatch("to_peer"));
    assert_eq!(try_seal(&alice.key, bob.peer(), &with, NOW), mismatch("expires_at"));
    let mut other = with.clone();
    other.suite = 2;
    let version = WireError::Version { what: "seal key", got: 2 };
    assert_eq!(try_seal(&alice.key, bob.peer(), &other, content.expires_at), Err(version));
    other = with;
    other.public_key = [0; 32];
    assert!(try_seal(&alice.key, bob.peer(), &other, content.expires_at).is_err(), "a key without secrecy");
}

#[test]
fn a_carrier_sees_recipient_and_expiry_and_names_it_independently_of_what_was_appended() {
    let mail = alice().mail(&bob());
    let head = peek(&mail.envelope).unwrap();
    assert_eq!((head.to, head.expires_at, head.version, head.suite), (bob().peer(), NOW.plus(DAY), 1, 1));
    let id = envelope_id(&mail).unwrap();
    let appended = [&mail.envelope[..], &[0x7a, 0x01, 0x00]].concat();
    let appended = Sealed { to: mail.to, envelope: appended.into() };
    assert_eq!(envelope_id(&appended), Ok(id));
    assert!(open_by_bob(&appended).is_ok());
    let mut other: EnvelopeId = id;
    for changed in [1, 2] {
        let content = Content { seq: changed, ..alice().content(&bob()) };
        let next = envelope_id(&alice().seal_to(&bob(), &content).unwrap()).unwrap();
        assert_ne!(next, std::mem::replace(&mut other, next));
    }
}

#[test]
fn another_network_cannot_open_it() {
    let mail = alice().mail(&bob());
    let red = NetworkId::new("team-red").unwrap();
    let opened = open(&mail, bob().peer(), &[bob().seal], &red, &OpenMembership::new(red.clone()), NOW, |_| None);
    assert_eq!(opened.unwrap_err(), WireError::Undecryptable);
}

/// Not random at all; secrecy is not what these tests are about.
pub(crate) struct Counting(u8);

impl hpke::rand_core::TryRng for Counting {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for byte in out {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl hpke::rand_core::TryCryptoRng for Counting {}
