//! Each limit, reached and crossed.

use bytes::{Bytes, BytesMut};
use byway_api::{MessageId, Proof, Sealed, SignalAddress, WallTime};
use byway_wire::{
    Batch, Beacon, Body, Content, Direct, Frame, Receipt, ReceiptKind, Role, SocketErrorCode, SocketFrame, WireError,
    check_proof, envelope_id, limits, make_proof, peek, proto,
};
use prost::Message as _;
use proto::frame::Body as Raw;

use crate::common::*;
use crate::record::{signed, verify};
use crate::seal::{hostile, open_by_bob};

fn too_large<T: std::fmt::Debug>(what: &str, result: Result<T, WireError>) {
    assert!(matches!(&result, Err(WireError::TooLarge { .. })), "{what}: {result:?}");
}

fn raw(body: Raw) -> Result<(Vec<Frame>, byway_wire::Decoded), WireError> {
    decode_frame(raw_frame(body))
}

fn zeros(len: usize) -> Bytes {
    vec![0; len].into()
}

#[test]
fn frame_max() {
    let body = |len: usize| [&[0x80, 0x80, 0x04][..], &vec![0; len]].concat();
    too_large("frame", decode_frame(body(limits::FRAME_MAX)));
    assert!(matches!(decode_frame(body(limits::FRAME_MAX - 3)), Err(WireError::Malformed { .. })));
}

#[test]
fn frames_per_batch() {
    let frames = |n| (0..n).flat_map(|_| encode_frame(&Frame::Heartbeat)).collect::<Bytes>();
    assert_eq!(decode_frame(frames(limits::FRAMES_PER_BATCH)).unwrap().0.len(), limits::FRAMES_PER_BATCH);
    too_large("frames", decode_frame(frames(limits::FRAMES_PER_BATCH + 1)));
    let mut batch = Batch::new(limits::FRAME_MAX);
    for _ in 0..limits::FRAMES_PER_BATCH {
        assert!(batch.push(&Frame::Heartbeat));
    }
    assert!(!batch.push(&Frame::Heartbeat), "a sender keeps it too");
    batch.take();
    assert!(batch.push(&Frame::Heartbeat));
}

#[test]
fn hello_max() {
    let (bob, unknown) = (bob(), |len: usize| {
        let mut frame = BytesMut::new();
        let field = [&[0x42, 0x80, 0x20][..], &[0; 4096]].concat();
        frame.extend_from_slice(&[0x83, 0x20]);
        frame.extend_from_slice(&field);
        [&frame[..], &vec![0; len]].concat()
    });
    let (mut answerer, _) = bob.start(Role::Answerer);
    assert!(bob.take(&mut answerer, unknown(0).into()).is_ok());
    let (_, hello) = alice().start(Role::Dialer);
    let left = limits::HELLO_MAX - unknown(0).len() - hello.len();
    let pad = |n: usize| Bytes::from([&vec![0; n][..], &hello].concat());
    assert!(bob.take(&mut answerer, pad(left)).is_ok());

    let (mut answerer, _) = bob.start(Role::Answerer);
    assert!(bob.take(&mut answerer, unknown(0).into()).is_ok());
    assert!(bob.take(&mut answerer, pad(left + 1)).is_err(), "over all frames together");

    let (mut answerer, _) = bob.start(Role::Answerer);
    for _ in 0..limits::HELLO_MAX {
        assert!(bob.take(&mut answerer, Bytes::new()).is_ok());
    }
    assert!(bob.take(&mut answerer, Bytes::new()).is_err(), "empty frames count");
}

