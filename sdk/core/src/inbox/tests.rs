use proptest::prelude::*;

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn alice() -> UserId {
    UserId::new("alice").unwrap()
}

fn at(ms: u64) -> Now {
    Now { tick: Tick(ms), wall: WallTime::from_millis(1_000_000 + i64::try_from(ms).unwrap()) }
}

fn direct(seq: u64, floor: u64) -> Direct {
    let mut message = [0; 16];
    message[..8].copy_from_slice(&seq.to_be_bytes());
    Direct {
        message: MessageId::from_bytes(message),
        epoch: 5,
        seq,
        floor,
        sent_at: WallTime::default(),
        expires_at: WallTime::from_millis(i64::MAX),
        reply_to: None,
        body: Bytes::copy_from_slice(&seq.to_be_bytes()),
    }
}

/// An inbox with a store that is durable at once.
struct Bench {
    inbox: Inbox,
    tuning: Tuning,
    rows: Vec<InboxRow>,
    marks: BTreeMap<u64, SeenRow>,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let mut inbox = Inbox::default();
        inbox.room(1_000);
        Self { inbox, tuning: Tuning::default(), rows: vec![], marks: BTreeMap::new(), now: 0 }
    }

    fn arrive(&mut self, d: Direct) -> Verdict {
        self.inbox.arrived(at(self.now), &self.tuning, peer(1), &alice(), d)
    }

    fn commit(&mut self) {
        while let Some(batch) = self.inbox.batch(at(self.now)) {
            let applied = vec![Applied::Done; batch.len()];
            for write in batch {
                let Write::Receive { row, seen } = write else { panic!("{write:?}") };
                assert!(!self.rows.iter().any(|r| r.seq == row.seq), "one row per message");
                self.rows.push(row);
                self.marks.insert(seen.epoch, seen);
            }
            self.inbox.stored(at(self.now), &self.tuning, &applied, &mut vec![]);
        }
    }

    fn shown(&mut self) -> Vec<(u64, bool)> {
        let mut shown = vec![];
        while let Next::Show(item) = self.inbox.next_for_app() {
            shown.push((item.key.seq, item.late));
        }
        shown
    }

    fn receipts(&mut self) -> usize {
        let mut n = 0;
        while let Some((_, ids)) = self.inbox.receipts(&peer(1)) {
            n += ids.len();
        }
        n
    }
}

#[test]
fn no_receipt_before_the_row_is_durable() {
    let mut b = Bench::new();
    assert_eq!(b.arrive(direct(0, 0)), Verdict::Taken);
    assert_eq!(b.receipts(), 0);
    assert!(b.inbox.batch(at(0)).is_some());
    assert_eq!(b.receipts(), 0);
    b.inbox.not_stored();
    assert_eq!((b.receipts(), b.shown()), (0, vec![]), "a full disk acknowledges nothing");
    assert_eq!(b.arrive(direct(0, 0)), Verdict::Taken, "and the sender's next try is taken");
    b.commit();
    assert_eq!((b.receipts(), b.shown()), (1, vec![(0, false)]));
}

/// Two batches used to be with the store at once. The second one's mark covered the first one's
/// message; when only the first failed, the message was taken for seen and never shown.
#[test]
fn a_mark_never_covers_a_message_whose_write_may_fail() {
    let mut b = Bench::new();
    b.arrive(direct(0, 0));
    let first = b.inbox.batch(at(0)).unwrap();
    assert_eq!(first.len(), 1);
    b.arrive(direct(1, 0));
    assert!(b.inbox.batch(at(0)).is_none(), "one batch at a time");
    b.inbox.not_stored();
    let second = b.inbox.batch(at(0)).unwrap();
    let Write::Receive { seen, .. } = &second[0] else { panic!() };
    assert_eq!((seen.floor, seen.above.as_slice()), (0, &[1][..]), "0 was never stored");
}

