//! Budgets: how many of something in how much time.

use std::time::Duration;

use crate::machine::Tick;

/// A token bucket: up to `capacity` at once, one more per `refill`.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    capacity: u32,
    refill: Duration,
    tokens: u32,
    since: Tick,
}

impl TokenBucket {
    /// A full bucket. A `refill` of zero never empties.
    pub const fn new(capacity: u32, refill: Duration) -> Self {
        Self { capacity, refill, tokens: capacity, since: Tick(0) }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Tick) -> bool {
        self.take_many(now, 1)
    }

    /// Takes `n` tokens, or none.
    pub fn take_many(&mut self, now: Tick, n: u32) -> bool {
        self.fill(now);
        match self.tokens.checked_sub(n) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// Tokens there are now.
    pub fn available(&mut self, now: Tick) -> u32 {
        self.fill(now);
        self.tokens
    }

    fn fill(&mut self, now: Tick) {
        let period = u64::try_from(self.refill.as_millis()).unwrap_or(u64::MAX);
        let Some(new) = now.0.saturating_sub(self.since.0).checked_div(period) else {
            self.tokens = self.capacity;
            return;
        };
        if new == 0 {
            return;
        }
        self.since = Tick(self.since.0 + new * period);
        let room = u64::from(self.capacity - self.tokens);
        self.tokens += u32::try_from(new.min(room)).unwrap_or(0);
        if self.tokens == self.capacity {
            // a full bucket saves nothing up
            self.since = now;
        }
    }
}

/// Bytes per second and per day of one sender.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    per_second: u64,
    per_day: u64,
    burst_left: u64,
    day_left: u64,
    since: Tick,
    day: Tick,
}

const DAY_MS: u64 = 86_400_000;

impl ByteBudget {
    /// A full budget; the burst is one second's worth.
    pub const fn new(per_second: u64, per_day: u64) -> Self {
        Self { per_second, per_day, burst_left: per_second, day_left: per_day, since: Tick(0), day: Tick(0) }
    }

    /// Spends `bytes`, or nothing.
    pub fn spend(&mut self, now: Tick, bytes: u64) -> bool {
        let ms = now.0.saturating_sub(self.since.0);
        let earned = ms.saturating_mul(self.per_second) / 1000;
        if earned > 0 {
            self.burst_left = self.burst_left.saturating_add(earned).min(self.per_second);
            self.since = now;
        }
        if now.0.saturating_sub(self.day.0) >= DAY_MS {
            self.day_left = self.per_day;
            self.day = now;
        }
        if bytes > self.burst_left || bytes > self.day_left {
            return false;
        }
        self.burst_left -= bytes;
        self.day_left -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_refills_one_by_one_and_never_overflows() {
        let mut b = TokenBucket::new(5, Duration::from_secs(75));
        for _ in 0..5 {
            assert!(b.take(Tick(0)));
        }
        assert!(!b.take(Tick(74_999)));
        assert!(b.take(Tick(75_000)));
        assert!(!b.take(Tick(75_001)));
        assert_eq!(b.available(Tick(10_000_000)), 5);
    }

    #[test]
    fn a_day_ends() {
        let mut b = ByteBudget::new(1000, 1500);
        assert!(b.spend(Tick(0), 1000));
        assert!(!b.spend(Tick(5_000), 1000), "the day's bytes are used up");
        assert!(b.spend(Tick(DAY_MS), 1000));
    }

    proptest! {
        /// The mission allows less than one registry call a minute: five at once and one per 75 s.
        #[test]
        fn never_more_than_the_rate(gaps in proptest::collection::vec(0u64..100_000, 1..200)) {
            let mut b = TokenBucket::new(5, Duration::from_secs(75));
            let (mut now, mut taken) = (0u64, Vec::new());
            for gap in gaps {
                now += gap;
                if b.take(Tick(now)) { taken.push(now); }
            }
            for (i, start) in taken.iter().enumerate() {
                let in_ten_minutes = taken[i..].iter().filter(|t| **t < start + 600_000).count();
                prop_assert!(in_ten_minutes <= 5 + 8, "{in_ten_minutes}");
            }
        }
    }
}