/// A record as large as records can be, of a user with the longest name.
fn large_record(sender: &Person) -> Bytes {
    let address = |n: usize| {
        let text = format!("x:{n}");
        SignalAddress::new(&format!("{text}{}", "y".repeat(SignalAddress::MAX - text.len()))).unwrap()
    };
    let mut draft = sender.draft();
    draft.addresses = (0..limits::RECORD_ADDRESSES).map(address).collect();
    draft.capabilities = (0..12).map(|n| format!("{n:0>64}")).collect();
    draft.coordinators = vec![sender.peer(); 4];
    let record = draft.sign(&sender.key, &membership(), NOW).unwrap().bytes().clone();
    assert!((limits::RECORD_MAX - 300..=limits::RECORD_MAX).contains(&record.len()), "{}", record.len());
    record
}

#[test]
fn body_and_envelope_max() {
    let (alice, bob) = (person(&"a".repeat(128), 1), bob());
    let content = |len| Content {
        sender_record: Some(large_record(&alice)),
        to_user: user(&"b".repeat(128)),
        body: Body::App(zeros(len)),
        seq: u64::MAX,
        epoch: u64::MAX,
        floor: u64::MAX,
        ..alice.content(&bob)
    };
    let mail = alice.seal_to(&bob, &content(limits::BODY_MAX)).unwrap();
    assert!(mail.envelope.len() + 300 <= limits::ENVELOPE_MAX, "{}", mail.envelope.len());
    assert_eq!(open_by_bob(&mail).unwrap().content, content(limits::BODY_MAX));
    too_large("body", alice.seal_to(&bob, &content(limits::BODY_MAX + 1)));

    let frame = |len| Frame::Direct(Direct { body: zeros(len), ..direct(b"") });
    assert!(decode_frame(encode_frame(&frame(limits::BODY_MAX))).is_ok());
    too_large("body", decode_frame(encode_frame(&frame(limits::BODY_MAX + 1))));
    too_large("body", hostile(|c| c.body = Some(proto::content::Body::App(zeros(limits::BODY_MAX + 1)))));
}

#[test]
fn content_max() {
    // Alice's content without padding has fewer than 1,024 bytes besides her record.
    assert!(hostile(|c| c.padding = zeros(limits::BODY_MAX)).is_ok());
    too_large("content", hostile(|c| c.padding = zeros(limits::CONTENT_MAX)));
}

#[test]
fn envelope_max() {
    let padded = |len: usize| {
        let mail = alice().mail(&bob());
        let mut envelope = mail.envelope.to_vec();
        let pad = len - envelope.len() - 4;
        envelope.extend_from_slice(&[0x7a, (pad & 0x7f) as u8 | 0x80, (pad >> 7) as u8 | 0x80, (pad >> 14) as u8]);
        envelope.resize(len, 0);
        Sealed { to: mail.to, envelope: envelope.into() }
    };
    let (fits, over) = (padded(limits::ENVELOPE_MAX), padded(limits::ENVELOPE_MAX + 1));
    assert!(open_by_bob(&fits).is_ok() && peek(&fits.envelope).is_ok() && envelope_id(&fits).is_ok());
    too_large("open", open_by_bob(&over));
    too_large("peek", peek(&over.envelope));
    too_large("id", envelope_id(&over));
    let relay = |mail: &Sealed| {
        let mail = mail.clone();
        decode_frame(encode_frame(&Frame::Relay(byway_wire::Relay { mail, request_id: Bytes::new() })))
    };
    assert!(relay(&fits).is_ok());
    too_large("relay", relay(&over));
    let send = |mail: &Sealed| {
        SocketFrame::decode(SocketFrame::Send { to: mail.to, envelope: mail.envelope.clone(), seq: 0 }.encode())
    };
    assert!(send(&fits).is_ok());
    too_large("socket", send(&over));
}

