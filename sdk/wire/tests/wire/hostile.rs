//! No decoder panics, whatever it is given: arbitrary bytes, damaged valid bytes, and well-signed
//! nonsense that gets past the signatures.

use bytes::Bytes;
use byway_api::{Membership as _, NetworkId, PeerId, Proof, Sealed, SignalAddress, UserId};
use byway_wire::{Role, SocketFrame, base64url, check_proof, envelope_id, make_proof, peek};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::common::*;
use crate::seal::{hostile, open_by_bob, seal_bytes, signed_content};
use crate::{frames, record, socket};

/// Gives the bytes to every decoder there is.
fn all_decoders(bytes: &Bytes) {
    let _ = decode_frame(bytes.clone());
    let _ = record::verify(bytes);
    let _ = peek(bytes);
    let mail = Sealed { to: bob().peer(), envelope: bytes.clone() };
    let _ = envelope_id(&mail);
    let _ = open_by_bob(&mail);
    let _ = SocketFrame::decode(bytes.clone());
    for role in [Role::Dialer, Role::Answerer] {
        let bob = bob();
        let (mut handshake, _) = bob.start(role);
        let _ = bob.take(&mut handshake, bytes.clone());
        // And once more after a genuine Hello.
        let (mut handshake, _) = bob.start(role);
        let (_, hello) = alice().start(Role::Dialer);
        bob.take(&mut handshake, hello).unwrap();
        let _ = bob.take(&mut handshake, bytes.clone());
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = base64url::decode(&text);
    let _ = membership().verify(&text, &alice().peer(), NOW);
    let proof = Proof { credential: alice().token(), proof: text.clone().into_owned() };
    let _ = check_proof(&proof, "GET", "t", "n", NOW);
    let _ = (NetworkId::new(&text), UserId::new(&text), text.parse::<PeerId>(), SignalAddress::new(&text));
}

/// One valid example of everything that is decoded.
fn examples() -> Vec<Bytes> {
    let (alice, bob) = (alice(), bob());
    let mut all: Vec<Bytes> = frames::all().iter().map(encode_frame).collect();
    all.extend(socket::all().iter().map(SocketFrame::encode));
    all.push(alice.record().bytes().clone());
    all.push(alice.mail(&bob).envelope);
    all.push(alice.start(Role::Dialer).1);
    all.push(alice.token().into());
    all.push(make_proof(&alice.key, &alice.token(), "GET", "t", "n", NOW, [0; 16]).proof.into());
    all
}

fn damaged() -> impl Strategy<Value = Bytes> {
    let examples = examples();
    let change = (any::<Index>(), any::<u8>(), 0..4u8);
    (any::<Index>(), proptest::collection::vec(change, 1..6)).prop_map(move |(which, changes)| {
        let mut bytes = which.get(&examples).to_vec();
        for (at, byte, how) in changes {
            damage(&mut bytes, at, byte, how);
        }
        bytes.into()
    })
}

fn damage(bytes: &mut Vec<u8>, at: Index, byte: u8, how: u8) {
    if bytes.is_empty() {
        return;
    }
    let at = at.index(bytes.len());
    match how {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
}

/// A field of protobuf with a number of ours and any value.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any::<u64>().prop_map(|n| (0u8, varint(n))),
        any::<[u8; 8]>().prop_map(|b| (1, b.to_vec())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| (2, [varint(b.len() as u64), b].concat())),
        any::<[u8; 4]>().prop_map(|b| (5, b.to_vec())),
    ];
    (1..20u64, value).prop_map(|(number, (kind, value))| [varint(number << 3 | u64::from(kind)), value].concat())
}

fn varint(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(n, &mut out);
    out
}

fn fields() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(field(), 0..12).prop_map(|fields| fields.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        all_decoders(&bytes.into());
    }

    #[test]
    fn plausible_protobuf(inner in fields(), number in 1..18u32) {
        let nested = [varint(u64::from(number << 3 | 2)), varint(inner.len() as u64), inner.clone()].concat();
        all_decoders(&inner.into());
        all_decoders(&nested.clone().into());
        all_decoders(&[varint(nested.len() as u64), nested].concat().into());
    }

    #[test]
    fn damaged_examples(bytes in damaged()) {
        all_decoders(&bytes);
    }

    #[test]
    fn well_signed_nonsense_in_a_record(payload in fields()) {
        let with_key = [&[0x1a, 32][..], alice().peer().as_bytes(), &payload].concat();
        let _ = record::verify(&record::sign_payload(payload));
        let _ = record::verify(&record::sign_payload(with_key));
    }

    #[test]
    fn well_signed_damage_in_a_record(changes in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..4)) {
        use prost::Message as _;
        let signed = byway_wire::proto::Signed::decode(alice().record().bytes().clone()).unwrap();
        let mut payload = signed.payload.to_vec();
        for (at, byte, how) in changes {
            damage(&mut payload, at, byte, how);
        }
        let _ = record::verify(&record::sign_payload(payload));
    }

    #[test]
    fn well_sealed_nonsense(plain in fields(), payload in fields(), expires_at in any::<i64>()) {
        let soon = NOW.plus(DAY).as_millis();
        let _ = open_by_bob(&seal_bytes(&plain, soon));
        let _ = open_by_bob(&seal_bytes(&signed_content(payload), soon));
        let _ = open_by_bob(&seal_bytes(&plain, expires_at));
    }

    #[test]
    fn well_sealed_damage(changes in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..4)) {
        use prost::Message as _;
        let _ = hostile(|content| {
            let mut bytes = content.encode_to_vec();
            for (at, byte, how) in &changes {
                damage(&mut bytes, *at, *byte, *how);
            }
            if let Ok(damaged) = byway_wire::proto::Content::decode(&bytes[..]) {
                *content = damaged;
            }
        });
    }
}
