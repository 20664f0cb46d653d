use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const LIFE: Duration = Duration::from_secs(600);

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn id(n: u64) -> MessageId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(bytes)
}

fn bob() -> UserId {
    UserId::new("bob").unwrap()
}

fn at(ms: u64) -> Now {
    Now { tick: Tick(ms), wall: WallTime::from_millis(1_000_000 + i64::try_from(ms).unwrap()) }
}

/// An outbox with its surroundings.
struct Bench {
    outbox: Outbox,
    tuning: Tuning,
    rng: Rng,
    rows: Vec<Write>,
}

impl Bench {
    fn new() -> Self {
        Self { outbox: Outbox::default(), tuning: Tuning::default(), rng: Rng::new(1), rows: vec![] }
    }

    fn command(n: u64, body: usize, now: Now) -> SendCommand {
        SendCommand {
            op: OpId(n),
            to: bob(),
            message: id(n),
            body: Bytes::from(vec![7; body]),
            reply_to: None,
            expires_at: now.wall.plus(LIFE),
        }
    }

    fn send(&mut self, n: u64, devices: &[PeerId], now: Now) {
        let command = Self::command(n, 10, now);
        let batch = self.outbox.accept(now, &mut self.rng, &self.tuning, command, devices).unwrap().unwrap();
        self.rows.extend(batch);
        assert!(self.outbox.stored(&id(n)).is_some());
    }

    fn write(&mut self, to: PeerId, now: Now) -> Vec<Direct> {
        let mut written = vec![];
        while let Next::Write(d) = self.outbox.next(now, &self.tuning, &to, usize::MAX) {
            written.push(d);
        }
        written
    }

    fn receipt(&mut self, from: PeerId, kind: ReceiptKind, ids: &[MessageId], now: Now) -> Vec<Moved> {
        self.outbox.receipt(now, &from, kind, ids, &mut self.rows)
    }
}

#[test]
fn nothing_is_written_before_it_is_durable() {
    let mut b = Bench::new();
    let command = Bench::command(1, 10, at(0));
    b.outbox.accept(at(0), &mut b.rng, &b.tuning, command, &[peer(1)]).unwrap();
    assert!(b.write(peer(1), at(0)).is_empty());
    b.outbox.stored(&id(1));
    assert_eq!(b.write(peer(1), at(0)).len(), 1);
}

#[test]
fn a_new_path_starts_over_with_what_is_not_acknowledged_in_order() {
    let mut b = Bench::new();
    for n in 1..=4 {
        b.send(n, &[peer(1)], at(n));
    }
    assert_eq!(b.write(peer(1), at(5)).len(), 4);
    b.receipt(peer(1), ReceiptKind::Delivered, &[id(2)], at(6));
    assert!(b.write(peer(1), at(7)).is_empty(), "written once on one path");
    b.outbox.new_path(&peer(1));
    let again = b.write(peer(1), at(8));
    assert_eq!(again.iter().map(|d| d.message).collect::<Vec<_>>(), [id(1), id(3), id(4)]);
    assert!(again.windows(2).all(|w| w[0].seq < w[1].seq));
    assert_eq!(again[0].floor, again[0].seq);
}

#[test]
fn numbers_go_on_after_a_restart_and_never_repeat() {
    let mut b = Bench::new();
    for n in 1..=3 {
        b.send(n, &[peer(1)], at(0));
    }
    let before = b.write(peer(1), at(0));
    b.receipt(peer(1), ReceiptKind::Read, &[id(1), id(2), id(3)], at(1));
    // everything is forgotten but the counter
    let mut restarted = Bench::new();
    restarted.rng = Rng::new(2);
    for write in &b.rows {
        if let Write::Meta { key, value: Some(value), .. } = write {
            restarted.outbox.load_lane(key, value);
        }
    }
    restarted.send(4, &[peer(1)], at(2));
    let after = restarted.write(peer(1), at(2));
    assert_eq!(after[0].epoch, before[0].epoch, "one epoch for the life of the store");
    assert!(after[0].seq > before[2].seq);
    assert_eq!(after[0].floor, after[0].seq, "the recipient need not wait for numbers that were never used");
}

