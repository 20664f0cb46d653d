//! The bytes of every message, written down. A change here is a change of the protocol: every device
//! in the field would have to be updated at the same time.
//!
//! To regenerate on purpose, after a decision to break the protocol or to add a message:
//! `cargo test -p byway-wire --test golden -- --ignored --nocapture print`, read every line that
//! changed, and paste the table over `tests/golden.txt`. Signatures and sealed envelopes are in it
//! because everything, also the randomness, is an argument.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "wire/common.rs"]
mod common;

use bytes::Bytes;
use byway_api::{CloseCode, Sealed, SignalAddress};
use byway_wire::{
    Beacon, Body, Content, Domain, Frame, Goodbye, Handshake, HelloStep, NetworkState, PeerFound, PeerQuery, Presence,
    Receipt, ReceiptKind, Receipts, RejectCode, Relay, RelayAck, RelayStatus, Role, SocketErrorCode, SocketFrame,
    SocketStatus, envelope_id, make_proof, proto, reject, thumbprint,
};
use common::*;
use prost::Message as _;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn objects() -> Vec<(&'static str, String)> {
    let (alice, bob) = (alice(), bob());
    let mut all = vec![
        ("peer", alice.peer().to_string()),
        ("thumbprint", thumbprint(&alice.peer())),
        ("token", alice.token()),
        ("proof", make_proof(&alice.key, "credential", "WS", "target", "nonce", NOW, [1; 16]).proof),
        ("seal key", hex(alice.seal.public(NOW).public_key)),
        ("seal key id", hex(alice.seal.key_id())),
        ("record", hex(alice.record().bytes())),
        ("beacon", hex(Beacon::sign(&alice.key, &network(), NOW).signature)),
        ("signature", hex(alice.key.sign(Domain::Content, b"message"))),
    ];
    all.extend(handshake());
    for (name, body) in [
        ("envelope app", Body::App(Bytes::from_static(b"hello bob"))),
        ("envelope signal", Body::Signal(signal())),
        ("envelope receipt", Body::Receipt(Receipt { kind: ReceiptKind::Read, messages: vec![message(1)], at: NOW })),
    ] {
        let content = Content { body, sender_record: None, ..alice.content(&bob) };
        all.push((name, hex(alice.seal_to(&bob, &content).unwrap().envelope)));
    }
    all.push(("envelope with record", hex(alice.mail(&bob).envelope)));
    all.push(("envelope id", hex(envelope_id(&alice.mail(&bob)).unwrap().as_bytes())));
    all.extend(frames().into_iter().map(|(name, frame)| (name, hex(encode_frame(&frame)))));
    all.extend(reserved_frames().into_iter().map(|(name, body)| (name, hex(raw_frame(body)))));
    all.extend(socket_frames().into_iter().map(|(name, frame)| (name, hex(frame.encode()))));
    all
}

fn handshake() -> Vec<(&'static str, String)> {
    let (alice, bob) = (alice(), bob());
    let binding = byway_api::ChannelBinding::new(byway_api::BindingKind::DtlsCertificates, vec![1; 64]);
    let start = |person: &Person, role, nonce| {
        let config = byway_wire::HelloConfig {
            network: network(),
            credential: person.token(),
            record_seq: 5,
            capabilities: vec!["relay".to_owned()],
            max_frame: 65_536,
            instance: instance(3),
            revocation_seq: 1,
        };
        Handshake::start(role, &config, &person.key, &binding, [nonce; 32], NOW)
    };
    let (mut dialer, hello_a) = start(&alice, Role::Dialer, 1);
    let (mut answerer, hello_b) = start(&bob, Role::Answerer, 2);
    let auth = |step| match step {
        Ok(HelloStep::Send(bytes)) => hex(bytes),
        other => panic!("{other:?}"),
    };
    vec![
        ("hello", hex(&hello_a)),
        ("hello auth of the dialer", auth(dialer.receive(hello_b, &alice.key, &membership(), NOW))),
        ("hello auth of the answerer", auth(answerer.receive(hello_a, &bob.key, &membership(), NOW))),
        ("hello reject", hex(reject(RejectCode::Clock, "check the clocks"))),
    ]
}

fn frames() -> Vec<(&'static str, Frame)> {
    let (alice, bob) = (alice(), bob());
    let presence = Presence {
        peer: bob.peer(),
        record_seq: 5,
        seen_at: NOW,
        beacon: Some(Beacon::sign(&bob.key, &network(), NOW)),
        link: true,
        age_s: 7,
    };
    let content = Content { sender_record: None, ..alice.content(&bob) };
    let Sealed { to, envelope } = alice.seal_to(&bob, &content).unwrap();
    let mail = Sealed { to, envelope };
    vec![
        (
            "frame query",
            Frame::Query(PeerQuery { user: user("bob"), request_id: "q1".to_owned(), hops: 1, deadline_ms: 600 }),
        ),
        (
            "frame found",
            Frame::Found(PeerFound {
                user: user("bob"),
                request_id: "q1".to_owned(),
                address: Some(SignalAddress::through(alice.peer())),
                last_seen: NOW,
                can_relay: true,
                records: vec![bob.record()],
            }),
        ),
        (
            "frame state",
            Frame::State(NetworkState {
                online_members: vec![user("alice"), user("bob")],
                coordinators: vec![alice.peer()],
                timestamp: NOW,
                presence: vec![presence],
                records: vec![alice.record()],
                revocation_seq: 3,
                delta: true,
                digest: Some([6; 16]),
                want_full: true,
                want_records: Vec::new(),
            }),
        ),
        ("frame direct", Frame::Direct(byway_wire::Direct { reply_to: Some(message(2)), ..direct(b"hi") })),
        (
            "frame receipts",
            Frame::Receipts(Receipts { kind: ReceiptKind::Delivered, messages: vec![message(1), message(2)], at: NOW }),
        ),
        ("frame relay", Frame::Relay(Relay { mail, request_id: Bytes::from_static(b"r1") })),
        (
            "frame relay ack",
            Frame::RelayAck(RelayAck { request_id: Bytes::from_static(b"r1"), status: RelayStatus::Quota }),
        ),
        ("frame ping", Frame::Ping(7)),
        ("frame pong", Frame::Pong(7)),
        ("frame heartbeat", Frame::Heartbeat),
        ("frame goodbye", Frame::Goodbye(Goodbye { code: CloseCode::FULL, records: vec![bob.record()] })),
    ]
}

