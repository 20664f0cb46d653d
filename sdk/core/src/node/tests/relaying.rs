//! Messages by way of neighbours.

use byway_api::{Handoff, RelayErrorKind, Sealed};
use byway_wire::{Presence, ReceiptKind, Receipts, Relay as RelayFrame, RelayAck, RelayStatus};

use super::*;
use crate::io::{Letter, OpenedLetter};
use crate::status::Delivery;

const CAROL: u64 = 1;
const DAVE: u64 = 2;

/// Neighbours carol (3) and dave (4), who both list bob (2).
fn between() -> Bench {
    let mut bench = Bench::new();
    for (conn, n, name) in [(CAROL, 3, "carol"), (DAVE, 4, "dave")] {
        bench.up(0, conn, &record(n, n, name));
        list_bob(&mut bench, 0, conn);
    }
    bench
}

fn list_bob(bench: &mut Bench, ms: u64, conn: u64) -> Vec<Out> {
    let (record, seen_at) = (record(2, 2, "bob"), at(ms).wall);
    let entry = Presence { peer: peer(2), record_seq: 1, seen_at, beacon: None, link: true, age_s: 0 };
    let state = NetworkState { timestamp: seen_at, presence: vec![entry], records: vec![record], ..Default::default() };
    bench.feed(ms, In::Frame { conn: ConnId(conn), frame: Frame::State(state) })
}

fn mail(n: u8) -> Sealed {
    Sealed { to: peer(n), envelope: Bytes::from_static(b"sealed") }
}

fn sealing(out: &[Out]) -> Vec<OpId> {
    out.iter().filter_map(|o| if let Out::Seal { op, .. } = o { Some(*op) } else { None }).collect()
}

fn handing(out: &[Out]) -> Option<(OpId, PeerId)> {
    out.iter().find_map(|o| if let Out::Relay { op, hop, .. } = o { Some((*op, *hop)) } else { None })
}

/// Sends a message and seals it: the request to hand it over.
fn handed(bench: &mut Bench, ms: u64, n: u8) -> (OpId, PeerId) {
    let out = bench.send(ms, n, "bob");
    let [op] = sealing(&out)[..] else { panic!("{out:?}") };
    handing(&bench.feed(ms, In::Sealed { op, result: Ok(mail(2)) })).unwrap()
}

fn opened(bench: &mut Bench, ms: u64, conn: u64, letter: Letter) -> Vec<Out> {
    let frame = Frame::Relay(RelayFrame { mail: mail(1), request_id: Bytes::from_static(b"r") });
    let out = bench.feed(ms, In::Frame { conn: ConnId(conn), frame });
    let op = out.iter().find_map(|o| if let Out::Mail { op, .. } = o { Some(*op) } else { None }).unwrap();
    let letter = Some(Box::new(OpenedLetter { sender: record(2, 2, "bob"), letter }));
    bench.feed(ms, In::Opened { op, letter })
}

fn message(n: u8) -> Letter {
    let (sent_at, expires_at) = (at(0).wall, at(0).wall.plus(DAY));
    let (message, body) = (MessageId::from_bytes([n; 16]), Bytes::from_static(b"hi"));
    Letter::Message(Direct {
        message,
        epoch: 7,
        seq: u64::from(n),
        floor: 0,
        sent_at,
        expires_at,
        reply_to: None,
        body,
    })
}

fn shown(out: &[Out]) -> usize {
    out.iter().filter(|o| matches!(o, Out::Tell(Event::Message(_)))).count()
}

fn answers(out: &[Out]) -> Vec<RelayStatus> {
    let status = |o: &Out| match o {
        Out::Write { frame: Frame::RelayAck(ack), .. } => Some(ack.status),
        _ => None,
    };
    out.iter().filter_map(status).collect()
}

#[test]
fn a_message_goes_at_once_and_the_next_neighbour_is_asked_when_one_is_no_way() {
    let mut bench = between();
    let (op, first) = handed(&mut bench, 10, 1);
    let out = bench.feed(11, In::Relayed { op, result: Err(RelayErrorKind::NotConnected) });
    let (op, second) = handing(&out).unwrap();
    assert_ne!(first, second);
    let out = bench.feed(12, In::Relayed { op, result: Ok(Handoff::Forwarded) });
    let told = |o: &Out| matches!(o, Out::Tell(Event::Delivery { delivery: Delivery::Relayed, via: Some(_), .. }));
    assert!(out.iter().any(told), "{out:?}");
    assert_eq!(handed(&mut bench, 50_000, 2).1, second, "no way for a minute");
    // the first one lists bob anew: it is a way again
    let conn = if first == peer(3) { CAROL } else { DAVE };
    list_bob(&mut bench, 50_001, conn);
    assert!(bench.core.ways(at(50_001), &peer(2)).contains(&first));
}

#[test]
fn a_neighbour_that_is_lost_or_silent_does_not_hold_up_what_it_has_passed_on() {
    let mut bench = between();
    let (op, first) = handed(&mut bench, 10, 1);
    bench.feed(11, In::Relayed { op, result: Ok(Handoff::Forwarded) });
    let again = bench.until(2_011);
    let (op, second) = again.iter().find_map(|(_, out)| handing(std::slice::from_ref(out))).unwrap();
    assert_ne!(first, second, "bob has not answered for two seconds");
    bench.feed(2_012, In::Relayed { op, result: Ok(Handoff::Forwarded) });
    let conn = ConnId(if second == peer(3) { CAROL } else { DAVE });
    let out = bench.feed(2_100, In::Down { conn, code: CloseCode::LOST });
    assert_eq!(handing(&out).map(|(_, hop)| hop), Some(first), "and at once when its connection is lost");
}