/// The batch that reserved numbers failed, the disk was full for a moment; the next message was stored
/// under a number that nothing in the store reserved, and a restart used it again: the recipient took
/// the new message for a duplicate, and the sender believed it delivered.
#[test]
fn a_reservation_that_failed_is_made_again() {
    let mut b = Bench::new();
    let command = |n| Bench::command(n, 10, at(0));
    b.outbox.accept(at(0), &mut b.rng, &b.tuning, command(1), &[peer(1)]).unwrap();
    let second = b.outbox.accept(at(0), &mut b.rng, &b.tuning, command(2), &[peer(1)]).unwrap().unwrap();
    b.outbox.not_stored(&id(1));
    assert!(second.iter().any(|w| matches!(w, Write::Meta { .. })), "it does not rely on the first one");
    b.outbox.stored(&id(2));
    let third = b.outbox.accept(at(0), &mut b.rng, &b.tuning, command(3), &[peer(1)]).unwrap().unwrap();
    assert!(!third.iter().any(|w| matches!(w, Write::Meta { .. })), "once it is durable it is enough");
}

#[test]
fn loaded_rows_are_fetched_and_sent_with_their_numbers() {
    let mut b = Bench::new();
    b.send(1, &[peer(1)], at(0));
    let first = b.write(peer(1), at(0)).remove(0);
    let mut restarted = Bench::new();
    for write in &b.rows {
        if let Write::Append(row) = write {
            restarted.outbox.load(at(0), &OutboxRow { content: None, ..row.clone() });
        }
    }
    assert_eq!(restarted.outbox.waiting(), 1);
    assert!(matches!(restarted.outbox.next(at(1), &b.tuning, &peer(1), usize::MAX), Next::Fetch));
    assert_eq!(restarted.outbox.missing(&peer(1), 16), [id(1)]);
    restarted.outbox.fetched(&id(1), Some(first.body.clone()));
    assert_eq!(restarted.write(peer(1), at(1)), vec![first]);
}

/// A restart leaves out the numbers that were reserved. A new message next to one from before the
/// restart said that only the older one was missing, and the recipient waited 30 s for numbers that
/// nobody had ever used.
#[test]
fn after_a_restart_new_messages_wait_for_the_old_ones_to_be_acknowledged() {
    let mut b = Bench::new();
    for n in 1..=3 {
        b.send(n, &[peer(1)], at(0));
    }
    b.write(peer(1), at(0));
    let mut restarted = Bench::new();
    restarted.rng = Rng::new(2);
    for write in &b.rows {
        match write {
            Write::Append(row) if row.message != id(2) => restarted.outbox.load(at(1), row),
            Write::Meta { key, value: Some(value), .. } => restarted.outbox.load_lane(key, value),
            _ => {}
        }
    }
    restarted.send(4, &[peer(1)], at(2));
    for old in [id(1), id(3)] {
        restarted.outbox.fetched(&old, Some(Bytes::from_static(b"body")));
    }
    let written = restarted.write(peer(1), at(3));
    assert_eq!(written.iter().map(|d| d.message).collect::<Vec<_>>(), [id(1), id(3)]);
    restarted.receipt(peer(1), ReceiptKind::Delivered, &[id(1)], at(4));
    assert!(restarted.write(peer(1), at(4)).is_empty(), "one from before the restart is still open");
    restarted.receipt(peer(1), ReceiptKind::Delivered, &[id(3)], at(5));
    let [new] = &restarted.write(peer(1), at(5))[..] else { panic!("the new message is not written") };
    assert_eq!((new.message, new.floor), (id(4), new.seq));
}

#[test]
fn unbound_messages_wait_for_the_first_device() {
    let mut b = Bench::new();
    b.send(1, &[], at(0));
    b.send(2, &[], at(1));
    assert!(b.outbox.is_unbound(&bob()));
    let batches = b.outbox.bind(at(2), &mut b.rng, &b.tuning, &bob(), &[peer(1), peer(2)]);
    assert_eq!(batches.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [id(1), id(2)]);
    assert!(b.write(peer(1), at(2)).is_empty(), "the numbers are not durable yet");
    assert_eq!(b.outbox.bound(&id(1)).len(), 2);
    b.outbox.not_bound(&id(2));
    assert_eq!(b.write(peer(1), at(3)).len(), 1);
    assert!(b.outbox.is_unbound(&bob()), "the second one waits again");
}

