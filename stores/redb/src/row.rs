//! Rows as keys and values, and back.

use bytes::Bytes;
use byway_api::{
    ConnectionRow, InboxRow, InboxState, OutboxRow, OutboxState, PinRow, RecordRow, RouteRow, SeenRow, UserId,
};

use crate::codec::{Damaged, Decoder, Encoder};
use crate::keys::Rank;

type Read<T> = Result<T, Damaged>;

/// What an index holds: its key says it all.
pub(crate) const NOTHING: &[u8] = &[];

pub(crate) fn rank(rank: Rank) -> Vec<u8> {
    Encoder::value(16).rank(rank.success_rate).time(rank.last_seen).seal()
}

pub(crate) fn read_rank(value: &[u8]) -> Read<Rank> {
    let mut v = Decoder::value(value)?;
    let rank = Rank { success_rate: v.rank()?, last_seen: v.time()? };
    v.end()?;
    Ok(rank)
}

pub(crate) fn path(path: &str) -> Vec<u8> {
    Encoder::value(path.len()).bytes(path.as_bytes()).seal()
}

fn read_path(value: &[u8]) -> Read<String> {
    Decoder::value(value)?.rest_text()
}

pub(crate) fn read_best_route(key: &[u8], value: &[u8]) -> Read<RouteRow> {
    let mut k = Decoder::key(key);
    let (user, success_rate, last_seen) = (k.user()?, k.rank()?, k.recency()?);
    Ok(RouteRow { user, peer: k.peer()?, address: k.address()?, last_seen, success_rate, path: read_path(value)? })
}

/// The route without its path.
pub(crate) fn read_any_route(key: &[u8]) -> Read<RouteRow> {
    let mut k = Decoder::key(key);
    let (success_rate, last_seen, user) = (k.rank()?, k.recency()?, k.user()?);
    Ok(RouteRow { user, peer: k.peer()?, address: k.address()?, last_seen, success_rate, path: String::new() })
}

/// User and address of the key of a route by its device.
pub(crate) fn read_route_key(key: &[u8]) -> Read<(UserId, byway_api::SignalAddress)> {
    let mut k = Decoder::key(key);
    k.peer()?;
    Ok((k.user()?, k.address()?))
}

pub(crate) fn record(row: &RecordRow) -> Vec<u8> {
    let value = Encoder::value(160 + row.record.len()).number(row.seq).time(row.expires_at);
    value.text(row.user.as_str()).bytes(&row.record).seal()
}

pub(crate) fn read_record(key: &[u8], value: &[u8]) -> Read<RecordRow> {
    let peer = Decoder::key(key).peer()?;
    let mut v = Decoder::value(value)?;
    let (seq, expires_at) = (v.number()?, v.time()?);
    let user = UserId::new(&v.text()?).map_err(|_| Damaged::Field)?;
    Ok(RecordRow { peer, user, seq, record: v.rest(), expires_at })
}

/// The device at the end of the key of a record by its user.
pub(crate) fn read_record_of(key: &[u8]) -> Read<byway_api::PeerId> {
    let mut k = Decoder::key(key);
    k.user()?;
    k.peer()
}

const OUTBOX_STATES: [OutboxState; 4] =
    [OutboxState::Queued, OutboxState::Delivered, OutboxState::Read, OutboxState::Expired];
const INBOX_STATES: [InboxState; 2] = [InboxState::New, InboxState::Read];

/// The number of a state, which is its place in the list.
fn number_of<S: PartialEq>(states: &[S], state: &S) -> u8 {
    let place = states.iter().position(|known| known == state).and_then(|place| u8::try_from(place).ok());
    place.unwrap_or_else(|| panic!("a state this version of the store does not know: update byway-store-redb"))
}

fn state_of<S: Copy>(states: &[S], number: u8) -> Read<S> {
    states.get(usize::from(number)).copied().ok_or(Damaged::Field)
}

