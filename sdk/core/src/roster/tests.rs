use byway_api::{NetworkId, Secret};
use byway_wire::{DeviceKey, OpenMembership, RecordDraft, issue_self_token};

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

fn beacon(n: u8, at: WallTime) -> Option<Beacon> {
    Some(Beacon { peer: key(n).peer(), at, signature: [0; 64] })
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
    roster.claim(key(2).peer(), &bob, false, beacon(1, at(10).wall.plus(HOUR)), at(10));
    assert!(!roster.seems_online(&bob, at(10), &tuning));
    roster.claim(key(2).peer(), &bob, false, beacon(1, at(60).wall), at(60));
    assert!(roster.seems_online(&bob, at(60), &tuning));
    // and somebody who still repeats the wrong one changes nothing
    roster.claim(key(3).peer(), &bob, false, beacon(1, at(10).wall.plus(HOUR)), at(61));
    assert!(roster.seems_online(&bob, at(61), &tuning));
}

/// A search asked every neighbour to forward; none was connected to bob. Their word that he was online
/// was thrown away with their word on the way to him, and as nothing changed for them they did not say
/// it again.
#[test]
fn a_neighbour_that_is_no_way_may_still_have_heard() {
    let (mut roster, bob) = roster();
    let (carol, tuning) = (key(2).peer(), Tuning::default());
    roster.claim(carol, &bob, true, beacon(1, at(1).wall), at(1));
    assert_eq!(roster.reporters(&bob, at(1).tick), [carol]);
    roster.not_relayed(&bob, &carol, at(2).tick);
    assert!(roster.reporters(&bob, at(3).tick).is_empty());
    assert!(matches!(roster.reach(&bob, at(3), &tuning), Reach::Online { evidence: Evidence::Presence, .. }));
    assert_eq!(roster.reporters(&bob, at(62).tick), [carol], "after a minute it is tried again");
    roster.not_relayed(&bob, &carol, at(63).tick);
    roster.claim(carol, &bob, true, None, at(64));
    assert_eq!(roster.reporters(&bob, at(64).tick), [carol], "or at once when it says so again");
}
