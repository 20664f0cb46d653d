//! Typed frames survive the wire, and the hand-written paths equal the generated code.

use bytes::{Bytes, BytesMut};
use byway_api::{CloseCode, Sealed, SignalAddress};
use byway_wire::{
    Batch, Beacon, DecodeContext, Frame, Goodbye, Lane, NetworkState, PeerFound, PeerQuery, Presence, ReceiptKind,
    Receipts, Relay, RelayAck, RelayStatus, WireError, decode, limits, proto,
};
use proptest::prelude::*;
use prost::Message as _;

use crate::common::*;

/// One of every kind.
pub(crate) fn all() -> Vec<Frame> {
    let (alice, bob) = (alice(), bob());
    let presence = Presence {
        peer: alice.peer(),
        record_seq: 5,
        seen_at: NOW,
        beacon: Some(Beacon::sign(&alice.key, &network(), NOW)),
        link: true,
        age_s: 7,
    };
    vec![
        Frame::Query(PeerQuery { user: user("bob"), request_id: "q1".to_owned(), hops: 1, deadline_ms: 600 }),
        Frame::Found(PeerFound {
            user: user("bob"),
            request_id: "q1".to_owned(),
            address: Some(SignalAddress::through(alice.peer())),
            last_seen: NOW,
            can_relay: true,
            records: vec![bob.record()],
        }),
        Frame::State(NetworkState {
            online_members: vec![user("alice"), user("bob")],
            coordinators: vec![alice.peer()],
            timestamp: NOW,
            presence: vec![presence, Presence { peer: bob.peer(), beacon: None, link: false, ..presence }],
            records: vec![alice.record()],
            revocation_seq: 3,
            delta: true,
            digest: Some([6; 16]),
            want_full: true,
            want_records: vec![bob.peer()],
        }),
        Frame::Direct(direct(b"hi")),
        Frame::Receipts(Receipts { kind: ReceiptKind::Delivered, messages: vec![message(1), message(2)], at: NOW }),
        Frame::Relay(Relay { mail: alice.mail(&bob), request_id: Bytes::from_static(b"r1") }),
        Frame::RelayAck(RelayAck { request_id: Bytes::from_static(b"r1"), status: RelayStatus::NotConnected }),
        Frame::Ping(7),
        Frame::Pong(u64::MAX),
        Frame::Heartbeat,
        Frame::Goodbye(Goodbye { code: CloseCode::FULL, records: vec![bob.record()] }),
    ]
}

#[test]
fn every_frame_survives_the_wire_alone_and_in_a_batch() {
    let mut batch = Batch::new(limits::FRAME_MAX);
    for frame in all() {
        let bytes = encode_frame(&frame);
        assert_eq!(bytes.len(), frame.encoded_len(), "{frame:?}");
        let (read, decoded) = decode_frame(bytes).unwrap();
        assert_eq!(read, std::slice::from_ref(&frame));
        assert_eq!(decoded.dropped, 0);
        assert!(batch.push(&frame));
    }
    assert_eq!(decode_frame(batch.take()).unwrap().0, all());
    assert!(batch.is_empty());
}

#[test]
fn a_batch_says_when_a_frame_does_not_fit_and_goes_on_after_take() {
    let frame = Frame::Direct(direct(&[1; 100]));
    let len = frame.encoded_len();
    let mut batch = Batch::new(2 * len + 1);
    assert!(batch.push(&frame) && batch.push(&frame));
    assert!(!batch.push(&frame));
    assert_eq!(batch.len(), 2 * len);
    assert_eq!(decode_frame(batch.take()).unwrap().0.len(), 2);
    assert!(batch.push(&frame));
    assert!(!Batch::new(len - 1).push(&frame));
}

#[test]
fn a_batch_uses_its_buffer_again() {
    let frame = Frame::Direct(direct(&[1; 1000]));
    let mut batch = Batch::new(limits::FRAME_MAX);
    let mut starts = Vec::new();
    for _ in 0..10 {
        while batch.push(&frame) {}
        let bytes = batch.take();
        starts.push(bytes.as_ptr());
    }
    // The first one grows step by step; then one buffer serves.
    assert!(starts[2..].iter().all(|start| *start == starts[2]), "{starts:?}");
}

#[test]
fn messages_and_mail_are_the_data_lane() {
    for frame in all() {
        let data = matches!(frame, Frame::Direct(_) | Frame::Relay(_));
        assert_eq!(frame.lane() == Lane::Data, data, "{frame:?}");
    }
}

#[test]
fn bodies_are_slices_of_the_frame() {
    let bytes = encode_frame(&Frame::Direct(direct(b"no copy, please")));
    let range = bytes.as_ptr_range();
    let (frames, _) = decode_frame(bytes).unwrap();
    let Frame::Direct(direct) = &frames[0] else { panic!("{frames:?}") };
    assert!(range.contains(&direct.body.as_ptr()));
}