#[test]
fn delivered_on_one_device_and_read_on_another() {
    let mut b = Bench::new();
    b.send(1, &[peer(1), peer(2)], at(0));
    b.write(peer(1), at(0));
    let moved = b.receipt(peer(1), ReceiptKind::Delivered, &[id(1)], at(40));
    assert_eq!(moved[0].took, Duration::from_millis(40));
    assert_eq!(b.outbox.waiting(), 0);
    assert_eq!(b.write(peer(2), at(50)).len(), 1, "the other device gets it too");
    b.receipt(peer(2), ReceiptKind::Read, &[id(1)], at(60));
    let best = b.outbox.deliveries(&id(1)).into_iter().map(|d| d.delivery).max();
    assert_eq!(best, Some(Delivery::Read));
    b.receipt(peer(1), ReceiptKind::Read, &[id(1)], at(70));
    assert!(b.outbox.deliveries(&id(1)).is_empty(), "forgotten when all have read it");
}

#[test]
fn a_receipt_counts_only_from_the_device_it_was_sent_to() {
    let mut b = Bench::new();
    b.send(1, &[peer(1)], at(0));
    b.write(peer(1), at(0));
    assert!(b.receipt(peer(9), ReceiptKind::Delivered, &[id(1)], at(1)).is_empty());
    assert!(b.receipt(peer(1), ReceiptKind::Delivered, &[id(77)], at(1)).is_empty());
    assert_eq!(b.outbox.waiting(), 1);
}

#[test]
fn expiry_follows_the_wall_clock_and_is_enforced() {
    let mut b = Bench::new();
    b.outbox.clock(at(0));
    b.send(1, &[peer(1)], at(0));
    let due = b.outbox.deadline(&b.tuning).unwrap();
    assert_eq!(due, Tick(u64::try_from(LIFE.as_millis()).unwrap()));
    let mut rows = vec![];
    // the wall clock was set back an hour: the message still has time
    let slow = Now { tick: due, wall: at(due.0).wall.minus(Duration::from_secs(3_600)) };
    b.outbox.clock(slow);
    assert!(b.outbox.expire(slow, &mut rows).is_empty());
    assert_eq!(b.outbox.deadline(&b.tuning), Some(due.plus(Duration::from_secs(3_600))));
    // it is set right again: the hour is not waited for
    let right = at(due.0 + 1);
    b.outbox.clock(right);
    assert!(b.outbox.deadline(&b.tuning).unwrap() <= right.tick);
    assert!(b.write(peer(1), right).is_empty(), "an expired message is not written");
    let moved = b.outbox.expire(right, &mut rows);
    assert_eq!(moved[0].delivery, Delivery::Expired);
    assert_eq!((b.outbox.waiting(), b.outbox.deadline(&b.tuning)), (0, None));
}

#[test]
fn a_full_queue_takes_nothing_and_changes_nothing() {
    let mut b = Bench::new();
    b.tuning.outbox_messages = 2;
    b.send(1, &[peer(1)], at(0));
    b.send(2, &[peer(1)], at(0));
    let refused = b.outbox.accept(at(0), &mut b.rng, &b.tuning, Bench::command(3, 1, at(0)), &[peer(1)]);
    assert_eq!(refused.unwrap_err(), Refusal::QueueFull);
    b.receipt(peer(1), ReceiptKind::Delivered, &[id(1)], at(1));
    assert!(b.outbox.accept(at(2), &mut b.rng, &b.tuning, Bench::command(3, 1, at(2)), &[peer(1)]).is_ok());
    let long = Bench::command(4, limits::BODY_MAX + 1, at(0));
    let refused = b.outbox.accept(at(0), &mut b.rng, &b.tuning, long, &[]);
    assert_eq!(refused.unwrap_err(), Refusal::TooLarge);
}

#[test]
fn the_same_id_again_is_the_same_message() {
    let mut b = Bench::new();
    b.send(1, &[peer(1)], at(0));
    let again = b.outbox.accept(at(1), &mut b.rng, &b.tuning, Bench::command(1, 10, at(1)), &[peer(1)]);
    assert_eq!(again.unwrap(), None);
    assert_eq!(b.outbox.waiting(), 1);
}

