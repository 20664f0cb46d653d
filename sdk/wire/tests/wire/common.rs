//! Fixed keys, times and objects. Everything is deterministic, so every failure repeats.
#![allow(dead_code)]

use std::time::Duration;

use bytes::Bytes;
use byway_api::{
    Instance, MessageId, NetworkId, PeerId, Sealed, Secret, Signal, SignalAddress, SignalKind, UserId, WallTime,
};
use byway_wire::{
    Body, Content, DecodeContext, Decoded, DeviceKey, Direct, Frame, OpenMembership, RecordDraft, SealSecret,
    VerifiedRecord, WireError, decode, issue_self_token, seal,
};

/// 22 November 2026, 12:00 UTC.
pub(crate) const NOW: WallTime = WallTime::from_millis(1_795_348_800_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub(crate) fn network() -> NetworkId {
    NetworkId::new("team-blue").unwrap()
}

pub(crate) fn membership() -> OpenMembership {
    OpenMembership::new(network())
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn message(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

/// A person with one device.
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) key: DeviceKey,
    pub(crate) seal: SealSecret,
}

pub(crate) fn alice() -> Person {
    person("alice", 1)
}

pub(crate) fn bob() -> Person {
    person("bob", 2)
}

pub(crate) fn person(name: &str, seed: u8) -> Person {
    Person {
        user: user(name),
        key: DeviceKey::from_seed(&Secret::new([seed; 32])),
        seal: SealSecret::from_seed(&Secret::new([seed + 100; 32])),
    }
}

impl Person {
    pub(crate) fn peer(&self) -> PeerId {
        self.key.peer()
    }

    pub(crate) fn token(&self) -> String {
        issue_self_token(&self.key, &network(), &self.user, &self.peer(), NOW, WEEK, [7; 16])
    }

    pub(crate) fn draft(&self) -> RecordDraft {
        RecordDraft {
            network: network(),
            user: self.user.clone(),
            seq: 5,
            issued_at: NOW,
            expires_at: NOW.plus(WEEK),
            addresses: vec![SignalAddress::socket("ws://192.0.2.1:9000", self.peer()).unwrap()],
            capabilities: vec!["relay".to_owned(), "coordinator;cap=64".to_owned()],
            credential: self.token(),
            seal_keys: vec![self.seal.public(NOW.plus(WEEK))],
            coordinators: vec![PeerId::from_bytes([9; 32])],
        }
    }

    pub(crate) fn record(&self) -> VerifiedRecord {
        self.draft().sign(&self.key, &membership(), NOW).unwrap()
    }

    pub(crate) fn content(&self, to: &Self) -> Content {
        Content {
            network: network(),
            message: message(1),
            from_user: self.user.clone(),
            from_peer: self.peer(),
            to_user: to.user.clone(),
            to_peer: to.peer(),
            sent_at: NOW,
            expires_at: NOW.plus(DAY),
            reply_to: Some(message(2)),
            body: Body::App(Bytes::from_static(b"hello bob")),
            sender_record: Some(self.record().bytes().clone()),
            seq: 3,
            epoch: 0x0123_4567_89ab_cdef,
            floor: 2,
        }
    }

    pub(crate) fn seal_to(&self, to: &Self, content: &Content) -> Result<Sealed, WireError> {
        seal(content, &self.key, to.peer(), &to.seal.public(NOW.plus(WEEK)), content.expires_at, [42; 32])
    }

    pub(crate) fn mail(&self, to: &Self) -> Sealed {
        self.seal_to(to, &self.content(to)).unwrap()
    }
}

pub(crate) fn instance(n: u8) -> Instance {
    Instance::from_bytes([n; 16])
}

pub(crate) fn signal() -> Signal {
    Signal {
        kind: SignalKind::Offer,
        session: Bytes::from_static(b"s1"),
        body: Bytes::from_static(b"v=0"),
        transport: "webrtc".to_owned(),
    }
}

pub(crate) fn direct(body: &'static [u8]) -> Direct {
    Direct {
        message: message(1),
        epoch: 0xfedc_ba98_7654_3210,
        seq: 300,
        floor: 299,
        sent_at: NOW,
        expires_at: NOW.plus(DAY),
        reply_to: None,
        body: Bytes::from_static(body),
    }
}

pub(crate) fn decode_frame(bytes: impl Into<Bytes>) -> Result<(Vec<Frame>, Decoded), WireError> {
    let (network, membership) = (network(), membership());
    let cx = DecodeContext { network: &network, membership: &membership, now: NOW, records: &|_| None };
    let mut out = Vec::new();
    decode(bytes.into(), &cx, &mut out).map(|decoded| (out, decoded))
}

pub(crate) fn encode_frame(frame: &Frame) -> Bytes {
    let mut buf = bytes::BytesMut::new();
    frame.encode_into(&mut buf);
    buf.freeze()
}

/// A `Frame` of the generated code with its length in front.
pub(crate) fn raw_frame(body: byway_wire::proto::frame::Body) -> Bytes {
    use prost::Message as _;
    byway_wire::proto::Frame { body: Some(body) }.encode_length_delimited_to_vec().into()
}