#[test]
fn a_duplicate_causes_its_receipt_again_and_nothing_else() {
    let mut b = Bench::new();
    b.arrive(direct(0, 0));
    b.commit();
    assert_eq!((b.receipts(), b.shown().len()), (1, 1));
    assert_eq!(b.arrive(direct(0, 0)), Verdict::Duplicate);
    b.commit();
    assert_eq!((b.receipts(), b.shown().len()), (1, 0));
}

#[test]
fn order_waits_for_a_gap_and_gives_it_up() {
    let mut b = Bench::new();
    for seq in [0, 2, 3] {
        b.arrive(direct(seq, 0));
    }
    b.commit();
    assert_eq!(b.shown(), [(0, false)]);
    assert_eq!(b.receipts(), 3, "receipts do not wait");
    let due = b.inbox.deadline(&b.tuning).unwrap();
    assert_eq!(due, Tick(0).plus(b.tuning.gap_wait));
    b.now = due.0;
    b.inbox.expire(due, &b.tuning);
    assert_eq!(b.shown(), [(2, false), (3, false)]);
    b.arrive(direct(1, 1));
    b.commit();
    assert_eq!(b.shown(), [(1, true)], "a straggler is marked late");
    assert_eq!(b.inbox.deadline(&b.tuning), None);
}

#[test]
fn the_senders_floor_closes_gaps_that_it_gave_up() {
    let mut b = Bench::new();
    b.arrive(direct(0, 0));
    b.arrive(direct(5, 5));
    b.commit();
    assert_eq!(b.shown(), [(0, false), (5, false)]);
}

#[test]
fn an_unfinished_message_is_shown_again_after_a_restart_in_order() {
    let mut b = Bench::new();
    for seq in [1, 0, 2] {
        b.arrive(direct(seq, 0));
    }
    b.commit();
    assert_eq!(b.shown().len(), 3);
    let key = InboxKey { from: peer(1), epoch: 5, seq: 1 };
    assert!(b.inbox.done(&key).is_some());
    let mut again = Bench::new();
    for mark in b.marks.values() {
        again.inbox.load_seen(mark);
    }
    for row in b.rows.iter().filter(|r| r.seq != 1) {
        again.inbox.load(&InboxRow { content: None, ..row.clone() }, Tick(0));
    }
    again.inbox.loaded();
    for seq in [0, 2] {
        let Next::Fetch(key) = again.inbox.next_for_app() else { panic!() };
        assert_eq!(key.seq, seq);
        again.inbox.fetched(&key, Some(Bytes::new()));
        assert_eq!(again.shown(), [(seq, false)]);
    }
    assert_eq!(again.arrive(direct(1, 0)), Verdict::Duplicate, "what is done stays done");
}

#[test]
fn a_full_inbox_answers_nothing() {
    let mut b = Bench::new();
    b.tuning.inbox_messages = 2;
    assert_eq!(b.arrive(direct(0, 0)), Verdict::Taken);
    assert_eq!(b.arrive(direct(1, 0)), Verdict::Taken);
    assert_eq!(b.arrive(direct(2, 0)), Verdict::Refused);
    b.commit();
    assert_eq!(b.receipts(), 2);
    b.shown();
    b.inbox.done(&InboxKey { from: peer(1), epoch: 5, seq: 0 });
    assert_eq!(b.arrive(direct(2, 0)), Verdict::Taken);
}

/// A sender that was faster than the app: the inbox was full for a moment, one message was refused
/// and those behind it taken as room came. The refused one arrived late, after a wait for the gap.
#[test]
fn a_full_inbox_makes_no_gap() {
    let mut b = Bench::new();
    b.tuning.inbox_messages = 2;
    b.arrive(direct(0, 0));
    b.arrive(direct(1, 0));
    b.commit();
    assert_eq!(b.arrive(direct(2, 0)), Verdict::Refused);
    b.shown();
    b.inbox.done(&InboxKey { from: peer(1), epoch: 5, seq: 0 });
    assert_eq!(b.arrive(direct(3, 0)), Verdict::Refused, "2 comes first");
    assert_eq!(b.arrive(direct(2, 2)), Verdict::Taken);
    b.inbox.done(&InboxKey { from: peer(1), epoch: 5, seq: 1 });
    assert_eq!(b.arrive(direct(3, 2)), Verdict::Taken);
    b.commit();
    assert_eq!(b.shown(), [(2, false), (3, false)]);
}

