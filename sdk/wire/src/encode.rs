//! Typed frames to bytes.

use bytes::{Bytes, BytesMut};
use byway_api::PeerId;
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::content::receipt_to_proto;
use crate::direct::{self, put_bytes};
use crate::proto::frame::Body;
use crate::{Direct, Frame, NetworkState, PeerFound, Presence, Receipts, Relay, RelayStatus, VerifiedRecord, proto};

/// A frame on its way into a buffer. Messages and mail are written straight from where they are, the
/// rest through the generated code.
pub(crate) struct Outgoing<'a> {
    body: Outbody<'a>,
    /// Length of the body's message.
    inner: usize,
    /// Length of the `Frame`.
    frame: usize,
}

enum Outbody<'a> {
    Direct(&'a Direct),
    Relay(&'a Relay),
    Other(Box<proto::Frame>),
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(frame: &'a Frame) -> Self {
        let (body, inner) = match frame {
            Frame::Direct(direct) => (Outbody::Direct(direct), direct.content_len()),
            Frame::Relay(relay) => (Outbody::Relay(relay), relay_len(relay)),
            other => {
                let frame = proto::Frame { body: body(other) };
                let len = frame.encoded_len();
                return Self { body: Outbody::Other(Box::new(frame)), inner: 0, frame: len };
            }
        };
        Self { body, inner, frame: delimited(inner) }
    }

    /// Bytes that [`put`](Self::put) writes.
    pub(crate) fn len(&self) -> usize {
        encoded_len_varint(self.frame as u64) + self.frame
    }

    pub(crate) fn put(&self, buf: &mut BytesMut) {
        encode_varint(self.frame as u64, buf);
        let begin = |number: u32, buf: &mut BytesMut| {
            encode_varint(u64::from(number << 3 | 2), buf);
            encode_varint(self.inner as u64, buf);
        };
        match &self.body {
            Outbody::Direct(direct) => {
                begin(direct::FIELD, buf);
                direct.put_content(buf);
            }
            Outbody::Relay(relay) => {
                begin(RELAY, buf);
                put_bytes(1, relay.mail.to.as_bytes(), buf);
                put_bytes(2, &relay.mail.envelope, buf);
                if !relay.request_id.is_empty() {
                    put_bytes(3, &relay.request_id, buf);
                }
            }
            Outbody::Other(frame) => frame.encode_raw(buf),
        }
    }
}

/// Number of `Frame.relay`.
const RELAY: u32 = 6;

/// Length of a field with a one-byte tag and so many bytes.
fn delimited(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn relay_len(relay: &Relay) -> usize {
    let id = relay.request_id.len();
    delimited(32) + delimited(relay.mail.envelope.len()) + if id == 0 { 0 } else { delimited(id) }
}

impl Frame {
    /// How many bytes [`encode_into`](Self::encode_into) appends.
    pub fn encoded_len(&self) -> usize {
        Outgoing::new(self).len()
    }

    /// Appends the frame with its length in front. A sequence of frames makes one transport frame.
    pub fn encode_into(&self, buf: &mut BytesMut) {
        let frame = Outgoing::new(self);
        buf.reserve(frame.len());
        frame.put(buf);
    }
}

fn body(frame: &Frame) -> Option<Body> {
    Some(match frame {
        Frame::Direct(_) | Frame::Relay(_) => return None,
        Frame::Query(query) => Body::Query(proto::PeerQuery {
            looking_for_user_id: query.user.as_str().to_owned(),
            request_id: query.request_id.clone(),
            hops: query.hops,
            deadline_ms: i64::try_from(query.deadline_ms).unwrap_or(i64::MAX),
        }),
        Frame::Found(found) => Body::Found(found_to_proto(found)),
        Frame::State(state) => Body::State(state_to_proto(state)),
        Frame::Receipts(receipts) => Body::Receipts(receipts_to_proto(receipts)),
        Frame::RelayAck(ack) => {
            let status = match ack.status {
                RelayStatus::Forwarded => proto::relay_ack::Status::Forwarded,
                RelayStatus::NotConnected => proto::relay_ack::Status::NotConnected,
                RelayStatus::Quota => proto::relay_ack::Status::Quota,
                RelayStatus::TooLarge => proto::relay_ack::Status::TooLarge,
                RelayStatus::Refused => proto::relay_ack::Status::Refused,
            };
            Body::RelayAck(proto::RelayAck { request_id: ack.request_id.clone(), status: status.into() })
        }
        Frame::Ping(nonce) => Body::Ping(proto::Ping { nonce: *nonce }),
        Frame::Pong(nonce) => Body::Pong(proto::Pong { nonce: *nonce }),
        Frame::Heartbeat => Body::Heartbeat(proto::Heartbeat {}),
        Frame::Goodbye(goodbye) => Body::Goodbye(proto::Goodbye {
            code: u32::from(goodbye.code.0),
            records: records_to_proto(&goodbye.records),
        }),
    })
}

fn found_to_proto(found: &PeerFound) -> proto::PeerFound {
    proto::PeerFound {
        user_id: found.user.as_str().to_owned(),
        signal_address: found.address.as_ref().map_or_else(String::new, |a| a.as_str().to_owned()),
        last_seen: found.last_seen.as_millis(),
        can_relay: found.can_relay,
        request_id: found.request_id.clone(),
        records: records_to_proto(&found.records),
    }
}

fn state_to_proto(state: &NetworkState) -> proto::NetworkState {
    proto::NetworkState {
        online_members: state.online_members.iter().map(|u| u.as_str().to_owned()).collect(),
        coordinators: state.coordinators.iter().map(PeerId::to_string).collect(),
        timestamp: state.timestamp.as_millis(),
        presence: state.presence.iter().map(presence_to_proto).collect(),
        records: records_to_proto(&state.records),
        revocation_seq: state.revocation_seq,
        delta: state.delta,
        digest: state.digest.map_or_else(Bytes::new, |d| Bytes::copy_from_slice(&d)),
        want_full: state.want_full,
        want_records: state.want_records.iter().map(|p| Bytes::copy_from_slice(p.as_bytes())).collect(),
    }
}

fn presence_to_proto(presence: &Presence) -> proto::Presence {
    let beacon = presence.beacon.as_ref();
    proto::Presence {
        peer_key: Bytes::copy_from_slice(presence.peer.as_bytes()),
        record_seq: presence.record_seq,
        seen_at: presence.seen_at.as_millis(),
        beacon_sig: beacon.map_or_else(Bytes::new, |b| Bytes::copy_from_slice(&b.signature)),
        beacon_at: beacon.map_or(0, |b| b.at.as_millis()),
        link: presence.link,
        age_s: presence.age_s,
    }
}

fn receipts_to_proto(receipts: &Receipts) -> proto::Receipts {
    proto::Receipts { receipts: vec![receipt_to_proto(receipts.kind, &receipts.messages, receipts.at)] }
}

fn records_to_proto(records: &[VerifiedRecord]) -> Vec<Bytes> {
    records.iter().map(|r| r.bytes().clone()).collect()
}