/// All of an outgoing message but its key and content.
pub(crate) fn outbox(row: &OutboxRow) -> Vec<u8> {
    let value = Encoder::value(96).byte(number_of(&OUTBOX_STATES, &row.state)).small(row.retry_count);
    let value = value.time(row.next_try).time(row.queued_at).time(row.expires_at);
    let value = value.number(row.epoch).number(row.seq).small(row.size).reply_to(row.reply_to.as_ref());
    value.text(row.to_user.as_str()).seal()
}

pub(crate) fn read_outbox(key: &[u8], value: &[u8]) -> Read<OutboxRow> {
    let mut k = Decoder::key(key);
    let (message, to_peer) = (k.message()?, k.device()?);
    let mut v = Decoder::value(value)?;
    let (state, retry_count) = (state_of(&OUTBOX_STATES, v.byte()?)?, v.small()?);
    let (next_try, queued_at, expires_at) = (v.time()?, v.time()?, v.time()?);
    let (epoch, seq, size, reply_to) = (v.number()?, v.number()?, v.small()?, v.reply_to()?);
    let to_user = UserId::new(&v.text()?).map_err(|_| Damaged::Field)?;
    v.end()?;
    Ok(OutboxRow {
        message,
        to_user,
        to_peer,
        epoch,
        seq,
        content: None,
        size,
        reply_to,
        queued_at,
        expires_at,
        retry_count,
        next_try,
        state,
    })
}

/// All of an incoming message but its key and content.
pub(crate) fn inbox(row: &InboxRow) -> Vec<u8> {
    let value = Encoder::value(96).byte(number_of(&INBOX_STATES, &row.state)).byte(u8::from(row.late));
    let value = value.message(&row.message).small(row.size).reply_to(row.reply_to.as_ref());
    let value = value.time(row.sent_at).time(row.received_at).time(row.expires_at);
    value.text(row.from_user.as_str()).seal()
}

pub(crate) fn read_inbox(key: &[u8], value: &[u8]) -> Read<InboxRow> {
    let mut k = Decoder::key(key);
    let (from_peer, epoch, seq) = (k.peer()?, k.number()?, k.number()?);
    let mut v = Decoder::value(value)?;
    let (state, late) = (state_of(&INBOX_STATES, v.byte()?)?, v.flag()?);
    let (message, size, reply_to) = (v.message()?, v.small()?, v.reply_to()?);
    let (sent_at, received_at, expires_at) = (v.time()?, v.time()?, v.time()?);
    let from_user = UserId::new(&v.text()?).map_err(|_| Damaged::Field)?;
    v.end()?;
    Ok(InboxRow {
        from_peer,
        epoch,
        seq,
        message,
        from_user,
        content: None,
        size,
        reply_to,
        sent_at,
        received_at,
        expires_at,
        late,
        state,
    })
}

/// Bytes of the app, or a named value.
pub(crate) fn content(content: &[u8]) -> Vec<u8> {
    Encoder::value(content.len()).bytes(content).seal()
}

pub(crate) fn read_content(value: &[u8]) -> Read<Bytes> {
    Ok(Decoder::value(value)?.rest())
}

pub(crate) fn seen(row: &SeenRow) -> Vec<u8> {
    Encoder::value(24 + row.above.len()).number(row.floor).time(row.used_at).marks(&row.above).seal()
}

pub(crate) fn read_seen(key: &[u8], value: &[u8]) -> Read<SeenRow> {
    let mut k = Decoder::key(key);
    let mut v = Decoder::value(value)?;
    let (from_peer, epoch, floor, used_at) = (k.peer()?, k.number()?, v.number()?, v.time()?);
    Ok(SeenRow { from_peer, epoch, floor, above: v.marks()?, used_at })
}

pub(crate) fn read_meta_key(key: &[u8]) -> Read<String> {
    Decoder::key(key).rest_text()
}

pub(crate) fn pin(row: &PinRow) -> Vec<u8> {
    Encoder::value(8).time(row.since).seal()
}

