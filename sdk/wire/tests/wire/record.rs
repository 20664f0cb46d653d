//! Signed records and beacons.

use bytes::Bytes;
use byway_api::{MembershipErrorKind, NetworkId, Trust, WallTime};
use byway_wire::{Beacon, Domain, OpenMembership, VerifiedRecord, WireError, limits, proto};
use prost::Message as _;

use crate::common::*;

/// A record of alice with changes that a draft cannot make, properly signed.
pub(crate) fn signed(change: impl FnOnce(&mut proto::PeerRecord)) -> Bytes {
    let alice = alice();
    let signed = proto::Signed::decode(alice.record().bytes().clone()).unwrap();
    let mut record = proto::PeerRecord::decode(signed.payload).unwrap();
    change(&mut record);
    sign_payload(record.encode_to_vec())
}

/// Any payload, signed by alice as a record.
pub(crate) fn sign_payload(payload: Vec<u8>) -> Bytes {
    let signature = Bytes::copy_from_slice(&alice().key.sign(Domain::PeerRecord, &payload));
    proto::Signed { payload: payload.into(), signature, credential: String::new() }.encode_to_vec().into()
}

pub(crate) fn verify(bytes: &Bytes) -> Result<VerifiedRecord, WireError> {
    VerifiedRecord::verify(bytes, &network(), &membership(), NOW)
}

#[test]
fn a_record_says_what_was_signed() {
    let alice = alice();
    let record = verify(alice.record().bytes()).unwrap();
    let draft = alice.draft();
    assert_eq!((record.peer(), record.user(), record.seq()), (alice.peer(), &draft.user, 5));
    assert_eq!((record.issued_at(), record.expires_at()), (NOW, NOW.plus(WEEK)));
    assert_eq!(record.addresses(), draft.addresses);
    assert_eq!(record.capabilities(), draft.capabilities);
    assert_eq!(record.seal_keys(), draft.seal_keys);
    assert_eq!(record.coordinators(), draft.coordinators);
    assert_eq!(record.credential(), draft.credential);
    assert_eq!(record.member().trust, Trust::Unverified);
    assert!(record.has_capability("relay") && record.has_capability("coordinator"));
    assert!(!record.has_capability("coord") && !record.has_capability("listener"));
    assert_eq!(record, alice.record());
    assert_ne!(record, bob().record());
}

#[test]
fn what_was_appended_is_not_kept() {
    let mut bytes = alice().record().bytes().to_vec();
    bytes.extend_from_slice(&[0x7a, 0x01, 0x00]);
    assert_eq!(verify(&bytes.into()).unwrap(), alice().record());
}

#[test]
fn a_record_does_not_hold_the_frame_it_came_in() {
    let frame = Bytes::from([&[0; 1000][..], alice().record().bytes(), &[0; 1000]].concat());
    let record = verify(&frame.slice(1000..frame.len() - 1000)).unwrap();
    assert!(frame.is_unique(), "the frame can be freed");
    assert_eq!(record, alice().record());
}

#[test]
fn a_record_must_be_for_the_network_and_its_user() {
    assert_eq!(verify(&signed(|r| r.network_id = "team-red".to_owned())).unwrap_err(), WireError::WrongNetwork);
    let mismatch = WireError::Mismatch { what: "user" };
    assert_eq!(verify(&signed(|r| r.user_id = "bob".to_owned())).unwrap_err(), mismatch);
    let other = NetworkId::new("team-red").unwrap();
    let red = OpenMembership::new(other.clone());
    let wrong = VerifiedRecord::verify(&signed(|r| r.network_id = "team-red".to_owned()), &other, &red, NOW);
    assert!(matches!(wrong, Err(WireError::Credential { kind: MembershipErrorKind::WrongNetwork, .. })));
}

#[test]
fn a_record_must_carry_a_credential_for_its_own_key() {
    let stolen = verify(&signed(|r| (r.credential, r.user_id) = (bob().token(), "bob".to_owned())));
    assert!(matches!(stolen, Err(WireError::Credential { kind: MembershipErrorKind::WrongKey, .. })));
    assert!(matches!(verify(&signed(|r| r.credential.clear())), Err(WireError::Credential { .. })));
}

#[test]
fn a_record_of_another_key_is_refused() {
    let key = Bytes::copy_from_slice(bob().peer().as_bytes());
    assert_eq!(verify(&signed(|r| r.peer_key = key)).unwrap_err(), WireError::BadSignature { what: "record" });
}

#[test]
fn the_life_of_a_record_is_bounded() {
    let at = |issued: i64, expires: i64| {
        verify(&signed(|r| {
            r.issued_at = issued;
            r.expires_at = expires;
        }))
        .map(|r| r.expires_at())
    };
    let now = NOW.as_millis();
    let life = limits::RECORD_LIFE.as_millis() as i64;
    let skew = limits::CLOCK_SKEW.as_millis() as i64;
    assert_eq!(at(now, now + life), Ok(NOW.plus(limits::RECORD_LIFE)));
    assert!(matches!(at(now, now + life + 1), Err(WireError::Malformed { .. })));
    assert!(matches!(at(now, now), Err(WireError::Malformed { .. })));
    assert_eq!(at(now - 10, now), Err(WireError::Expired { what: "record" }));
    assert_eq!(at(now + skew + 1, now + skew + 2), Err(WireError::NotYetValid { what: "record" }));
    assert_eq!(at(now + skew, now + skew + life), Ok(NOW.plus(limits::FUTURE_MAX)), "brought into bounds");
    for (issued, expires) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (now, i64::MAX), (i64::MIN, now)] {
        assert!(at(issued, expires).is_err(), "{issued} {expires}");
    }
    assert!(matches!(at(i64::MAX - 1, i64::MAX), Err(WireError::NotYetValid { .. })));
    assert!(matches!(at(i64::MIN, i64::MIN + 1), Err(WireError::Expired { .. })));
}

#[test]
fn malformed_parts_are_refused() {
    let wrong: [Bytes; 6] = [
        signed(|r| r.addresses = vec!["nothing".to_owned()]),
        signed(|r| r.capabilities = vec![String::new()]),
        signed(|r| r.capabilities = vec!["a b".to_owned()]),
        signed(|r| r.coordinators = vec![Bytes::from_static(&[1; 31])]),
        signed(|r| r.seal_keys[0].public_key.truncate(31)),
        signed(|r| r.peer_key.truncate(31)),
    ];
    for bytes in &wrong {
        assert!(matches!(verify(bytes), Err(WireError::Malformed { .. })));
    }
}

#[test]
fn seal_keys_of_other_suites_are_left_out() {
    let record = verify(&signed(|r| {
        r.seal_keys.push(proto::SealKey { suite: 2, public_key: Bytes::from_static(&[1; 1216]), not_after: 0 });
    }));
    assert_eq!(record.unwrap().seal_keys(), alice().draft().seal_keys);
}

#[test]
fn a_draft_that_others_would_refuse_is_not_signed() {
    let mut draft = alice().draft();
    draft.user = user("bob");
    assert!(draft.sign(&alice().key, &membership(), NOW).is_err());
}

#[test]
fn a_beacon_is_good_for_its_network_and_time() {
    let beacon = Beacon::sign(&alice().key, &network(), NOW);
    assert_eq!(beacon.verify(&network()), Ok(()));
    assert!(beacon.verify(&NetworkId::new("team-red").unwrap()).is_err());
    assert!(Beacon { peer: bob().peer(), ..beacon }.verify(&network()).is_err());
    assert!(Beacon { at: WallTime::from_millis(NOW.as_millis() + 1), ..beacon }.verify(&network()).is_err());
}