#[test]
fn record_max() {
    let padded = |len: usize| {
        let mut bytes = alice().record().bytes().to_vec();
        let pad = len - bytes.len() - 3;
        bytes.extend_from_slice(&[0x7a, (pad & 0x7f) as u8 | 0x80, (pad >> 7) as u8]);
        bytes.resize(len, 0);
        Bytes::from(bytes)
    };
    assert!(verify(&padded(limits::RECORD_MAX)).is_ok());
    too_large("record", verify(&padded(limits::RECORD_MAX + 1)));
    let (alice, bob) = (alice(), bob());
    let content = Content { sender_record: Some(zeros(limits::RECORD_MAX + 1)), ..alice.content(&bob) };
    too_large("sender_record", alice.seal_to(&bob, &content));
    too_large("sender_record", hostile(|c| c.sender_record = zeros(limits::RECORD_MAX + 1)));
}

#[test]
fn lists_of_a_record() {
    let repeat = |n: usize, text: &str| vec![text.to_owned(); n];
    for (n, fits) in [(limits::RECORD_ADDRESSES, true), (limits::RECORD_ADDRESSES + 1, false)] {
        assert_eq!(verify(&signed(|r| r.addresses = repeat(n, "mem:1"))).is_ok(), fits);
    }
    for (n, fits) in [(limits::CAPABILITIES, true), (limits::CAPABILITIES + 1, false)] {
        assert_eq!(verify(&signed(|r| r.capabilities = repeat(n, "c"))).is_ok(), fits);
    }
    for (n, fits) in [(limits::CAPABILITY_MAX, true), (limits::CAPABILITY_MAX + 1, false)] {
        assert_eq!(verify(&signed(|r| r.capabilities = vec!["c".repeat(n)])).is_ok(), fits);
    }
    for (n, fits) in [(limits::RECORD_SEAL_KEYS, true), (limits::RECORD_SEAL_KEYS + 1, false)] {
        assert_eq!(verify(&signed(|r| r.seal_keys = vec![r.seal_keys[0].clone(); n])).is_ok(), fits);
    }
    for (n, fits) in [(limits::RECORD_COORDINATORS, true), (limits::RECORD_COORDINATORS + 1, false)] {
        assert_eq!(verify(&signed(|r| r.coordinators = vec![zeros(32); n])).is_ok(), fits);
    }
    too_large("addresses", verify(&signed(|r| r.addresses = repeat(limits::RECORD_ADDRESSES + 1, "mem:1"))));
}

#[test]
fn credential_and_proof_max() {
    use byway_api::Membership as _;
    let long = "x".repeat(limits::CREDENTIAL_MAX + 1);
    let refused = membership().verify(&long, &alice().peer(), NOW).unwrap_err();
    assert!(refused.to_string().contains("2049 is more than 2048"), "{refused}");
    too_large("record", verify(&signed(|r| r.credential = long.clone())));
    let mut config = alice().config();
    config.credential = long.clone();
    let (_, hello) =
        byway_wire::Handshake::start(Role::Dialer, &config, &alice().key, &crate::hello::binding(1), [0; 32], NOW);
    let refused = bob().take(&mut bob().start(Role::Answerer).0, hello).unwrap_err();
    assert!(refused.text.contains("2049 is more than 2048"), "{refused}");

    let check = |proof: &Proof| check_proof(proof, "GET", "t", "n", NOW);
    too_large("credential", check(&make_proof(&alice().key, &long, "GET", "t", "n", NOW, [0; 16])));
    too_large("proof", check(&Proof { credential: String::new(), proof: "x".repeat(limits::PROOF_MAX + 1) }));
    let auth = |credential: usize, proof: usize| {
        let proof = Proof { credential: "c".repeat(credential), proof: "p".repeat(proof) };
        SocketFrame::decode(SocketFrame::Auth(proof).encode())
    };
    assert!(auth(limits::CREDENTIAL_MAX, limits::PROOF_MAX).is_ok());
    too_large("credential", auth(limits::CREDENTIAL_MAX + 1, 1));
    too_large("proof", auth(1, limits::PROOF_MAX + 1));
}