#[test]
fn an_unanswered_lane_starts_over() {
    let mut b = Bench::new();
    b.send(1, &[peer(1)], at(0));
    assert_eq!(b.write(peer(1), at(0)).len(), 1);
    let retry = b.tuning.retry;
    assert!(b.outbox.stale(Tick(0).plus(retry / 2), &b.tuning).is_empty());
    assert_eq!(b.outbox.stale(Tick(0).plus(retry), &b.tuning), vec![peer(1)]);
    assert_eq!(b.write(peer(1), at(31_000)).len(), 1);
}

proptest! {
    /// Bodies in memory stay within their bound and no message is ever lost or counted twice,
    /// whatever comes in which order.
    #[test]
    fn counts_and_bounds(events in proptest::collection::vec((0u8..5, 1u64..20), 1..120)) {
        let mut b = Bench::new();
        b.tuning.bodies_in_memory = 55;
        let mut live = BTreeSet::new();
        for (step, (what, n)) in events.into_iter().enumerate() {
            let now = at(step as u64);
            match what {
                0 if !b.outbox.messages.contains_key(&id(n)) => { b.send(n, &[peer(1)], now); live.insert(n); }
                1 => { b.outbox.new_path(&peer(1)); }
                2 => while let Next::Fetch = {
                    let _ = b.write(peer(1), now);
                    b.outbox.next(now, &b.tuning, &peer(1), usize::MAX)
                } {
                    for i in b.outbox.missing(&peer(1), 3) {
                        b.outbox.fetched(&i, Some(Bytes::from(vec![7; 10])));
                    }
                },
                3 => { b.receipt(peer(1), ReceiptKind::Delivered, &[id(n)], now); live.remove(&n); }
                4 => { b.receipt(peer(1), ReceiptKind::Read, &[id(n)], now); live.remove(&n); }
                _ => {}
            }
            prop_assert_eq!(b.outbox.waiting(), live.len());
            let held: usize = b.outbox.messages.values().filter_map(|m| m.body.as_ref()).map(Bytes::len).sum();
            prop_assert_eq!(held, b.outbox.held);
        }
    }
}

/// A message was forgotten, and when it would have expired was remembered for up to 14 days: a busy node
/// grew by some dozens of bytes with each message that it sent.
#[test]
fn nothing_of_a_message_that_was_read_stays() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.send(n, &[peer(1)], at(n));
        bench.write(peer(1), at(n));
        bench.receipt(peer(1), ReceiptKind::Delivered, &[id(n)], at(n));
        bench.receipt(peer(1), ReceiptKind::Read, &[id(n)], at(n));
    }
    let Outbox { messages, unbound, expiries, .. } = &bench.outbox;
    assert_eq!((messages.len(), unbound.len(), expiries.len()), (0, 0, 0));
}

/// The recipient could not store a message, its disk was full for a moment, and every later message that
/// was acknowledged put off the second try of the old one: in a lively chat it came never.
#[test]
fn newer_receipts_do_not_put_off_an_old_message() {
    let mut b = Bench::new();
    b.send(1, &[peer(1)], at(0));
    assert_eq!(b.write(peer(1), at(0)).len(), 1);
    let retry = u64::try_from(b.tuning.retry.as_millis()).unwrap();
    for n in 2..=4 {
        let now = at(n * retry / 5);
        b.send(n, &[peer(1)], now);
        assert_eq!(b.write(peer(1), now).len(), 1);
        b.receipt(peer(1), ReceiptKind::Delivered, &[id(n)], now);
    }
    assert_eq!(b.outbox.stale(Tick(retry), &b.tuning), [peer(1)]);
    assert_eq!(b.write(peer(1), at(retry))[0].message, id(1));
}

/// A body could not be read when its device connected, as the disk was full for a moment. Nothing had
/// been written, so nothing was ever tried again on that connection.
#[test]
fn a_body_that_could_not_be_read_is_asked_for_again() {
    let mut b = Bench::new();
    b.tuning.bodies_in_memory = 0;
    b.send(1, &[peer(1)], at(0));
    assert!(matches!(b.outbox.next(at(0), &b.tuning, &peer(1), usize::MAX), Next::Fetch));
    b.outbox.unread(&id(1), Tick(0));
    assert_eq!(b.outbox.stale(Tick(0).plus(b.tuning.retry), &b.tuning), [peer(1)]);
    assert_eq!(b.outbox.missing(&peer(1), 16), [id(1)]);
}