#[test]
fn what_a_newer_version_says_is_dropped_and_not_an_error() {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&[0x05, 0xa2, 0x06, 0x02, 0x08, 0x01]); // field 100
    bytes.extend_from_slice(&[0x00]); // an empty Frame
    bytes.extend_from_slice(&encode_frame(&Frame::Ping(1)));
    bytes.extend_from_slice(&raw_frame(proto::frame::Body::Store(proto::StoreMessage::default())));
    let unknown_status = proto::RelayAck { request_id: Bytes::new(), status: 99 };
    bytes.extend_from_slice(&raw_frame(proto::frame::Body::RelayAck(unknown_status)));
    let unknown_kind = proto::Receipts { receipts: vec![proto::Receipt { kind: 99, ..Default::default() }] };
    bytes.extend_from_slice(&raw_frame(proto::frame::Body::Receipts(unknown_kind)));
    let (frames, decoded) = decode_frame(bytes.freeze()).unwrap();
    assert_eq!(frames, [Frame::Ping(1)]);
    assert_eq!(decoded.dropped, 5);
}

#[test]
fn several_receipts_in_a_frame_become_several_frames() {
    let receipt = |kind: i32, id: u8| proto::Receipt {
        kind,
        message_ids: vec![Bytes::copy_from_slice(&[id; 16])],
        at: NOW.as_millis(),
    };
    let receipts = proto::Receipts { receipts: vec![receipt(1, 1), receipt(2, 2)] };
    let (frames, _) = decode_frame(raw_frame(proto::frame::Body::Receipts(receipts))).unwrap();
    assert_eq!(
        frames,
        [
            Frame::Receipts(Receipts { kind: ReceiptKind::Delivered, messages: vec![message(1)], at: NOW }),
            Frame::Receipts(Receipts { kind: ReceiptKind::Read, messages: vec![message(2)], at: NOW }),
        ]
    );
}

#[test]
fn records_that_do_not_verify_are_dropped_and_counted() {
    let mut bad = bob().record().bytes().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    let found = |records| {
        raw_frame(proto::frame::Body::Found(proto::PeerFound {
            user_id: "bob".to_owned(),
            records,
            ..Default::default()
        }))
    };
    let good = bob().record();
    let (frames, decoded) = decode_frame(found(vec![bad.clone().into(), good.bytes().clone()])).unwrap();
    let Frame::Found(found_bob) = &frames[0] else { panic!("{frames:?}") };
    assert_eq!((found_bob.records.as_slice(), decoded.dropped), (&[good][..], 1));

    // Without any record of bob the answer says nothing.
    let (frames, decoded) = decode_frame(found(vec![bad.into(), alice().record().bytes().clone()])).unwrap();
    assert_eq!((frames.len(), decoded.dropped), (0, 3));
}

#[test]
fn a_false_beacon_is_dropped_and_the_hint_stays() {
    let mut frames = all();
    let Frame::State(state) = &mut frames[2] else { unreachable!() };
    let Some(beacon) = &mut state.presence[0].beacon else { unreachable!() };
    beacon.at = beacon.at.plus(DAY);
    let (read, decoded) = decode_frame(encode_frame(&frames[2])).unwrap();
    let Frame::State(read) = &read[0] else { panic!("{read:?}") };
    assert_eq!((read.presence.len(), read.presence[0].beacon, decoded.dropped), (2, None, 1));
}

#[test]
fn a_known_record_is_not_verified_again_and_an_ended_one_is_not_taken() {
    let record = bob().record();
    let (network, membership) = (network(), membership());
    let known = |bytes: &[u8]| (bytes == b"the bytes of bob's record").then(|| bob().record());
    let frame = raw_frame(proto::frame::Body::Goodbye(proto::Goodbye {
        code: 1,
        records: vec![Bytes::from_static(b"the bytes of bob's record")],
    }));
    let mut out = Vec::new();
    let mut cx = DecodeContext { network: &network, membership: &membership, now: NOW, records: &known };
    decode(frame.clone(), &cx, &mut out).unwrap();
    assert_eq!(out, [Frame::Goodbye(Goodbye { code: CloseCode::NORMAL, records: vec![record.clone()] })]);

    cx.now = record.expires_at();
    out.clear();
    assert_eq!(decode(frame, &cx, &mut out).unwrap().dropped, 1);
}

#[test]
fn a_broken_frame_is_refused_as_a_whole() {
    let mut bytes = encode_frame(&Frame::Ping(1)).to_vec();
    bytes.extend_from_slice(&[0x02, 0x0a]);
    let (network, membership) = (network(), membership());
    let cx = DecodeContext { network: &network, membership: &membership, now: NOW, records: &|_| None };
    let mut out = vec![Frame::Heartbeat];
    assert!(matches!(decode(bytes.into(), &cx, &mut out), Err(WireError::Malformed { .. })));
    assert_eq!(out, [Frame::Heartbeat]);
}

