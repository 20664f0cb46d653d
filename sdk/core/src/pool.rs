//! How many connections there are, which of them are active, and which go.

use std::collections::BTreeMap;

use byway_api::PeerId;

use crate::machine::Tick;
use crate::tuning::Tuning;

/// What a connection is to us. A local label: the far side may see it otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Keep-alive and presence only from us; what arrives is handled all the same.
    Standby,
    /// Carries chat.
    Active,
}

#[derive(Debug)]
struct Member {
    tier: Tier,
    /// When it last carried a message of ours.
    used: Tick,
    /// Kept although nothing is sent: it connects us to the network.
    anchor: bool,
}

/// Peers with a connection.
#[derive(Debug, Default)]
pub struct Pool(BTreeMap<PeerId, Member>);

/// Whether there is room for one more peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is.
    Admitted,
    /// This one has to go first.
    Evict(PeerId),
    /// None can go.
    Full,
}

impl Pool {
    /// Peers now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one more peer finds room. `busy` says which peers have something unacknowledged.
    pub fn admit(&self, tuning: &Tuning, peer: &PeerId, busy: impl Fn(&PeerId) -> bool) -> Admission {
        if self.0.contains_key(peer) || self.0.len() < tuning.max_links() {
            return Admission::Admitted;
        }
        let candidates = self.0.iter().filter(|(p, m)| m.tier == Tier::Standby && !m.anchor && !busy(p));
        candidates.min_by_key(|(p, m)| (m.used, **p)).map_or(Admission::Full, |(p, _)| Admission::Evict(*p))
    }

    /// A peer is connected. The first few become anchors.
    pub fn up(&mut self, tuning: &Tuning, peer: PeerId, now: Tick) {
        let anchor = self.0.values().filter(|m| m.anchor).count() < tuning.anchors;
        self.0.entry(peer).or_insert(Member { tier: Tier::Standby, used: now, anchor });
    }

    /// A peer is not connected any more; another one takes its place as anchor.
    pub fn down(&mut self, peer: &PeerId) {
        if let Some(gone) = self.0.remove(peer)
            && gone.anchor
            && let Some(next) = self.0.values_mut().filter(|m| !m.anchor).max_by_key(|m| m.used)
        {
            next.anchor = true;
        }
    }

    /// A message is written: the peer becomes active, and the least recently used active one makes
    /// room if there are too many. Costs no handshake.
    pub fn used(&mut self, tuning: &Tuning, peer: &PeerId, now: Tick) {
        if let Some(m) = self.0.get_mut(peer) {
            m.used = now;
            m.tier = Tier::Active;
        }
        let active = || self.0.iter().filter(|(_, m)| m.tier == Tier::Active);
        if active().count() > tuning.max_active
            && let Some(oldest) =
                active().filter(|(p, _)| *p != peer).min_by_key(|(p, m)| (m.used, **p)).map(|(p, _)| *p)
            && let Some(m) = self.0.get_mut(&oldest)
        {
            m.tier = Tier::Standby;
        }
    }

    /// Label of a peer.
    pub fn tier(&self, peer: &PeerId) -> Option<Tier> {
        self.0.get(peer).map(|m| m.tier)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn full(tuning: &Tuning) -> Pool {
        let mut pool = Pool::default();
        for n in 0..tuning.max_links() as u8 {
            pool.up(tuning, peer(n), Tick(u64::from(n)));
        }
        pool
    }

    #[test]
    fn the_worst_standby_goes_and_anchors_stay() {
        let tuning = Tuning::default();
        let pool = full(&tuning);
        // 0 to 2 are anchors, 3 is the oldest of the others
        assert_eq!(pool.admit(&tuning, &peer(99), |_| false), Admission::Evict(peer(3)));
        assert_eq!(pool.admit(&tuning, &peer(99), |p| *p == peer(3)), Admission::Evict(peer(4)), "3 is busy");
        assert_eq!(pool.admit(&tuning, &peer(99), |_| true), Admission::Full);
        assert_eq!(pool.admit(&tuning, &peer(3), |_| true), Admission::Admitted, "its second connection");
    }

    proptest! {
        #[test]
        fn tiers_and_bounds_hold_after_every_event(events in proptest::collection::vec((0u8..30, 0u8..3), 0..300)) {
            let tuning = Tuning::default();
            let mut pool = Pool::default();
            for (i, (p, what)) in events.into_iter().enumerate() {
                let now = Tick(i as u64);
                match what {
                    0 => match pool.admit(&tuning, &peer(p), |_| false) {
                        Admission::Admitted => pool.up(&tuning, peer(p), now),
                        Admission::Evict(gone) => {
                            prop_assert_eq!(pool.tier(&gone), Some(Tier::Standby));
                            pool.down(&gone);
                            pool.up(&tuning, peer(p), now);
                        }
                        Admission::Full => {}
                    },
                    1 => pool.down(&peer(p)),
                    _ => pool.used(&tuning, &peer(p), now),
                }
                prop_assert!(pool.len() <= tuning.max_links());
                let active = pool.0.values().filter(|m| m.tier == Tier::Active).count();
                prop_assert!(active <= tuning.max_active);
                let anchors = pool.0.values().filter(|m| m.anchor).count();
                prop_assert!(anchors <= tuning.anchors);
                prop_assert!(anchors == tuning.anchors.min(pool.len()));
            }
        }
    }
}
