//! Who is shown as what, when links die.

use byway_wire::{Beacon, Presence};

use super::*;
use crate::view::Reach;

/// A neighbour says that it is there.
fn alive(b: &mut Bench, ms: u64, n: u8) -> Vec<Out> {
    let beacon = Some(Beacon { peer: peer(n), at: at(ms).wall, signature: [0; 64] });
    let own = Presence { peer: peer(n), record_seq: 1, seen_at: at(ms).wall, beacon, link: true, age_s: 0 };
    let state = NetworkState { timestamp: at(ms).wall, presence: vec![own], delta: true, ..NetworkState::default() };
    b.feed(ms, In::Frame { conn: ConnId(u64::from(n)), frame: Frame::State(state) })
}

fn met(n: u8) -> Bench {
    let mut b = Bench::new();
    for n in 2..2 + n {
        let bob = record(n, n, &format!("user{n}"));
        b.learn(10, &bob);
        b.up(10, u64::from(n), &bob);
        alive(&mut b, 20, n);
    }
    b
}

/// Lets time pass in which some neighbours speak every 25 s, and answer every Ping after 20 ms.
fn pass(b: &mut Bench, from: u64, to: u64, speaking: &[u8]) -> Vec<(u64, Out)> {
    let mut log = Vec::new();
    for ms in (from..to).step_by(20) {
        let mut out: Vec<_> = b.until(ms).into_iter().map(|(_, out)| out).collect();
        if (ms - from).is_multiple_of(25_000) {
            out.extend(speaking.iter().flat_map(|n| alive(b, ms, *n)));
        }
        let pinged = |o: &Out| match o {
            Out::Write { conn, frame: Frame::Ping(number) } => Some((*conn, *number)),
            _ => None,
        };
        let pings: Vec<_> = out.iter().filter_map(pinged).collect();
        for (conn, number) in pings.into_iter().filter(|(c, _)| speaking.iter().any(|n| c.0 == u64::from(*n))) {
            out.extend(b.feed(ms, In::Frame { conn, frame: Frame::Pong(number) }));
        }
        log.extend(out.into_iter().map(|o| (ms, o)));
    }
    log
}

fn shown(b: &Bench, ms: u64, name: &str) -> Reach {
    let roster = b.core.roster(at(ms));
    roster.members.iter().find(|m| m.user == user(name)).map(|m| m.reach.clone()).unwrap()
}

fn lost(log: &[(u64, Out)]) -> Vec<(u64, ConnId)> {
    let closed = |(ms, o): &(u64, Out)| match o {
        Out::Close { conn, code: CloseCode::TIMEOUT } => Some((*ms, *conn)),
        _ => None,
    };
    log.iter().filter_map(closed).collect()
}

fn faults(log: &[(u64, Out)]) -> usize {
    log.iter().filter(|(_, o)| matches!(o, Out::Tell(Event::LocalFault))).count()
}

#[test]
fn an_idle_neighbour_that_dies_in_silence_is_gray_within_35_s() {
    let mut b = met(4);
    let log = pass(&mut b, 20, 60_000, &[3, 4, 5]);
    let [(ms, conn)] = lost(&log)[..] else { panic!("{log:?}") };
    assert!(conn == ConnId(2) && ms <= 20 + 35_000, "{ms}");
    assert!(matches!(shown(&b, 60_000, "user2"), Reach::Offline { .. }));
    assert!(matches!(shown(&b, 60_000, "user3"), Reach::Direct { .. }));
    assert_eq!(faults(&log), 0);
}

#[test]
fn a_silently_dead_neighbour_is_gray_within_12_s_of_the_first_write() {
    let mut b = met(4);
    pass(&mut b, 20, 5_000, &[3, 4, 5]);
    b.send(5_000, 1, "user2");
    let log = pass(&mut b, 5_020, 20_000, &[3, 4, 5]);
    let [(ms, conn)] = lost(&log)[..] else { panic!("{log:?}") };
    assert!(conn == ConnId(2) && ms <= 5_000 + 12_000, "{ms}");
    assert!(matches!(shown(&b, 17_000, "user2"), Reach::Offline { .. }));
}

#[test]
fn our_own_silence_is_one_event_and_blames_nobody() {
    let mut b = met(5);
    let mut log = pass(&mut b, 20, 5_000, &[2, 3, 4, 5, 6]);
    b.send(5_000, 1, "user2");
    log.extend(pass(&mut b, 5_020, 90_000, &[]));
    assert_eq!(lost(&log).len(), 5);
    assert_eq!(faults(&log), 1);
    for n in 2..7 {
        let reach = shown(&b, 90_000, &format!("user{n}"));
        assert!(matches!(reach, Reach::Direct { .. }), "frozen as it was: {reach:?}");
    }
    assert!(b.core.roster(at(90_000)).frozen);
    let before: Vec<_> = b.core.routes.values().map(|r| r.score.rate()).collect();
    for op in b.core.dials.keys().copied().collect::<Vec<_>>() {
        let error = DialError { retry: Retry::Later, superseded: false, text: "no answer".into() };
        b.feed(90_000, In::Dialed { op, result: Err(error) });
    }
    let after: Vec<_> = b.core.routes.values().map(|r| r.score.rate()).collect();
    assert_eq!(before, after, "no scores");
    // one is back: the list is the truth again, and the others are not taken for dead
    b.up(91_000, 20, &record(2, 2, "user2"));
    assert!(!b.core.roster(at(91_000)).frozen);
    assert!(matches!(shown(&b, 91_000, "user2"), Reach::Direct { .. }));
    assert!(matches!(shown(&b, 91_000, "user3"), Reach::Online { .. }));
}

#[test]
fn links_lost_one_after_the_other_are_our_fault_only_if_none_is_left() {
    for (lost, ours) in [(3u8, true), (2, false)] {
        let mut b = met(3);
        let mut log = Vec::new();
        for n in 2..2 + lost {
            let down = In::Down { conn: ConnId(u64::from(n)), code: CloseCode::LOST };
            log.extend(b.feed(1_000 + u64::from(n) * 400, down).into_iter().map(|o| (0, o)));
        }
        assert_eq!(faults(&log), usize::from(ours));
        assert_eq!(matches!(shown(&b, 3_000, "user2"), Reach::Offline { .. }), !ours);
    }
}

#[test]
fn the_os_knows_with_fewer_links() {
    let mut b = met(1);
    let mut log = b.feed(1_000, In::Down { conn: ConnId(2), code: CloseCode::LOST });
    assert!(!log.iter().any(|o| matches!(o, Out::Tell(Event::LocalFault))));
    log.extend(b.until(2_000).into_iter().map(|(_, o)| o));
    for op in b.core.dials.keys().copied().collect::<Vec<_>>() {
        let error = DialError { retry: Retry::LocalFault, superseded: false, text: "no route".into() };
        log.extend(b.feed(2_000, In::Dialed { op, result: Err(error) }));
    }
    assert_eq!(log.iter().filter(|o| matches!(o, Out::Tell(Event::LocalFault))).count(), 1);
    assert!(b.core.roster(at(2_000)).frozen);
}