#[test]
fn only_the_recipients_receipt_is_delivery() {
    let mut bench = between();
    let (op, _) = handed(&mut bench, 10, 1);
    bench.feed(11, In::Relayed { op, result: Ok(Handoff::Forwarded) });
    let id = MessageId::from_bytes([1; 16]);
    assert_eq!(bench.core.deliveries(&id)[0].delivery, Delivery::Relayed);
    let receipts = Receipts { kind: ReceiptKind::Delivered, messages: vec![id], at: at(20).wall };
    opened(&mut bench, 20, CAROL, Letter::Receipts(receipts));
    assert_eq!(bench.core.deliveries(&id)[0].delivery, Delivery::Delivered);
    assert!(bench.until(60_000).iter().all(|(_, out)| handing(std::slice::from_ref(out)).is_none()), "it goes no more");
}

#[test]
fn a_letter_is_shown_once_and_its_receipt_goes_back_sealed_each_time() {
    let mut bench = between();
    let out = opened(&mut bench, 10, CAROL, message(0));
    assert_eq!((shown(&out), sealing(&out).len()), (1, 1), "{out:?}");
    let op = sealing(&out)[0];
    let (op, hop) = handing(&bench.feed(11, In::Sealed { op, result: Ok(mail(2)) })).unwrap();
    assert_eq!(hop, peer(3), "by the way it came");
    bench.feed(12, In::Relayed { op, result: Ok(Handoff::Forwarded) });
    let out = opened(&mut bench, 13, DAVE, message(0));
    assert_eq!((shown(&out), sealing(&out).len()), (0, 1), "{out:?}");
}

#[test]
fn nothing_goes_to_or_comes_from_the_blocked() {
    let mut bench = between();
    bench.feed(5, In::Block { op: OpId(900), user: user("bob"), blocked: true });
    let out = opened(&mut bench, 10, CAROL, message(0));
    assert_eq!((shown(&out), sealing(&out).len()), (0, 0), "{out:?}");
    assert!(bench.until(60_000).iter().all(|(_, out)| sealing(std::slice::from_ref(out)).is_empty()));
}

#[test]
fn an_envelope_for_another_neighbour_goes_to_it_and_nowhere_else() {
    let mut bench = between();
    let relay = |to: u8| Frame::Relay(RelayFrame { mail: mail(to), request_id: Bytes::from_static(b"r1") });
    let conn = ConnId(CAROL);
    // bob is somebody else's neighbour, carol sent it herself
    for to in [2, 3] {
        let out = bench.feed(1, In::Frame { conn, frame: relay(to) });
        assert_eq!(answers(&out), [RelayStatus::NotConnected]);
    }
    let out = bench.feed(2, In::Frame { conn, frame: relay(4) });
    let [Out::Admit { op, .. }] = out[..] else { panic!("{out:?}") };
    let out = bench.feed(2, In::Admitted { op, admitted: true });
    assert_eq!(answers(&out), [RelayStatus::Forwarded]);
    let onward =
        |o: &Out| matches!(o, Out::Write { conn: ConnId(DAVE), frame: Frame::Relay(r) } if r.request_id != "r1");
    assert_eq!(out.iter().filter(|o| onward(o)).count(), 1, "{out:?}");
    let out = bench.feed(3, In::Frame { conn, frame: relay(4) });
    let [Out::Admit { op, .. }] = out[..] else { panic!("{out:?}") };
    assert_eq!(answers(&bench.feed(3, In::Admitted { op, admitted: false })), [RelayStatus::Refused]);
}

/// Without room for the envelope its sender is told so; without room for that answer it is told later.
#[test]
fn every_envelope_is_answered() {
    let mut bench = between();
    let big = Sealed { to: peer(4), envelope: Bytes::from(vec![0; 60_000]) };
    let mut told = Vec::new();
    for n in 0..80u64 {
        let frame = Frame::Relay(RelayFrame { mail: big.clone(), request_id: Bytes::from(n.to_be_bytes().to_vec()) });
        let out = bench.feed(n * 300, In::Frame { conn: ConnId(CAROL), frame });
        told.extend(answers(&out));
        if let Some(op) = out.iter().find_map(|o| if let Out::Admit { op, .. } = o { Some(*op) } else { None }) {
            told.extend(answers(&bench.feed(n * 300, In::Admitted { op, admitted: true })));
        }
    }
    let credit = In::Credit { conn: ConnId(CAROL), control: 64, data: 0, bytes: 0 };
    told.extend(answers(&bench.feed(24_000, credit)));
    assert_eq!(told.len(), 80);
    let forwarded = told.iter().filter(|s| **s == RelayStatus::Forwarded).count();
    assert_eq!(forwarded, limits::RELAY_IN_FLIGHT / 60_000, "as much as a sender may have in our queues: {told:?}");
    assert!(told[forwarded..].iter().all(|s| *s == RelayStatus::Quota), "{told:?}");
    let ack = RelayAck { request_id: Bytes::from_static(b"nobody's"), status: RelayStatus::Forwarded };
    assert!(answers(&bench.feed(24_001, In::Frame { conn: ConnId(DAVE), frame: Frame::RelayAck(ack) })).is_empty());
}