#[test]
fn capabilities_of_a_hello() {
    let take = |capabilities: Vec<String>| {
        let mut config = alice().config();
        config.capabilities = capabilities;
        let (_, hello) =
            byway_wire::Handshake::start(Role::Dialer, &config, &alice().key, &crate::hello::binding(1), [0; 32], NOW);
        bob().take(&mut bob().start(Role::Answerer).0, hello).is_ok()
    };
    assert!(take(vec!["c".repeat(limits::CAPABILITY_MAX); limits::CAPABILITIES]));
    assert!(!take(vec!["c".to_owned(); limits::CAPABILITIES + 1]));
    assert!(!take(vec!["c".repeat(limits::CAPABILITY_MAX + 1)]));
}

#[test]
fn socket_frames() {
    too_large("socket frame", SocketFrame::decode(zeros(limits::SOCKET_FRAME_MAX + 1)));
    assert!(!matches!(SocketFrame::decode(zeros(limits::SOCKET_FRAME_MAX)), Err(WireError::TooLarge { .. })));
    let challenge = |nonce: usize, target: usize| {
        let frame = SocketFrame::Challenge { nonce: "n".repeat(nonce), target: "t".repeat(target) };
        SocketFrame::decode(frame.encode())
    };
    assert!(challenge(limits::NAME_MAX, limits::NAME_MAX).is_ok());
    too_large("nonce", challenge(limits::NAME_MAX + 1, 1));
    too_large("target", challenge(1, limits::NAME_MAX + 1));
    let text = "e".repeat(limits::TEXT_MAX + 1);
    let body = proto::SocketError { code: 1, text: text.clone() };
    let frame = proto::SocketFrame { body: Some(proto::socket_frame::Body::Error(body)) };
    let cut = SocketFrame::Error { code: SocketErrorCode::Unauthorized, text: text[1..].to_owned() };
    assert_eq!(SocketFrame::decode(frame.encode_to_vec().into()), Ok(cut));
}

#[test]
fn signals() {
    let sealed = |body: usize, session: usize, transport: usize| {
        let mut signal = signal();
        (signal.body, signal.session) = (zeros(body), zeros(session));
        signal.transport = "t".repeat(transport);
        let content = Content { body: Body::Signal(signal.clone()), ..alice().content(&bob()) };
        let received = hostile(|c| {
            c.body = Some(proto::content::Body::Signal(proto::Signal {
                kind: 1,
                session: signal.session.clone(),
                body: signal.body.clone(),
                transport: signal.transport.clone(),
            }));
        });
        let sent = alice().seal_to(&bob(), &content);
        assert_eq!(sent.is_ok(), received.is_ok(), "{sent:?} {received:?}");
        received.map(|_| ())
    };
    assert_eq!(sealed(limits::SIGNAL_MAX, limits::SIGNAL_SESSION_MAX, limits::NAME_MAX), Ok(()));
    too_large("signal", sealed(limits::SIGNAL_MAX + 1, 1, 1));
    too_large("session", sealed(1, limits::SIGNAL_SESSION_MAX + 1, 1));
    too_large("transport", sealed(1, 1, limits::NAME_MAX + 1));
    assert!(sealed(1, 0, 1).is_err() && sealed(1, 1, 0).is_err());
}

#[test]
fn receipt_ids() {
    let receipt = |n: usize| proto::Receipt { kind: 1, message_ids: vec![zeros(16); n], at: 0 };
    let frame = |counts: &[usize]| {
        raw(Raw::Receipts(proto::Receipts { receipts: counts.iter().map(|n| receipt(*n)).collect() }))
    };
    assert!(frame(&[limits::RECEIPT_IDS]).is_ok() && frame(&[200, 56]).is_ok());
    too_large("receipts", frame(&[limits::RECEIPT_IDS + 1]));
    too_large("receipts", frame(&[200, 57]));
    too_large("empty receipts", frame(&vec![0; limits::RECEIPT_IDS + 1]));
    let sealed = |n| hostile(|c| c.body = Some(proto::content::Body::Receipt(receipt(n))));
    assert!(sealed(limits::RECEIPT_IDS).is_ok());
    too_large("receipt", sealed(limits::RECEIPT_IDS + 1));
    let messages = vec![MessageId::from_bytes([0; 16]); limits::RECEIPT_IDS + 1];
    let body = Body::Receipt(Receipt { kind: ReceiptKind::Read, messages, at: NOW });
    too_large("receipt", alice().seal_to(&bob(), &Content { body, ..alice().content(&bob()) }));
}

