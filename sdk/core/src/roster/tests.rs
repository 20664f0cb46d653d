use byway_api::{NetworkId, Secret};
use byway_wire::{Beacon, DeviceKey, OpenMembership, RecordDraft, issue_self_token};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([n; 32]))
}

fn at(seconds: u64) -> Now {
    let ms = seconds * 1_000;
    Now { tick: Tick(ms), wall: WallTime::from_millis(1_800_000_000_000).plus(Duration::from_millis(ms)) }
}

fn record(n: u8, signer: u8, user: &str) -> VerifiedRecord {
    let (network, user) = (NetworkId::new("net").unwrap(), UserId::new(user).unwrap());
    let (key, issued_at) = (key(n), at(0).wall);
    let credential = issue_self_token(&self::key(signer), &network, &user, &key.peer(), issued_at, HOUR * 24, [n; 16]);
    let draft = RecordDraft {
        network: network.clone(),
        user,
        seq: 1,
        issued_at,
        expires_at: issued_at.plus(HOUR * 24),
        addresses: Vec::new(),
        capabilities: Vec::new(),
        credential,
        seal_keys: Vec::new(),
        coordinators: Vec::new(),
    };
    draft.sign(&key, &OpenMembership::new(network), issued_at).unwrap()
}

fn tell(roster: &mut Roster, from: u8, n: u8, link: bool, at: Option<WallTime>, now: Now) -> Heard {
    let peer = key(n).peer();
    let beacon = at.map(|at| Beacon { peer, at, signature: [0; 64] });
    let entry = Entry { peer, record_seq: 1, seen_at: now.wall, beacon, link, age_s: 0 };
    let slot = roster.slot(&peer).unwrap();
    roster.hear(key(from).peer(), slot, &entry, now, &Tuning::default())
}

/// A roster of device 9 that knows bob's device 1 and two neighbours, 2 and 3.
fn roster() -> (Roster, PeerId) {
    let mut roster = Roster::new(key(9).peer());
    for (n, user) in [(1, "bob"), (2, "carol"), (3, "dave")] {
        assert_eq!(roster.learn(&record(n, n, user), at(0)), Learnt::NewDevice);
    }
    (roster, key(1).peer())
}

/// A member whose clock was an hour ahead for a minute was shown as offline for that hour: the beacon
/// from the future could not be used, and nothing newer replaced it.
#[test]
fn a_beacon_from_the_future_does_not_outbid_the_truth() {
    let (mut roster, bob) = roster();
    let tuning = Tuning::default();
    let ahead = at(10).wall.plus(HOUR);
    tell(&mut roster, 2, 1, false, Some(ahead), at(10));
    assert!(!roster.seems_online(&bob, at(10), &tuning));
    assert!(tell(&mut roster, 2, 1, false, Some(at(60).wall), at(60)).turned);
    assert!(roster.seems_online(&bob, at(60), &tuning));
    // and somebody who still repeats the wrong one changes nothing
    tell(&mut roster, 3, 1, false, Some(ahead), at(61));
    assert!(roster.seems_online(&bob, at(61), &tuning));
}

/// A search asked every neighbour to forward; none was connected to bob. Their word that he was online
/// was thrown away with their word on the way to him, and as nothing changed for them they did not say
/// it again.
#[test]
fn a_neighbour_that_is_no_way_may_still_have_heard() {
    let (mut roster, bob) = roster();
    let (carol, tuning) = (key(2).peer(), Tuning::default());
    tell(&mut roster, 2, 1, true, Some(at(1).wall), at(1));
    assert_eq!(roster.reporters(&bob, at(1).tick), [carol]);
    roster.not_relayed(&bob, &carol, at(2).tick);
    assert!(roster.reporters(&bob, at(3).tick).is_empty());
    assert!(matches!(roster.reach(&bob, at(3), &tuning), Reach::Online { evidence: Class::Presence, .. }));
    assert_eq!(roster.reporters(&bob, at(62).tick), [carol], "after a minute it is tried again");
    roster.not_relayed(&bob, &carol, at(63).tick);
    tell(&mut roster, 2, 1, true, None, at(64));
    assert_eq!(roster.reporters(&bob, at(64).tick), [carol], "or at once when it says so again");
}

