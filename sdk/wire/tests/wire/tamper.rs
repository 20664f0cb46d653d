//! Every single-bit flip and every truncation of everything that is signed is refused.

use bytes::Bytes;
use byway_api::{Membership as _, PeerId, Proof, Sealed, WallTime};
use byway_wire::{Beacon, HelloStep, Role, check_proof, envelope_id, make_proof};

use crate::common::*;
use crate::hello::sent;
use crate::record::verify;
use crate::seal::open_by_bob;

/// Every variant of `bytes` with one bit changed, and every shorter one.
fn each_damage(bytes: &[u8], mut check: impl FnMut(Bytes, String)) {
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        check(changed.into(), format!("bit {bit}"));
    }
    for len in 0..bytes.len() {
        check(Bytes::copy_from_slice(&bytes[..len]), format!("cut to {len}"));
    }
}

#[test]
fn of_a_record() {
    let record = alice().record();
    assert!(verify(record.bytes()).is_ok());
    each_damage(record.bytes(), |bytes, how| assert!(verify(&bytes).is_err(), "{how}"));
}

#[test]
fn of_an_envelope() {
    let mail = alice().mail(&bob());
    let id = envelope_id(&mail).unwrap();
    assert!(open_by_bob(&mail).is_ok());
    each_damage(&mail.envelope, |envelope, how| {
        let damaged = Sealed { to: mail.to, envelope };
        assert!(open_by_bob(&damaged).is_err(), "{how}");
        assert_ne!(envelope_id(&damaged).ok(), Some(id), "{how}");
    });
}

#[test]
fn of_a_beacon() {
    let beacon = Beacon::sign(&alice().key, &network(), NOW);
    let whole = [&beacon.peer.as_bytes()[..], &NOW.as_millis().to_be_bytes(), &beacon.signature].concat();
    let read = |bytes: &[u8]| {
        Some(Beacon {
            peer: PeerId::from_slice(bytes.get(..32)?).ok()?,
            at: WallTime::from_millis(i64::from_be_bytes(bytes.get(32..40)?.try_into().ok()?)),
            signature: bytes.get(40..)?.try_into().ok()?,
        })
    };
    let good = |bytes: &[u8]| read(bytes).is_some_and(|b| b.verify(&network()).is_ok());
    assert!(good(&whole));
    each_damage(&whole, |bytes, how| assert!(!good(&bytes), "{how}"));
}

fn text(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[test]
fn of_a_token() {
    let token = alice().token();
    let good = |token: &str| membership().verify(token, &alice().peer(), NOW).is_ok();
    assert!(good(&token));
    each_damage(token.as_bytes(), |bytes, how| assert!(!text(&bytes).is_some_and(good), "{how}"));
}

#[test]
fn of_a_proof() {
    let proof = make_proof(&alice().key, &alice().token(), "WS", "target", "nonce", NOW, [1; 16]);
    let good = |proof: &Proof| check_proof(proof, "WS", "target", "nonce", NOW).is_ok();
    assert!(good(&proof));
    each_damage(proof.proof.as_bytes(), |bytes, how| {
        let damaged = text(&bytes).map(|text| Proof { proof: text.to_owned(), ..proof.clone() });
        assert!(!damaged.is_some_and(|p| good(&p)), "{how}");
    });
    each_damage(proof.credential.as_bytes(), |bytes, how| {
        let damaged = text(&bytes).map(|text| Proof { credential: text.to_owned(), ..proof.clone() });
        assert!(!damaged.is_some_and(|p| good(&p)), "credential, {how}");
    });
}

/// Plays a handshake in which what alice (the dialer) sends is changed on the way. True if bob ends
/// up with a link to her.
fn bob_accepts(hello: impl Fn(Bytes) -> Bytes, auth: impl Fn(Bytes) -> Bytes) -> bool {
    let (alice, bob) = (alice(), bob());
    let (mut dialer, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, hello_b) = bob.start(Role::Answerer);
    if !matches!(bob.take(&mut answerer, hello(hello_a)), Ok(HelloStep::Send(_))) {
        return false;
    }
    let auth_a = sent(alice.take(&mut dialer, hello_b).unwrap());
    matches!(bob.take(&mut answerer, auth(auth_a)), Ok(HelloStep::Done { .. }))
}

#[test]
fn of_a_hello() {
    assert!(bob_accepts(|hello| hello, |auth| auth));
    let (_, hello) = alice().start(Role::Dialer);
    each_damage(&hello, |bytes, how| assert!(!bob_accepts(|_| bytes.clone(), |auth| auth), "{how}"));
}

#[test]
fn of_a_hello_signature() {
    let (mut dialer, _) = alice().start(Role::Dialer);
    let (_, hello_b) = bob().start(Role::Answerer);
    let auth = sent(alice().take(&mut dialer, hello_b).unwrap());
    each_damage(&auth, |bytes, how| assert!(!bob_accepts(|hello| hello, |_| bytes.clone()), "{how}"));
}