pub(crate) fn read_pin(key: &[u8], value: &[u8]) -> Read<PinRow> {
    let mut k = Decoder::key(key);
    let mut v = Decoder::value(value)?;
    let pin = PinRow { user: k.user()?, peer: k.peer()?, since: v.time()? };
    v.end()?;
    Ok(pin)
}

pub(crate) fn read_blocked(key: &[u8]) -> Read<UserId> {
    UserId::new(&Decoder::key(key).rest_text()?).map_err(|_| Damaged::Field)
}

pub(crate) fn connection(row: &ConnectionRow) -> Vec<u8> {
    let value = Encoder::value(64).time(row.connected_at);
    value.text(&row.connection_state).text(&row.data_channel_state).seal()
}

pub(crate) fn read_connection(key: &[u8], value: &[u8]) -> Read<ConnectionRow> {
    let peer = Decoder::key(key).peer()?;
    let mut v = Decoder::value(value)?;
    let (connected_at, connection_state, data_channel_state) = (v.time()?, v.text()?, v.text()?);
    v.end()?;
    Ok(ConnectionRow { peer, connection_state, data_channel_state, connected_at })
}

#[cfg(test)]
mod tests {
    use byway_api::{MessageId, PeerId, SignalAddress, WallTime};

    use super::*;
    use crate::keys;

    const AT: WallTime = WallTime::from_millis(-5);

    fn peer() -> PeerId {
        PeerId::from_bytes([7; 32])
    }

    fn user() -> UserId {
        UserId::new("\u{1f98a} bob").unwrap()
    }

    fn message() -> MessageId {
        MessageId::from_bytes([9; 16])
    }

    fn an_outbox() -> OutboxRow {
        OutboxRow {
            message: message(),
            to_user: user(),
            to_peer: None,
            epoch: u64::MAX,
            seq: 3,
            content: None,
            size: 5,
            reply_to: Some(message()),
            queued_at: AT,
            expires_at: AT,
            retry_count: 7,
            next_try: AT,
            state: OutboxState::Expired,
        }
    }

    fn an_inbox() -> InboxRow {
        InboxRow {
            from_peer: peer(),
            epoch: 1,
            seq: u64::MAX,
            message: message(),
            from_user: user(),
            content: None,
            size: 5,
            reply_to: None,
            sent_at: AT,
            received_at: AT,
            expires_at: AT,
            late: true,
            state: InboxState::Read,
        }
    }

    /// Reads a value under its key and shows the row, or the damage.
    type Shown = Box<dyn Fn(&[u8]) -> Read<String>>;

    fn shown<R: std::fmt::Debug>(read: impl Fn(&[u8]) -> Read<R> + 'static) -> Shown {
        Box::new(move |value| read(value).map(|row| format!("{row:?}")))
    }