/// Own link, relay, presence, registry, cache: the stronger word counts, whoever spoke last.
#[test]
fn the_stronger_evidence_wins() {
    let (mut roster, bob) = roster();
    let (carol, dave, tuning) = (key(2).peer(), key(3).peer(), Tuning::default());
    let reach = |r: &Roster, s| r.reach(&bob, at(s), &tuning);
    roster.cached(&bob, at(1).wall);
    assert_eq!(reach(&roster, 2), Reach::Offline { last_seen: Some(at(1).wall) });
    roster.registered(&bob, Some(at(3).wall), at(3));
    assert!(matches!(reach(&roster, 4), Reach::Online { evidence: Class::Registry, .. }));
    tell(&mut roster, 3, 1, false, Some(at(5).wall), at(5));
    roster.registered(&bob, Some(at(6).wall), at(6));
    assert!(matches!(reach(&roster, 7), Reach::Online { evidence: Class::Presence, .. }));
    tell(&mut roster, 3, 1, true, None, at(8));
    assert!(matches!(reach(&roster, 9), Reach::Via { peer, .. } if peer == dave));
    roster.relayed(&bob, carol, at(10).tick);
    tell(&mut roster, 3, 1, true, None, at(11));
    assert!(matches!(reach(&roster, 12), Reach::Via { peer, .. } if peer == carol), "for 30 s");
    assert!(matches!(reach(&roster, 41), Reach::Via { peer, .. } if peer == dave));
    roster.only_links(&dave, &BTreeSet::new());
    assert!(matches!(reach(&roster, 42), Reach::Online { evidence: Class::Presence, .. }));
    assert!(matches!(reach(&roster, 604), Reach::Online { evidence: Class::Presence, .. }), "ten minutes");
    assert!(matches!(reach(&roster, 605), Reach::Online { evidence: Class::Registry, .. }));
    assert!(matches!(reach(&roster, 606), Reach::Offline { .. }));
}

/// Whoever lost a neighbour was told by the others, who had heard it from itself minutes ago, that it
/// was there, and showed it as online until its word ran out.
#[test]
fn echoes_do_not_raise_the_dead() {
    let (mut roster, bob) = roster();
    let tuning = Tuning::default();
    tell(&mut roster, 1, 1, true, Some(at(1).wall), at(1));
    roster.parted(&bob, at(20).tick, false, at(20).tick, &tuning);
    assert!(!roster.seems_online(&bob, at(20), &tuning));
    assert!(!tell(&mut roster, 2, 1, false, Some(at(1).wall), at(21)).turned);
    assert!(roster.word_of(roster.slot(&bob).unwrap(), at(21).tick).is_none(), "nor is it told");
    assert!(tell(&mut roster, 2, 1, false, Some(at(20).wall), at(22)).turned, "it spoke up");
    roster.parted(&bob, at(30).tick, false, at(30).tick, &tuning);
    assert!(tell(&mut roster, 3, 1, true, None, at(31)).turned, "somebody holds a link to it");
}

/// A link broke. The far side noticed at once and said by its other links that it was still there; we
/// heard that, noticed the loss ourselves eight seconds later, and held it for gone until its next word.
#[test]
fn who_spoke_after_the_link_was_silent_is_not_gone() {
    let (mut roster, bob) = roster();
    let tuning = Tuning::default();
    tell(&mut roster, 1, 1, true, Some(at(1).wall), at(1));
    tell(&mut roster, 2, 1, false, Some(at(21).wall), at(21));
    roster.parted(&bob, at(20).tick, false, at(28).tick, &tuning);
    assert!(roster.seems_online(&bob, at(28), &tuning));
}

/// A word is as old as those say who passed it on; clocks on walls only have to be plausible.
#[test]
fn honest_clocks_may_be_five_minutes_off_on_both_sides() {
    let tuning = Tuning::default();
    let minutes = |m: u64| Duration::from_secs(60 * m);
    for (theirs, counts) in [
        (at(1_000).wall.plus(minutes(10)), true),
        (at(1_000).wall.minus(minutes(10)), true),
        (at(1_000).wall.plus(minutes(11)), false),
        (at(1_000).wall.minus(minutes(21)), false),
    ] {
        let (mut roster, bob) = roster();
        tell(&mut roster, 2, 1, false, Some(theirs), at(1_000));
        assert_eq!(roster.seems_online(&bob, at(1_000), &tuning), counts, "{theirs}");
        assert_eq!(roster.seems_online(&bob, at(1_599), &tuning), counts, "{theirs}");
        assert!(!roster.seems_online(&bob, at(1_600), &tuning));
    }
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Neighbours' words reach us in any order and number: what remains does not depend on it.
        #[test]
        fn what_neighbours_say_of_words_commutes(
            said in proptest::collection::vec((2u8..4, 1u64..6), 1..8),
            seed in any::<u64>(),
        ) {
            let last = |r: &Roster| r.device(&key(1).peer()).and_then(|d| d.lease().copied());
            let (mut one, _) = roster();
            for (from, t) in &said {
                tell(&mut one, *from, 1, false, Some(at(*t).wall), at(10));
            }
            let mut shuffled = said.clone();
            shuffled.sort_by_key(|(f, t)| (u64::from(*f) * 31 + t).wrapping_mul(seed | 1));
            shuffled.extend(said.iter().take(3));
            let (mut two, _) = roster();
            for (from, t) in &shuffled {
                tell(&mut two, *from, 1, false, Some(at(*t).wall), at(10));
            }
            prop_assert_eq!(last(&one), last(&two));
        }
    }
}
