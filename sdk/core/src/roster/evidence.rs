//! What says that a device is there, and how two such accounts become one.

use std::num::NonZeroU64;
use std::time::Duration;

use byway_api::{PeerId, WallTime};
use byway_wire::Beacon;

use crate::machine::Tick;

/// A neighbour that listed a device and could not forward to it is no way to it for so long.
const NO_WAY: Duration = Duration::from_secs(60);

/// A [`Tick`] that is as large as nothing: an `Option` of it costs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl From<Tick> for Moment {
    fn from(tick: Tick) -> Self {
        Self(NonZeroU64::new(tick.0.saturating_add(1)).unwrap_or(NonZeroU64::MAX))
    }
}

impl From<Moment> for Tick {
    fn from(moment: Moment) -> Self {
        Self(moment.0.get() - 1)
    }
}

/// A device's own word that it is there: good until `until` by our clock, whatever clocks on walls say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// When it was signed, by the device's idea of the network's time. The newer one wins.
    pub at: WallTime,
    /// When it is over. Of two accounts of one beacon the longer one wins.
    pub until: Moment,
    /// The device's signature.
    pub signature: [u8; 64],
}

impl Lease {
    /// The beacon of the device `peer` again, to be passed on.
    pub const fn beacon(&self, peer: PeerId) -> Beacon {
        Beacon { peer, at: self.at, signature: self.signature }
    }

    /// Whether it is good.
    pub fn holds(&self, now: Tick) -> bool {
        now < Tick::from(self.until)
    }
}

/// What a neighbour said of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// It holds no link to it.
    NoLink,
    /// It could not forward to it.
    Refused,
    /// It holds a live link to it.
    Link,
}

/// The newest word of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    /// Which one of all words that we have heard: the newer one wins.
    pub nth: u64,
    /// When.
    pub heard: Tick,
    /// What.
    pub says: Says,
}

impl Word {
    /// Whether the neighbour is a way to the device.
    pub fn leads(&self, now: Tick) -> bool {
        match self.says {
            Says::Link => true,
            Says::Refused => now - self.heard >= NO_WAY,
            Says::NoLink => false,
        }
    }
}

/// What is known of a device at close range; most devices are far away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// A neighbour forwarded something to it.
    pub relay: Option<(Tick, PeerId)>,
    /// Neighbours and their newest word, in the order of their keys.
    pub words: Vec<(PeerId, Word)>,
}

/// All that says whether a device is there.
///
/// Accounts merge in any order, grouping and number to the same: of each kind the newest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Its own word.
    pub lease: Option<Lease>,
    /// When a registry listed it.
    pub registry: Option<Moment>,
    /// When it was last known to be there; zero if never.
    pub seen: WallTime,
    near: Option<Box<Near>>,
}

impl Evidence {
    /// Of a beacon.
    pub fn of_lease(lease: Lease) -> Self {
        Self { lease: Some(lease), ..Self::default() }
    }

    /// Of a registry's list.
    pub fn of_registry(now: Tick, seen: WallTime) -> Self {
        Self { registry: Some(now.into()), seen, ..Self::default() }
    }

    /// Of anything that tells no more than a time.
    pub fn of_sight(seen: WallTime) -> Self {
        Self { seen, ..Self::default() }
    }

    /// Of a neighbour that has forwarded something to the device.
    pub fn of_relay(now: Tick, through: PeerId) -> Self {
        Self { near: Some(Box::new(Near { relay: Some((now, through)), ..Near::default() })), ..Self::default() }
    }

    /// Of a neighbour's word.
    pub fn of_word(neighbour: PeerId, word: Word) -> Self {
        let words = vec![(neighbour, word)];
        Self { near: Some(Box::new(Near { words, ..Near::default() })), ..Self::default() }
    }