#[test]
fn request_ids() {
    for (len, fits) in [(limits::REQUEST_ID_MAX, true), (limits::REQUEST_ID_MAX + 1, false)] {
        let text = "r".repeat(len);
        let query =
            proto::PeerQuery { looking_for_user_id: "bob".to_owned(), request_id: text.clone(), ..Default::default() };
        let found = proto::PeerFound { user_id: "bob".to_owned(), request_id: text, ..Default::default() };
        let mail = alice().mail(&bob());
        let to_peer = Bytes::copy_from_slice(mail.to.as_bytes());
        let relay = proto::Relay { to_peer, envelope: mail.envelope, request_id: zeros(len) };
        let ack = proto::RelayAck { request_id: zeros(len), status: 1 };
        for body in [Raw::Query(query), Raw::Found(found), Raw::Relay(relay), Raw::RelayAck(ack)] {
            let result = raw(body);
            assert_eq!(result.is_ok(), fits, "{result:?}");
        }
    }
}

#[test]
fn lists_of_a_state() {
    let state = |change: fn(&mut proto::NetworkState, usize), n: usize| {
        let mut state = proto::NetworkState::default();
        change(&mut state, n);
        raw(Raw::State(state))
    };
    let presence: fn(&mut proto::NetworkState, usize) = |s, n| {
        s.presence = vec![proto::Presence { peer_key: zeros(32), ..Default::default() }; n];
    };
    let members: fn(&mut proto::NetworkState, usize) = |s, n| s.online_members = vec!["bob".to_owned(); n];
    let coordinators: fn(&mut proto::NetworkState, usize) = |s, n| s.coordinators = vec![bob().peer().to_string(); n];
    let records: fn(&mut proto::NetworkState, usize) = |s, n| s.records = vec![Bytes::from_static(b"x"); n];
    let wanted: fn(&mut proto::NetworkState, usize) = |s, n| s.want_records = vec![zeros(32); n];
    for (change, most) in [
        (presence, limits::STATE_PRESENCES),
        (members, limits::STATE_PRESENCES),
        (coordinators, limits::STATE_PRESENCES),
        (records, limits::STATE_RECORDS),
        (wanted, limits::STATE_PRESENCES),
    ] {
        assert!(state(change, most).is_ok());
        too_large("state", state(change, most + 1));
    }
    for (len, fits) in [(0, true), (15, false), (16, true), (17, false)] {
        let result = raw(Raw::State(proto::NetworkState { digest: zeros(len), ..Default::default() }));
        assert_eq!(result.is_ok(), fits, "{len}");
    }
}

#[test]
fn records_of_an_answer_and_of_a_goodbye() {
    let found = |n: usize, len: usize| {
        let user_id = "bob".to_owned();
        raw(Raw::Found(proto::PeerFound { user_id, records: vec![zeros(len); n], ..Default::default() }))
    };
    assert!(found(limits::FOUND_RECORDS, limits::FOUND_BYTES / limits::FOUND_RECORDS).is_ok());
    too_large("found", found(limits::FOUND_RECORDS + 1, 1));
    too_large("found", found(2, limits::FOUND_BYTES / 2 + 1));
    let goodbye = |n, code| raw(Raw::Goodbye(proto::Goodbye { code, records: vec![zeros(1); n] }));
    assert!(goodbye(limits::GOODBYE_RECORDS, u32::from(u16::MAX)).is_ok());
    too_large("goodbye", goodbye(limits::GOODBYE_RECORDS + 1, 1));
    assert!(goodbye(0, 1 << 16).is_err());
}

