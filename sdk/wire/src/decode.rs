//! Bytes to typed frames: everything is checked here, so that nobody has to check again.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use byway_api::{CloseCode, Membership, NetworkId, PeerId, Sealed, SignalAddress, UserId, WallTime};

use crate::content::Receipt;
use crate::error::at_most;
use crate::fields::{Fields, Most, Value, check_counts, check_receipts, message};
use crate::{
    Beacon, Direct, Frame, Goodbye, NetworkState, PeerFound, PeerQuery, Presence, Receipts, Relay, RelayAck,
    RelayStatus, VerifiedRecord, WireError, direct, limits, peek, proto,
};

/// What a decoder must know.
#[derive(Clone, Copy)]
pub struct DecodeContext<'a> {
    /// Our network.
    pub network: &'a NetworkId,
    /// Judges the credentials in records.
    pub membership: &'a dyn Membership,
    /// The time.
    pub now: WallTime,
    /// Records that were verified before, by their signed bytes. `None` only costs time.
    pub records: &'a dyn Fn(&[u8]) -> Option<VerifiedRecord>,
}

impl fmt::Debug for DecodeContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeContext").field("network", self.network).field("now", &self.now).finish_non_exhaustive()
    }
}

/// What [`decode`] left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Frames that this version does not know, and records and beacons that did not verify. None of
    /// them is a protocol error.
    pub dropped: usize,
}

/// Decodes one transport frame and appends what is in it to `out`.
///
/// Bodies of messages and envelopes are slices of `frame`. Wire times are brought into bounds.
///
/// # Errors
/// A frame that breaks the protocol is refused as a whole and `out` stays as it was:
/// [`WireError::TooLarge`], [`WireError::Malformed`], [`WireError::WrongNetwork`],
/// [`WireError::WrongRecipient`] for an envelope that names another device than the frame around it.
pub fn decode(frame: Bytes, cx: &DecodeContext<'_>, out: &mut Vec<Frame>) -> Result<Decoded, WireError> {
    let before = out.len();
    let mut decoder = Decoder { frame, cx, out, dropped: 0 };
    match decoder.run() {
        Ok(()) => Ok(Decoded { dropped: decoder.dropped }),
        Err(e) => {
            out.truncate(before);
            Err(e)
        }
    }
}

struct Decoder<'a, 'c> {
    frame: Bytes,
    cx: &'a DecodeContext<'c>,
    out: &'a mut Vec<Frame>,
    dropped: usize,
}

impl Decoder<'_, '_> {
    fn run(&mut self) -> Result<(), WireError> {
        at_most("frame", limits::FRAME_MAX, self.frame.len())?;
        let whole = self.frame.clone();
        let mut batch = Fields::new("frame", &whole);
        let mut count = 0;
        while let Some(range) = batch.next_delimited()? {
            count += 1;
            at_most("frames of a batch", limits::FRAMES_PER_BATCH, count)?;
            let mut body = None;
            let mut fields = Fields::within("frame", &whole, range);
            while let Some((number, value)) = fields.next()? {
                if !(1..=16).contains(&number) {
                    continue;
                }
                match value {
                    Value::Bytes(range) if body.is_none() => body = Some((number, range)),
                    _ => return Err(WireError::malformed("frame", "more than one body, or none")),
                }
            }
            match body {
                Some((number, range)) => self.body(number, range)?,
                None => self.dropped += 1,
            }
        }
        Ok(())
    }

    fn body(&mut self, number: u32, range: Range<usize>) -> Result<(), WireError> {
        if number == direct::FIELD {
            match Direct::read(&self.frame, range, self.cx.network, self.cx.now)? {
                Some(direct) => self.out.push(Frame::Direct(direct)),
                None => self.dropped += 1,
            }
            return Ok(());
        }
        let bytes = self.frame.slice(range);
        let frame = match number {
            1 => Some(Frame::Query(query(bytes)?)),
            2 => self.found(bytes)?.map(Frame::Found),
            3 => Some(Frame::State(self.state(bytes)?)),
            6 => Some(Frame::Relay(relay(bytes)?)),
            7 => relay_ack(bytes)?.map(Frame::RelayAck),
            12 => return self.receipts(bytes),
            13 => Some(Frame::Heartbeat),
            14 => Some(Frame::Ping(message::<proto::Ping>("ping", bytes)?.nonce)),
            15 => Some(Frame::Pong(message::<proto::Pong>("pong", bytes)?.nonce)),
            16 => Some(Frame::Goodbye(self.goodbye(bytes)?)),
            _ => None,
        };
        match frame {
            Some(frame) => self.out.push(frame),
            None => self.dropped += 1,
        }
        Ok(())
    }

