//! Paces the connectivity checks of one attempt, so that a peer's candidates cannot make this
//! device flood a third party.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// A token bucket that holds a fifth of a second's checks.
#[derive(Debug)]
pub(crate) struct Pacing {
    per_second: u32,
    tokens: u32,
    filled: Instant,
    /// Where the next selection begins, so that every pair has its turn.
    turn: usize,
}

impl Pacing {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: Self::capacity(per_second), filled: now, turn: 0 }
    }

    const fn capacity(per_second: u32) -> u32 {
        if per_second < 5 { 1 } else { per_second / 5 }
    }

    /// Which of `count` checks may be sent now: a predicate over their positions.
    pub(crate) fn select(&mut self, count: usize, now: Instant) -> impl Fn(usize) -> bool + use<> {
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * f64::from(self.per_second);
        // truncation keeps the rest for the next call
        let whole = earned as u32;
        if whole > 0 {
            self.tokens = self.tokens.saturating_add(whole).min(Self::capacity(self.per_second));
            self.filled += SECOND * whole / self.per_second.max(1);
        }
        let granted = count.min(self.tokens as usize);
        self.tokens -= granted as u32;
        let first = if count > 0 { self.turn % count } else { 0 };
        self.turn = self.turn.wrapping_add(granted);
        move |position| (position + count - first) % count.max(1) < granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_and_every_pair_has_its_turn() {
        let start = Instant::now();
        let (mut pacing, mut sent) = (Pacing::new(400, start), [0u32; 50]);
        for tick in 0..100 {
            let may = pacing.select(50, start + Duration::from_millis(10 * tick));
            (0..50).filter(|n| may(*n)).for_each(|n| sent[n] += 1);
        }
        let all: u32 = sent.iter().sum();
        assert!((400..=480).contains(&all), "{all}");
        assert!(sent.iter().all(|n| (7..=11).contains(n)), "{sent:?}");
    }

    #[test]
    fn few_checks_are_never_held_back() {
        let start = Instant::now();
        let mut pacing = Pacing::new(400, start);
        for tick in 0..200 {
            let may = pacing.select(4, start + Duration::from_millis(10 * tick));
            assert!((0..4).all(may));
        }
        assert!(!pacing.select(0, start)(0));
    }
}
