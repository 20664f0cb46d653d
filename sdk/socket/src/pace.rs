//! Two clocks of one socket: how much it may send, and whether it is still there.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { tokens: burst, burst, per_second: f64::from(per_second), filled_at: Instant::now() }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self) -> bool {
        let now = Instant::now();
        let gained = now.duration_since(self.filled_at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled_at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// What is due when a [`Pulse`]'s time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Ask for a sign of life.
    Ping,
    /// Too many were not answered.
    Dead,
}

/// Notices when the far side has fallen silent: a ping after every quiet interval, dead after
/// `missed` pings without a sign of life.
#[derive(Debug)]
pub(crate) struct Pulse {
    every: Duration,
    missed: u32,
    unanswered: u32,
    due: Instant,
}

impl Pulse {
    pub(crate) fn new(every: Duration, missed: u32) -> Self {
        Self { every, missed, unanswered: 0, due: Instant::now() + every }
    }

    pub(crate) fn heard(&mut self) {
        self.unanswered = 0;
        self.due = Instant::now() + self.every;
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn beat(&mut self) -> Beat {
        if self.unanswered >= self.missed {
            return Beat::Dead;
        }
        self.unanswered += 1;
        self.due = Instant::now() + self.every;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(20, 3);
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3);
        advance(Duration::from_millis(100)).await;
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 2);
        advance(Duration::from_secs(60)).await;
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3, "never more than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn two_missed_pings_are_death_and_any_sign_is_life() {
        let mut pulse = Pulse::new(Duration::from_secs(25), 2);
        assert_eq!(pulse.beat(), Beat::Ping);
        assert_eq!(pulse.beat(), Beat::Ping);
        pulse.heard();
        assert_eq!(pulse.beat(), Beat::Ping);
        assert_eq!(pulse.beat(), Beat::Ping);
        assert_eq!(pulse.beat(), Beat::Dead);
    }
}