/// Messages whose numbers are taken and which this version does not send.
fn reserved_frames() -> Vec<(&'static str, proto::frame::Body)> {
    use proto::frame::Body;
    let bytes = Bytes::from_static;
    vec![
        (
            "frame store",
            Body::Store(proto::StoreMessage {
                for_user_id: "bob".to_owned(),
                encrypted_message: bytes(b"sealed"),
                expires_at: NOW.as_millis(),
                for_peer: bytes(b"peer"),
                request_id: bytes(b"r1"),
            }),
        ),
        (
            "frame store ack",
            Body::StoreAck(proto::StoreAck {
                request_id: bytes(b"r1"),
                envelope_id: bytes(b"id"),
                status: proto::store_ack::Status::Stored.into(),
                stored_until: NOW.as_millis(),
                bytes_left: 9,
            }),
        ),
        (
            "frame mailbox fetch",
            Body::MailboxFetch(proto::MailboxFetch { request_id: bytes(b"r1"), after: 4, max_bytes: 65_536 }),
        ),
        (
            "frame mailbox batch",
            Body::MailboxBatch(proto::MailboxBatch {
                request_id: bytes(b"r1"),
                held: vec![proto::mailbox_batch::Held {
                    position: 5,
                    envelope_id: bytes(b"id"),
                    envelope: bytes(b"sealed"),
                }],
                more: true,
            }),
        ),
        ("frame mailbox ack", Body::MailboxAck(proto::MailboxAck { envelope_ids: vec![bytes(b"id")] })),
    ]
}

fn socket_frames() -> Vec<(&'static str, SocketFrame)> {
    let (alice, bob) = (alice(), bob());
    let content = Content { sender_record: None, ..alice.content(&bob) };
    let envelope = alice.seal_to(&bob, &content).unwrap().envelope;
    let proof = byway_api::Proof { credential: "credential".to_owned(), proof: "proof".to_owned() };
    vec![
        ("socket challenge", SocketFrame::Challenge { nonce: "nonce".to_owned(), target: "target".to_owned() }),
        ("socket auth", SocketFrame::Auth(proof)),
        ("socket send", SocketFrame::Send { to: bob.peer(), envelope: envelope.clone(), seq: 7 }),
        ("socket from", SocketFrame::From { from: alice.peer(), envelope }),
        ("socket status", SocketFrame::Status { to: bob.peer(), status: SocketStatus::Busy, seq: 7 }),
        ("socket appoint", SocketFrame::Appoint),
        ("socket error", SocketFrame::Error { code: SocketErrorCode::RateLimited, text: "slow down".to_owned() }),
    ]
}

fn golden() -> Vec<(&'static str, &'static str)> {
    include_str!("golden.txt").lines().map(|line| line.split_once(" = ").unwrap()).collect()
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let (now, golden) = (objects(), golden());
    for ((name, bytes), (golden_name, golden_bytes)) in now.iter().zip(&golden) {
        assert_eq!(name, golden_name);
        assert_eq!(bytes, golden_bytes, "{name}");
    }
    assert_eq!(now.len(), golden.len());
}

#[test]
fn the_bytes_of_version_1_are_read() {
    let bytes = |name: &str| {
        let (_, hex) = golden().into_iter().find(|(n, _)| *n == name).unwrap();
        let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        Bytes::from((0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>())
    };
    for (name, frame) in frames() {
        let (read, decoded) = decode_frame(bytes(name)).unwrap();
        assert_eq!((read, decoded.dropped), (vec![frame], 0), "{name}");
    }
    for (name, body) in reserved_frames() {
        let frame = proto::Frame::decode_length_delimited(bytes(name)).unwrap();
        assert_eq!(frame.body, Some(body), "{name}");
        assert_eq!(decode_frame(bytes(name)).unwrap().1.dropped, 1, "{name}");
    }
    for (name, frame) in socket_frames() {
        assert_eq!(SocketFrame::decode(bytes(name)), Ok(frame), "{name}");
    }
    let record = byway_wire::VerifiedRecord::verify(&bytes("record"), &network(), &membership(), NOW);
    assert_eq!(record.unwrap(), alice().record());
    let mail = Sealed { to: bob().peer(), envelope: bytes("envelope with record") };
    let opened =
        byway_wire::open(&mail, bob().peer(), &[bob().seal], &network(), &membership(), NOW, |_| None).unwrap();
    assert_eq!(opened.content, alice().content(&bob()));
}

#[test]
#[ignore = "prints the table; see the top of the file"]
fn print() {
    for (name, bytes) in objects() {
        println!("{name} = {bytes}");
    }
}