#[test]
fn a_refused_message_that_the_sender_gives_up_is_not_waited_for() {
    let mut b = Bench::new();
    b.tuning.inbox_messages = 1;
    b.arrive(direct(0, 0));
    b.commit();
    assert_eq!(b.arrive(direct(1, 1)), Verdict::Refused);
    b.shown();
    b.inbox.done(&InboxKey { from: peer(1), epoch: 5, seq: 0 });
    assert_eq!(b.arrive(direct(2, 2)), Verdict::Taken);
}

/// With as many marks above a gap as one sender may have, the message that closes the gap was refused
/// like any other, for ever: nothing of that sender arrived any more.
#[test]
fn a_sender_with_the_most_marks_can_still_close_the_gap() {
    let mut b = Bench::new();
    b.tuning.inbox_messages = 2 * limits::SEEN_MARKS_PER_SENDER;
    let most = u64::try_from(limits::SEEN_MARKS_PER_SENDER).unwrap();
    let above: Vec<u64> = (1..=most).collect();
    let (from_peer, used_at) = (peer(1), WallTime::default());
    b.inbox.load_seen(&SeenRow { from_peer, epoch: 5, floor: 0, above, used_at });
    assert_eq!(b.arrive(direct(most + 1, 0)), Verdict::Refused);
    assert_eq!(b.arrive(direct(0, 0)), Verdict::Taken);
    b.commit();
    assert_eq!(b.arrive(direct(most + 1, 0)), Verdict::Taken);
}

#[test]
fn the_app_gets_no_more_than_it_has_room_for() {
    let mut b = Bench::new();
    b.inbox = Inbox::default();
    b.inbox.room(1);
    b.arrive(direct(0, 0));
    b.arrive(direct(1, 0));
    b.commit();
    assert_eq!(b.shown().len(), 1);
    b.inbox.room(1);
    assert_eq!(b.shown().len(), 1);
}

#[test]
fn the_oldest_epoch_is_forgotten_and_not_the_newest() {
    let mut b = Bench::new();
    for epoch in 1..=6 {
        b.now = epoch * 1_000;
        b.arrive(Direct { epoch, ..direct(0, 0) });
        b.inbox.batch(at(b.now)).unwrap();
        let mut more = vec![];
        b.inbox.stored(at(b.now), &b.tuning, &[Applied::Done], &mut more);
        let forgotten = more.iter().any(|w| matches!(w, Write::Unsee { epoch: e, .. } if *e + 4 == epoch));
        assert_eq!(forgotten, epoch > 4, "{more:?}");
    }
}

proptest! {
    /// Whatever arrives how often and in which order: one row and one showing per message, in the
    /// order of the numbers but for stragglers that are marked late.
    #[test]
    fn exactly_once_and_in_order(
        arrivals in proptest::collection::vec((0u64..30, any::<bool>(), 0u64..12_000), 1..200),
    ) {
        let mut b = Bench::new();
        let mut shown = vec![];
        let mut sent = BTreeSet::new();
        for (seq, commit, pause) in arrivals {
            b.now += pause;
            b.arrive(direct(seq, 0));
            sent.insert(seq);
            if commit { b.commit(); }
            b.inbox.expire(Tick(b.now), &b.tuning);
            shown.extend(b.shown());
        }
        b.commit();
        for _ in 0..40 {
            b.now += 30_000;
            b.inbox.expire(Tick(b.now), &b.tuning);
        }
        shown.extend(b.shown());
        let unique: BTreeSet<_> = shown.iter().map(|(s, _)| *s).collect();
        prop_assert_eq!(unique.len(), shown.len(), "shown once");
        prop_assert_eq!(unique, sent, "all shown");
        let in_time: Vec<_> = shown.iter().filter(|(_, late)| !late).map(|(s, _)| *s).collect();
        prop_assert!(in_time.is_sorted(), "{:?}", in_time);
    }
}