#[test]
fn a_query_is_cut_to_what_we_do() {
    let query = |hops, deadline_ms| {
        let looking_for_user_id = "bob".to_owned();
        let query = proto::PeerQuery { looking_for_user_id, request_id: String::new(), hops, deadline_ms };
        match raw(Raw::Query(query)).unwrap().0.remove(0) {
            Frame::Query(query) => (query.hops, query.deadline_ms),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(query(1, 600), (1, 600));
    assert_eq!(query(u32::MAX, i64::MAX), (limits::QUERY_HOPS, limits::QUERY_MEMORY.as_millis() as u64));
    assert_eq!(query(0, -1), (0, 0));
}

#[test]
fn wire_times_are_brought_into_bounds() {
    let (past, future) = (NOW.minus(limits::PAST_MAX), NOW.plus(limits::FUTURE_MAX));
    for (ms, at) in [(i64::MIN, past), (0, past), (i64::MAX, future), (NOW.as_millis(), NOW)] {
        assert_eq!(limits::clamp_time(WallTime::from_millis(ms), NOW), at);
        let direct = Frame::Direct(Direct {
            sent_at: WallTime::from_millis(ms),
            expires_at: WallTime::from_millis(ms),
            ..direct(b"x")
        });
        let Frame::Direct(read) = decode_frame(encode_frame(&direct)).unwrap().0.remove(0) else { panic!() };
        assert_eq!((read.sent_at, read.expires_at), (at, at));

        let presence = proto::Presence { peer_key: zeros(32), seen_at: ms, ..Default::default() };
        let state = proto::NetworkState { timestamp: ms, presence: vec![presence], ..Default::default() };
        let Frame::State(read) = raw(Raw::State(state)).unwrap().0.remove(0) else { panic!() };
        assert_eq!((read.timestamp, read.presence[0].seen_at), (at, at));

        let receipt = proto::Receipt { kind: 1, message_ids: vec![zeros(16)], at: ms };
        let receipts = Raw::Receipts(proto::Receipts { receipts: vec![receipt] });
        let Frame::Receipts(read) = raw(receipts).unwrap().0.remove(0) else { panic!() };
        assert_eq!(read.at, at);

        let records = vec![bob().record().bytes().clone()];
        let found = proto::PeerFound { user_id: "bob".to_owned(), last_seen: ms, records, ..Default::default() };
        let Frame::Found(read) = raw(Raw::Found(found)).unwrap().0.remove(0) else { panic!() };
        assert_eq!(read.last_seen, at);

        let not_after = verify(&signed(|r| r.seal_keys[0].not_after = ms)).unwrap().seal_keys()[0].not_after;
        assert_eq!(not_after, at);
    }
    // Extreme clocks of our own do not overflow either.
    for now in [i64::MIN, i64::MAX] {
        assert_ne!(limits::clamp_time(NOW, WallTime::from_millis(now)), NOW);
    }
}

#[test]
fn a_beacon_from_outside_the_bounds_is_no_lease() {
    for ms in [i64::MAX, i64::MIN, NOW.plus(limits::FUTURE_MAX).as_millis() + 1] {
        let beacon = Beacon::sign(&alice().key, &network(), WallTime::from_millis(ms));
        let presence = proto::Presence {
            peer_key: Bytes::copy_from_slice(beacon.peer.as_bytes()),
            beacon_sig: Bytes::copy_from_slice(&beacon.signature),
            beacon_at: ms,
            ..Default::default()
        };
        let state = proto::NetworkState { presence: vec![presence], ..Default::default() };
        let (frames, decoded) = raw(Raw::State(state)).unwrap();
        let Frame::State(state) = &frames[0] else { panic!() };
        assert_eq!((state.presence[0].beacon, decoded.dropped), (None, 1));
    }
}