    fn found(&mut self, bytes: Bytes) -> Result<Option<PeerFound>, WireError> {
        check_counts("found", &bytes, &[Most(6, "records of an answer", limits::FOUND_RECORDS)])?;
        let found: proto::PeerFound = message("found", bytes)?;
        at_most("records of an answer", limits::FOUND_BYTES, found.records.iter().map(Bytes::len).sum())?;
        at_most("request id", limits::REQUEST_ID_MAX, found.request_id.len())?;
        let user = UserId::new(&found.user_id).map_err(WireError::id("found"))?;
        let address = match found.signal_address.as_str() {
            "" => None,
            text => Some(SignalAddress::new(text).map_err(|e| WireError::malformed("found", e))?),
        };
        let mut records = self.records(&found.records);
        let all = records.len();
        records.retain(|r| *r.user() == user);
        self.dropped += all - records.len();
        if records.is_empty() {
            return Ok(None);
        }
        Ok(Some(PeerFound {
            user,
            request_id: found.request_id,
            address,
            last_seen: self.time(found.last_seen),
            can_relay: found.can_relay,
            records,
        }))
    }

    fn state(&mut self, bytes: Bytes) -> Result<NetworkState, WireError> {
        let counts = [
            Most(1, "online members of a state", limits::STATE_PRESENCES),
            Most(2, "coordinators of a state", limits::STATE_PRESENCES),
            Most(4, "presences of a state", limits::STATE_PRESENCES),
            Most(5, "records of a state", limits::STATE_RECORDS),
            Most(10, "wanted records of a state", limits::STATE_PRESENCES),
        ];
        check_counts("state", &bytes, &counts)?;
        let state: proto::NetworkState = message("state", bytes)?;
        let id = WireError::id("state");
        let digest = match state.digest.len() {
            0 => None,
            _ => Some(state.digest[..].try_into().map_err(|_| WireError::malformed("state", "digest"))?),
        };
        Ok(NetworkState {
            online_members: state
                .online_members
                .iter()
                .map(|u| UserId::new(u).map_err(&id))
                .collect::<Result<_, _>>()?,
            coordinators: state.coordinators.iter().map(|p| p.parse().map_err(&id)).collect::<Result<_, _>>()?,
            timestamp: self.time(state.timestamp),
            presence: state.presence.iter().map(|p| self.presence(p)).collect::<Result<_, _>>()?,
            records: self.records(&state.records),
            revocation_seq: state.revocation_seq,
            delta: state.delta,
            digest,
            want_full: state.want_full,
            want_records: state
                .want_records
                .iter()
                .map(|p| PeerId::from_slice(p).map_err(WireError::id("state")))
                .collect::<Result<_, _>>()?,
        })
    }

    fn presence(&mut self, presence: &proto::Presence) -> Result<Presence, WireError> {
        let peer = PeerId::from_slice(&presence.peer_key).map_err(WireError::id("presence"))?;
        let beacon = match presence.beacon_sig.len() {
            0 => None,
            _ => {
                let signature =
                    presence.beacon_sig[..].try_into().map_err(|_| WireError::malformed("presence", "signature"))?;
                let beacon = Beacon { peer, at: WallTime::from_millis(presence.beacon_at), signature };
                // A beacon from outside the bounds can be no lease; its time must not enter arithmetic.
                let sound = self.time(presence.beacon_at) == beacon.at && beacon.verify(self.cx.network).is_ok();
                self.dropped += usize::from(!sound);
                sound.then_some(beacon)
            }
        };
        Ok(Presence {
            peer,
            record_seq: presence.record_seq,
            seen_at: self.time(presence.seen_at),
            beacon,
            link: presence.link,
            age_s: presence.age_s,
        })
    }

