//! When a conversation that goes through neighbours gets a connection of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use byway_api::PeerId;

use crate::machine::Tick;
use crate::tuning::Tuning;

/// New evidence leads to an attempt at once, but not more often than this.
const NUDGE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Upgrade {
    /// When the last message went through a neighbour.
    used: Tick,
    /// Attempts that failed.
    failed: usize,
    last: Option<Tick>,
    /// `None` while an attempt runs.
    next: Option<Tick>,
}

/// Conversations that go through neighbours.
#[derive(Debug, Default)]
pub struct Upgrades(BTreeMap<PeerId, Upgrade>);

impl Upgrades {
    /// A message to, or from, a device went through a neighbour. Whoever sends begins at once; whoever
    /// only receives leaves the first attempt to the sender, so that they do not always meet halfway.
    pub fn used(&mut self, peer: PeerId, now: Tick, tuning: &Tuning, sending: bool) {
        let [first, second, ..] = tuning.upgrade_waits;
        let wait = if sending { first } else { second };
        let fresh = Upgrade { used: now, failed: 0, last: None, next: Some(now.plus(wait)) };
        self.0.entry(peer).or_insert(fresh).used = now;
    }

    /// Whether a conversation goes through neighbours and is to become direct.
    pub fn wanted(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    /// Something new is known about how to connect to the device: worth an attempt now.
    pub fn evidence(&mut self, peer: &PeerId, now: Tick) {
        if let Some(upgrade) = self.0.get_mut(peer)
            && let Some(next) = &mut upgrade.next
        {
            let soonest = upgrade.last.map_or(now, |last| last.plus(NUDGE).max(now));
            *next = (*next).min(soonest);
        }
    }

    /// Our own network has changed: worth an attempt for all.
    pub fn evidence_of_all(&mut self, now: Tick) {
        let peers: Vec<_> = self.0.keys().copied().collect();
        for peer in peers {
            self.evidence(&peer, now);
        }
    }

    /// Conversations that have ended: they stay as they are.
    pub fn over(&mut self, now: Tick, tuning: &Tuning) -> Vec<PeerId> {
        let over = |u: &Upgrade| u.next.is_some_and(|t| t <= now) && now - u.used >= tuning.upgrade_for;
        let peers: Vec<_> = self.0.iter().filter(|(_, u)| over(u)).map(|(p, _)| *p).collect();
        for peer in &peers {
            self.0.remove(peer);
        }
        peers
    }

    /// Devices to connect to now. Each has to end in [`Self::connected`] or [`Self::failed`].
    pub fn due(&mut self, now: Tick) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, upgrade) in &mut self.0 {
            if upgrade.next.is_some_and(|t| t <= now) {
                upgrade.next = None;
                upgrade.last = Some(now);
                due.push(*peer);
            }
        }
        due
    }

    /// An attempt has failed: when the next one is due. `None` if none was running.
    pub fn failed(
        &mut self,
        peer: &PeerId,
        now: Tick,
        tuning: &Tuning,
        jitter: impl FnOnce(Duration) -> Duration,
    ) -> Option<Duration> {
        let upgrade = self.0.get_mut(peer).filter(|u| u.next.is_none())?;
        upgrade.failed += 1;
        let wait = jitter(tuning.upgrade_waits[upgrade.failed.min(tuning.upgrade_waits.len() - 1)]);
        upgrade.next = Some(now.plus(wait));
        Some(wait)
    }

    /// The device is connected. Whether that ends a way through a neighbour.
    pub fn connected(&mut self, peer: &PeerId) -> bool {
        self.0.remove(peer).is_some()
    }

    /// No conversation is to become direct any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// When [`Self::due`] or [`Self::over`] is due.
    pub fn deadline(&self) -> Option<Tick> {
        self.0.values().filter_map(|u| u.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerId {
        PeerId::from_bytes([1; 32])
    }

    const fn exactly(wait: Duration) -> Duration {
        wait
    }

    /// When attempts are made that all fail at once, while the conversation goes on until `until`.
    fn attempts(until: u64, end: u64) -> Vec<u64> {
        let (mut u, tuning, mut at) = (Upgrades::default(), Tuning::default(), Vec::new());
        u.used(peer(), Tick(0), &tuning, true);
        while let Some(now) = u.deadline().filter(|t| t.0 <= end) {
            if now.0 <= until {
                u.used(peer(), now, &tuning, true);
            }
            u.over(now, &tuning);
            for p in u.due(now) {
                at.push(now.0 / 1_000);
                u.failed(&p, now, &tuning, exactly);
            }
        }
        at
    }

    #[test]
    fn attempts_come_at_0_2_5_15_60_seconds_and_then_every_minute() {
        assert_eq!(attempts(300_000, 300_000), [0, 2, 5, 15, 60, 120, 180, 240, 300]);
    }

    #[test]
    fn ten_minutes_after_the_last_message_nothing_is_tried_any_more() {
        let at = attempts(0, 10_000_000);
        assert!(at.iter().all(|t| *t < 600), "{at:?}");
        assert!(at.len() > 8, "{at:?}");
    }

    #[test]
    fn new_evidence_leads_to_an_attempt_at_once_but_not_to_a_storm() {
        let (mut u, tuning) = (Upgrades::default(), Tuning::default());
        u.used(peer(), Tick(0), &tuning, true);
        assert_eq!(u.due(Tick(0)), [peer()]);
        u.evidence(&peer(), Tick(1));
        assert_eq!(u.deadline(), None, "an attempt runs");
        assert_eq!(u.failed(&peer(), Tick(100), &tuning, exactly), Some(Duration::from_secs(2)));
        assert_eq!(u.failed(&peer(), Tick(100), &tuning, exactly), None, "it has failed already");
        for n in 0..100 {
            u.evidence(&peer(), Tick(200 + n));
        }
        assert_eq!(u.deadline(), Some(Tick(2_000)));
    }

    #[test]
    fn who_only_receives_leaves_the_first_attempt_to_the_sender() {
        let (mut u, tuning) = (Upgrades::default(), Tuning::default());
        u.used(peer(), Tick(0), &tuning, false);
        assert_eq!(u.deadline(), Some(Tick(2_000)));
        assert!(u.connected(&peer()));
        assert!(!u.connected(&peer()), "only once");
    }
}
