use bytes::Bytes;

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn id(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

const TO: u8 = 9;

/// A courier with one sealed message for device 9.
fn with_message(n: u8) -> (Courier, ParcelId) {
    let mut c = Courier::default();
    c.begin(OpId(1), peer(TO), Cargo::Message(id(n)), 100);
    let parcel = c.sealed(OpId(1), Sealed { to: peer(TO), envelope: Bytes::from_static(b"sealed") }).unwrap();
    (c, parcel)
}

fn hop(next: &Next) -> Option<PeerId> {
    if let Next::Hand(hop, _) = next { Some(*hop) } else { None }
}

#[test]
fn one_neighbour_after_the_other_is_asked_and_then_the_first_again() {
    let ((mut c, parcel), tuning) = (with_message(1), Tuning::default());
    let ways = [peer(1), peer(2)];
    for n in [1, 2] {
        assert_eq!(hop(&c.next(Tick(0), &tuning, parcel, &ways)), Some(peer(n)));
        let op = OpId(10 + u64::from(n));
        c.handing(op, parcel, peer(n));
        assert_eq!(c.handed(op), Some((parcel, peer(n))));
        c.refused(parcel, peer(n));
    }
    assert_eq!(c.next(Tick(0), &tuning, parcel, &ways), Next::Wait);
    let later = c.deadline().unwrap();
    assert_eq!(later, Tick(0).plus(tuning.relay_rest));
    assert_eq!(c.due(later).0, [parcel]);
    assert_eq!(hop(&c.next(later, &tuning, parcel, &ways)), Some(peer(1)));
}

#[test]
fn who_did_not_answer_is_left_alone_by_every_parcel_for_a_while() {
    let ((mut c, parcel), tuning) = (with_message(1), Tuning::default());
    c.rest(peer(1), Tick(1_000));
    assert_eq!(c.next(Tick(0), &tuning, parcel, &[peer(1)]), Next::Wait);
    assert_eq!(c.deadline(), Some(Tick(1_000)));
    assert_eq!(c.due(Tick(1_000)).0, [parcel]);
    assert_eq!(hop(&c.next(Tick(1_000), &tuning, parcel, &[peer(1)])), Some(peer(1)));
}

/// A neighbour may pass a message on and die, or the recipient's answer may be lost: only the
/// recipient's word ends a message.
#[test]
fn a_message_that_was_passed_on_goes_again_until_its_recipient_answers() {
    let ((mut c, parcel), tuning) = (with_message(1), Tuning::default());
    let ways = [peer(1), peer(2)];
    assert_eq!(hop(&c.next(Tick(0), &tuning, parcel, &ways)), Some(peer(1)));
    c.handing(OpId(2), parcel, peer(1));
    assert!(c.handed(OpId(2)).is_some());
    assert_eq!(c.passed_on(Tick(0), &tuning, parcel, peer(1)), Some(id(1)));
    assert!(c.uses(&peer(1)) && c.carries(&peer(TO)));
    assert_eq!(c.deadline(), Some(Tick(2_000)));
    assert_eq!(hop(&c.next(Tick(2_000), &tuning, parcel, &ways)), Some(peer(2)), "rather through another one");
    assert_eq!(hop(&c.next(Tick(2_000), &tuning, parcel, &ways[..1])), Some(peer(1)), "than not at all");
    c.handing(OpId(3), parcel, peer(2));
    assert!(c.handed(OpId(3)).is_some());
    c.passed_on(Tick(2_000), &tuning, parcel, peer(2));
    assert_eq!(c.deadline(), Some(Tick(6_000)), "the wait doubles");
    c.acknowledged(&peer(TO), &[id(1)]);
    assert!(!c.carries(&peer(TO)));
    assert_eq!(c.deadline(), None);
}

#[test]
fn what_a_lost_neighbour_has_passed_on_goes_again_at_once() {
    let ((mut c, parcel), tuning) = (with_message(1), Tuning::default());
    c.handing(OpId(2), parcel, peer(1));
    assert!(c.handed(OpId(2)).is_some());
    c.passed_on(Tick(0), &tuning, parcel, peer(1));
    assert_eq!(c.gone(&peer(2)), []);
    assert_eq!(c.gone(&peer(1)), [parcel]);
    assert_eq!(hop(&c.next(Tick(1), &tuning, parcel, &[peer(2)])), Some(peer(2)));
}

#[test]
fn answers_for_what_goes_another_way_now_change_nothing() {
    let (mut c, parcel) = with_message(1);
    c.handing(OpId(2), parcel, peer(1));
    c.begin(OpId(3), peer(TO), Cargo::Message(id(2)), 100);
    c.drop_messages(&peer(TO));
    assert_eq!(c.handed(OpId(2)), None);
    assert_eq!(c.sealed(OpId(3), Sealed { to: peer(TO), envelope: Bytes::new() }), None);
    assert!(!c.carries(&peer(TO)) && c.ops.is_empty() && c.bytes == 0);
}

#[test]
fn a_receipt_ends_when_it_was_passed_on() {
    let (mut c, tuning) = (Courier::default(), Tuning::default());
    c.begin(OpId(1), peer(TO), Cargo::Receipts(byway_wire::ReceiptKind::Delivered, vec![id(1)]), 100);
    assert!(c.has_receipts(&peer(TO)) && !c.carries(&peer(TO)));
    let parcel = c.sealed(OpId(1), Sealed { to: peer(TO), envelope: Bytes::new() }).unwrap();
    c.handing(OpId(2), parcel, peer(1));
    assert!(c.handed(OpId(2)).is_some());
    assert_eq!(c.passed_on(Tick(0), &tuning, parcel, peer(1)), None);
    assert!(!c.has_receipts(&peer(TO)));
}

#[test]
fn parcels_are_bounded_for_each_device_and_in_bytes() {
    let (mut c, tuning) = (Courier::default(), Tuning::default());
    let mut op = 0;
    while c.has_room(&peer(1), &tuning) {
        op += 1;
        c.begin(OpId(op), peer(1), Cargo::Message(id(1)), 100);
    }
    assert_eq!(op as usize, tuning.relay_window);
    assert!(c.has_room(&peer(2), &tuning), "another device has its own");
    c.begin(OpId(op + 1), peer(2), Cargo::Message(id(2)), tuning.relay_bytes);
    assert!(!c.has_room(&peer(3), &tuning));
    assert_eq!(c.denied(&tuning), BTreeSet::new(), "still no room");
    c.drop_device(&peer(2));
    assert_eq!(c.denied(&tuning), BTreeSet::from([peer(3)]));
}