#[test]
fn two_bodies_in_one_frame_are_refused() {
    assert!(decode_frame(vec![0x04, 0x6a, 0x00, 0x6a, 0x00]).is_err());
    assert!(decode_frame(vec![0x02, 0x68, 0x00]).is_err());
}

#[test]
fn a_relay_frame_names_the_device_of_its_envelope() {
    let mail = alice().mail(&bob());
    let wrong =
        Frame::Relay(Relay { mail: Sealed { to: alice().peer(), envelope: mail.envelope }, request_id: Bytes::new() });
    assert_eq!(decode_frame(encode_frame(&wrong)).unwrap_err(), WireError::WrongRecipient);
}

#[test]
fn a_direct_message_carries_no_names() {
    let direct = |content: proto::Content| {
        let body = Some(proto::content::Body::App(Bytes::from_static(b"x")));
        let message_id = Bytes::copy_from_slice(&[1; 16]);
        decode_frame(raw_frame(proto::frame::Body::Direct(proto::Content { message_id, body, ..content })))
    };
    let content = proto::Content::default;
    assert_eq!(direct(content()).unwrap().1.dropped, 0);
    assert_eq!(direct(proto::Content { network_id: "team-blue".to_owned(), ..content() }).unwrap().1.dropped, 0);
    let other = direct(proto::Content { network_id: "team-red".to_owned(), ..content() });
    assert_eq!(other.unwrap_err(), WireError::WrongNetwork);
    assert_eq!(direct(proto::Content { from_user: "mallory".to_owned(), ..content() }).unwrap().1.dropped, 1);
    assert_eq!(direct(proto::Content { to_peer: Bytes::from_static(&[1]), ..content() }).unwrap().1.dropped, 1);
}

fn generated(direct: &byway_wire::Direct) -> Bytes {
    raw_frame(proto::frame::Body::Direct(proto::Content {
        message_id: Bytes::copy_from_slice(direct.message.as_bytes()),
        sent_at: direct.sent_at.as_millis(),
        expires_at: direct.expires_at.as_millis(),
        reply_to: direct.reply_to.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
        body: Some(proto::content::Body::App(direct.body.clone())),
        seq: direct.seq,
        epoch: direct.epoch,
        floor: direct.floor,
        ..Default::default()
    }))
}

proptest! {
    #[test]
    fn a_direct_message_is_what_the_generated_code_writes_and_reads(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        id in any::<[u8; 16]>(),
        reply_to in proptest::option::of(any::<[u8; 16]>()),
        numbers in any::<[u64; 3]>(),
        ago in 0..1_000_000u32,
    ) {
        let small = numbers[0] % 3;
        let direct = byway_wire::Direct {
            message: byway_api::MessageId::from_bytes(id),
            epoch: numbers[1] * small.min(1),
            seq: numbers[2] >> (numbers[0] % 64),
            floor: small,
            sent_at: byway_api::WallTime::from_millis(NOW.as_millis() - i64::from(ago)),
            expires_at: NOW,
            reply_to: reply_to.map(byway_api::MessageId::from_bytes),
            body: body.into(),
        };
        let frame = Frame::Direct(direct.clone());
        let bytes = encode_frame(&frame);
        prop_assert_eq!(&bytes, &generated(&direct));
        prop_assert_eq!(bytes.len(), frame.encoded_len());
        prop_assert_eq!(decode_frame(bytes).unwrap().0, [frame]);
    }

    #[test]
    fn a_direct_message_is_read_as_the_generated_code_reads_it(content in mutated_content()) {
        let mut frame = vec![0x5a];
        prost::encode_length_delimiter(content.len(), &mut frame).unwrap();
        frame.extend_from_slice(&content);
        let mut whole = Vec::new();
        prost::encode_length_delimiter(frame.len(), &mut whole).unwrap();
        whole.extend_from_slice(&frame);
        let Ok((frames, _)) = decode_frame(whole) else { return Ok(()) };
        let Some(Frame::Direct(direct)) = frames.first() else { return Ok(()) };
        let read = proto::Content::decode(&content[..]).unwrap();
        prop_assert_eq!(&read.message_id[..], direct.message.as_bytes());
        prop_assert_eq!((read.seq, read.epoch, read.floor), (direct.seq, direct.epoch, direct.floor));
        prop_assert_eq!(read.body, Some(proto::content::Body::App(direct.body.clone())));
    }
}

fn mutated_content() -> impl Strategy<Value = Vec<u8>> {
    let content = proto::Content {
        message_id: Bytes::copy_from_slice(&[1; 16]),
        sent_at: NOW.as_millis(),
        body: Some(proto::content::Body::App(Bytes::from_static(b"xy"))),
        seq: 300,
        epoch: 5,
        ..Default::default()
    }
    .encode_to_vec();
    let len = content.len();
    proptest::collection::vec((0..len, any::<u8>()), 0..3).prop_map(move |changes| {
        let mut bytes = content.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}
