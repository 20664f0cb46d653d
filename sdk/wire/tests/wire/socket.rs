//! Frames of the signalling socket.

use bytes::Bytes;
use byway_api::Proof;
use byway_wire::{SocketErrorCode, SocketFrame, SocketStatus, WireError, proto};
use prost::Message as _;

use crate::common::*;

pub(crate) fn all() -> Vec<SocketFrame> {
    let envelope = alice().mail(&bob()).envelope;
    let mut all = vec![
        SocketFrame::Challenge { nonce: "n-1".to_owned(), target: "wss://registry.example/x".to_owned() },
        SocketFrame::Auth(Proof { credential: "c".to_owned(), proof: "p".to_owned() }),
        SocketFrame::Send { to: bob().peer(), envelope: envelope.clone(), seq: 7 },
        SocketFrame::From { from: alice().peer(), envelope },
        SocketFrame::Appoint,
    ];
    for status in [SocketStatus::Ok, SocketStatus::NoSuchPeer, SocketStatus::Busy] {
        all.push(SocketFrame::Status { to: bob().peer(), status, seq: 7 });
    }
    for code in [
        SocketErrorCode::Unauthorized,
        SocketErrorCode::RateLimited,
        SocketErrorCode::TooLarge,
        SocketErrorCode::Protocol,
        SocketErrorCode::Full,
        SocketErrorCode::Superseded,
        SocketErrorCode::ShuttingDown,
        SocketErrorCode::Other,
    ] {
        all.push(SocketFrame::Error { code, text: "why".to_owned() });
    }
    all
}

#[test]
fn every_frame_survives_the_wire() {
    for frame in all() {
        assert_eq!(SocketFrame::decode(frame.encode()), Ok(frame));
    }
}

#[test]
fn what_a_newer_version_says_is_unknown() {
    for bytes in [&[][..], &[0x42, 0x01, 0x00]] {
        assert_eq!(SocketFrame::decode(Bytes::copy_from_slice(bytes)), Ok(SocketFrame::Unknown));
    }
    let status = proto::SocketStatus { to_peer: Bytes::from_static(&[1; 32]), status: 99, seq: 1 };
    let frame = proto::SocketFrame { body: Some(proto::socket_frame::Body::Status(status)) };
    assert_eq!(SocketFrame::decode(frame.encode_to_vec().into()), Ok(SocketFrame::Unknown));
    assert!(SocketFrame::Unknown.encode().is_empty());
}

#[test]
fn an_envelope_goes_to_the_device_it_names() {
    let envelope = alice().mail(&bob()).envelope;
    let wrong = SocketFrame::Send { to: alice().peer(), envelope, seq: 1 };
    assert_eq!(SocketFrame::decode(wrong.encode()), Err(WireError::WrongRecipient));
}

#[test]
fn envelopes_are_slices_of_the_message() {
    let bytes = all()[2].encode();
    let range = bytes.as_ptr_range();
    let Ok(SocketFrame::Send { envelope, .. }) = SocketFrame::decode(bytes) else { panic!() };
    assert!(range.contains(&envelope.as_ptr()));
}