    /// Takes in another account of the same device.
    pub fn merge(&mut self, other: &Self) {
        self.lease = self.lease.max(other.lease);
        self.registry = self.registry.max(other.registry);
        self.seen = self.seen.max(other.seen);
        let Some(theirs) = &other.near else { return };
        let near = self.near.get_or_insert_default();
        near.relay = near.relay.max(theirs.relay);
        for (neighbour, word) in &theirs.words {
            match near.words.binary_search_by(|(p, _)| p.cmp(neighbour)) {
                Ok(at) => near.words[at].1 = near.words[at].1.max(*word),
                Err(at) => {
                    near.words.reserve_exact(1);
                    near.words.insert(at, (*neighbour, *word));
                }
            }
        }
    }

    /// Words that say nothing any more are forgotten. All that comes later is newer than they were.
    pub fn prune(&mut self) {
        if let Some(near) = &mut self.near {
            near.words.retain(|(_, w)| w.says != Says::NoLink);
            if near.words.is_empty() && near.relay.is_none() {
                self.near = None;
            }
        }
    }

    /// What a neighbour that is gone has said, and has forwarded, is of no use.
    pub fn forget(&mut self, neighbour: &PeerId) {
        if let Some(near) = &mut self.near {
            near.words.retain(|(p, _)| p != neighbour);
            near.relay = near.relay.filter(|(_, p)| p != neighbour);
            self.prune();
        }
    }

    /// No neighbour reaches it any more.
    pub fn forget_ways(&mut self) {
        self.near = None;
    }

    /// The word of a neighbour, if it has said something.
    pub fn word(&self, neighbour: &PeerId) -> Option<&Word> {
        self.words().find(|(p, _)| *p == neighbour).map(|(_, w)| w)
    }

    /// The neighbours' words.
    pub fn words(&self) -> impl Iterator<Item = (&PeerId, &Word)> {
        self.near.iter().flat_map(|n| n.words.iter().map(|(p, w)| (p, w)))
    }

    /// Who forwarded something to it, and when.
    pub fn relay(&self) -> Option<(Tick, PeerId)> {
        self.near.as_ref()?.relay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn evidence() -> impl Strategy<Value = Evidence> {
        let lease = (0i64..4, 0u64..4, 0u8..3).prop_map(|(at, until, s)| {
            Evidence::of_lease(Lease { at: WallTime::from_millis(at), until: Tick(until).into(), signature: [s; 64] })
        });
        let says = prop_oneof![Just(Says::NoLink), Just(Says::Refused), Just(Says::Link)];
        let word = (0u8..3, 0u64..4, 0u64..4, says).prop_map(|(p, nth, heard, says)| {
            Evidence::of_word(PeerId::from_bytes([p; 32]), Word { nth, heard: Tick(heard), says })
        });
        let relay = (0u64..4, 0u8..3).prop_map(|(t, p)| Evidence::of_relay(Tick(t), PeerId::from_bytes([p; 32])));
        let registry = (0u64..4, 0i64..4).prop_map(|(t, s)| Evidence::of_registry(Tick(t), WallTime::from_millis(s)));
        let sight = (0i64..4).prop_map(|s| Evidence::of_sight(WallTime::from_millis(s)));
        let one = prop_oneof![lease, word, relay, registry, sight];
        proptest::collection::vec(one, 0..6).prop_map(|all| {
            let mut sum = Evidence::default();
            all.iter().for_each(|e| sum.merge(e));
            sum
        })
    }

    fn merged(a: &Evidence, b: &Evidence) -> Evidence {
        let mut sum = a.clone();
        sum.merge(b);
        sum
    }

    proptest! {
        #[test]
        fn accounts_merge_in_any_order(a in evidence(), b in evidence(), c in evidence()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a), "commutative");
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)), "associative");
            prop_assert_eq!(merged(&a, &a), a.clone(), "idempotent");
            prop_assert_eq!(merged(&a, &Evidence::default()), a, "nothing adds nothing");
        }
    }
}