    /// A value of each kind, how it is read, and what it says.
    fn every_value() -> Vec<(Vec<u8>, Shown, String)> {
        let address = SignalAddress::new("ws://192.0.2.1:4000/x").unwrap();
        let ranked = Rank { success_rate: 0.25, last_seen: AT };
        let route = RouteRow {
            user: user(),
            peer: peer(),
            address: address.clone(),
            last_seen: AT,
            success_rate: 0.25,
            path: "direct webrtc".into(),
        };
        let recorded =
            RecordRow { peer: peer(), user: user(), seq: 1 << 63, record: Bytes::from_static(b"abc"), expires_at: AT };
        let mark = SeenRow { from_peer: peer(), epoch: 2, floor: 9, above: vec![11, 500, u64::MAX], used_at: AT };
        let pinned = PinRow { user: user(), peer: peer(), since: AT };
        let live = ConnectionRow {
            peer: peer(),
            connection_state: "connected".into(),
            data_channel_state: "open".into(),
            connected_at: AT,
        };
        let best_key = keys::best_route(&user(), ranked, &peer(), &address);
        let outbox_key = keys::outbox(keys::OUTBOX, &message(), None);
        let inbox_key = keys::inbox(keys::INBOX, &peer(), 1, u64::MAX);
        let (seen_key, pin_key) = (keys::seen(&peer(), 2), keys::user_peer(keys::PIN, &user(), &peer()));
        let record_key = keys::of_peer(keys::RECORD, &peer());
        let live_key = keys::of_peer(keys::CONNECTION, &peer());
        vec![
            (rank(ranked), shown(read_rank), format!("{ranked:?}")),
            (path(&route.path), shown(move |v| read_best_route(&best_key, v)), format!("{route:?}")),
            (record(&recorded), shown(move |v| read_record(&record_key, v)), format!("{recorded:?}")),
            (outbox(&an_outbox()), shown(move |v| read_outbox(&outbox_key, v)), format!("{:?}", an_outbox())),
            (inbox(&an_inbox()), shown(move |v| read_inbox(&inbox_key, v)), format!("{:?}", an_inbox())),
            (content(b"hello"), shown(read_content), format!("{:?}", Bytes::from_static(b"hello"))),
            (content(b""), shown(read_content), format!("{:?}", Bytes::new())),
            (seen(&mark), shown(move |v| read_seen(&seen_key, v)), format!("{mark:?}")),
            (pin(&pinned), shown(move |v| read_pin(&pin_key, v)), format!("{pinned:?}")),
            (connection(&live), shown(move |v| read_connection(&live_key, v)), format!("{live:?}")),
        ]
    }

    #[test]
    fn values_read_back() {
        for (value, read, want) in every_value() {
            assert_eq!(read(&value), Ok(want));
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        for (value, read, want) in every_value() {
            for bit in 0..value.len() * 8 {
                let mut damaged = value.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&damaged).is_err(), "bit {bit} of {want}");
            }
        }
    }

    #[test]
    fn a_value_that_is_cut_off_or_too_long_is_found() {
        for (value, read, want) in every_value() {
            for end in 0..value.len() {
                assert!(read(&value[..end]).is_err(), "{end} bytes of {want}");
                assert!(read(&value[end + 1..]).is_err(), "without the first {} bytes of {want}", end + 1);
            }
            let longer: Vec<u8> = value.iter().copied().chain([0]).collect();
            assert!(read(&longer).is_err(), "a byte more than {want}");
        }
    }

    /// A checksum that is right does not make a field right: nothing is read past the end, nothing panics.
    #[test]
    fn wrong_fields_under_a_right_checksum_are_errors_or_rows() {
        for (value, read, _) in every_value() {
            let fields = &value[1..value.len() - 4];
            for end in 0..fields.len() {
                let _ = read(&Encoder::value(0).bytes(&fields[..end]).seal());
                for filler in [0x00, 0x7f, 0xff] {
                    let mut wrong = fields.to_vec();
                    wrong[end] = filler;
                    let _ = read(&Encoder::value(0).bytes(&wrong).seal());
                }
            }
        }
        let state = Encoder::value(0).byte(9).bytes(&[0; 64]).seal();
        assert_eq!(read_outbox(&keys::outbox(keys::OUTBOX, &message(), None), &state).err(), Some(Damaged::Field));
    }

    #[test]
    fn damaged_keys_are_errors() {
        let address = SignalAddress::new("mem:1").unwrap();
        let any = keys::any_route(&user(), Rank { success_rate: 0.5, last_seen: AT }, &peer(), &address);
        assert_eq!(read_any_route(&any).unwrap().address, address);
        for end in 0..any.len() - 3 {
            assert!(read_any_route(&any[..end]).is_err(), "{end} bytes");
        }
        let value = pin(&PinRow { user: user(), peer: peer(), since: AT });
        let key = keys::user_peer(keys::PIN, &user(), &peer());
        for end in 0..key.len() {
            assert!(read_pin(&key[..end], &value).is_err(), "{end} bytes");
        }
    }
}