    fn receipts(&mut self, bytes: Bytes) -> Result<(), WireError> {
        check_receipts("receipts", &bytes, 1)?;
        for receipt in message::<proto::Receipts>("receipts", bytes)?.receipts {
            if receipt.kind() == proto::receipt::Kind::Unspecified {
                self.dropped += 1;
                continue;
            }
            let Receipt { kind, messages, at } = Receipt::from_proto(&receipt, self.cx.now)?;
            self.out.push(Frame::Receipts(Receipts { kind, messages, at }));
        }
        Ok(())
    }

    fn goodbye(&mut self, bytes: Bytes) -> Result<Goodbye, WireError> {
        check_counts("goodbye", &bytes, &[Most(2, "records of a goodbye", limits::GOODBYE_RECORDS)])?;
        let goodbye: proto::Goodbye = message("goodbye", bytes)?;
        let code = u16::try_from(goodbye.code).map_err(|_| WireError::malformed("goodbye", "code"))?;
        Ok(Goodbye { code: CloseCode(code), records: self.records(&goodbye.records) })
    }

    fn records(&mut self, records: &[Bytes]) -> Vec<VerifiedRecord> {
        let verified: Vec<_> = records.iter().filter_map(|bytes| self.record(bytes)).collect();
        self.dropped += records.len() - verified.len();
        verified
    }

    fn record(&self, bytes: &Bytes) -> Option<VerifiedRecord> {
        let cx = self.cx;
        match (cx.records)(bytes) {
            Some(record) => Some(record).filter(|r| r.expires_at() > cx.now),
            None => VerifiedRecord::verify(bytes, cx.network, cx.membership, cx.now).ok(),
        }
    }

    fn time(&self, ms: i64) -> WallTime {
        limits::clamp_time(WallTime::from_millis(ms), self.cx.now)
    }
}

fn query(bytes: Bytes) -> Result<PeerQuery, WireError> {
    let query: proto::PeerQuery = message("query", bytes)?;
    at_most("request id", limits::REQUEST_ID_MAX, query.request_id.len())?;
    let longest = limits::QUERY_MEMORY.as_millis() as u64;
    Ok(PeerQuery {
        user: UserId::new(&query.looking_for_user_id).map_err(WireError::id("query"))?,
        request_id: query.request_id,
        hops: query.hops.min(limits::QUERY_HOPS),
        deadline_ms: u64::try_from(query.deadline_ms).unwrap_or(0).min(longest),
    })
}

fn relay(bytes: Bytes) -> Result<Relay, WireError> {
    let relay: proto::Relay = message("relay", bytes)?;
    at_most("request id", limits::REQUEST_ID_MAX, relay.request_id.len())?;
    let to = PeerId::from_slice(&relay.to_peer).map_err(WireError::id("relay"))?;
    if peek(&relay.envelope)?.to != to {
        return Err(WireError::WrongRecipient);
    }
    Ok(Relay { mail: Sealed { to, envelope: relay.envelope }, request_id: relay.request_id })
}

fn relay_ack(bytes: Bytes) -> Result<Option<RelayAck>, WireError> {
    let ack: proto::RelayAck = message("relay ack", bytes)?;
    at_most("request id", limits::REQUEST_ID_MAX, ack.request_id.len())?;
    let status = match ack.status() {
        proto::relay_ack::Status::Forwarded => RelayStatus::Forwarded,
        proto::relay_ack::Status::NotConnected => RelayStatus::NotConnected,
        proto::relay_ack::Status::Quota => RelayStatus::Quota,
        proto::relay_ack::Status::TooLarge => RelayStatus::TooLarge,
        proto::relay_ack::Status::Refused => RelayStatus::Refused,
        proto::relay_ack::Status::Unspecified => return Ok(None),
    };
    Ok(Some(RelayAck { request_id: ack.request_id, status }))
}
