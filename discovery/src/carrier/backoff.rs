use std::time::Duration;

/// Growing waits with full jitter: the n-th is random in `0..=min(longest, first * 2^n)`, so that a
/// thousand clients of a server that restarts do not come back in the same instant.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first: first.min(longest), longest, failures: 0 }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        // without randomness the longest wait is the kindest
        let part = getrandom::u32().unwrap_or(u32::MAX);
        ceiling.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// It went well: the next wait is short again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Trying again will hardly help: only the longest waits from here on.
    pub(super) fn give_up_hope(&mut self) {
        self.failures = u32::MAX;
    }

    fn ceiling(&self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_up_to_the_longest_and_start_again_after_success() {
        let mut backoff = Backoff::new(S, 60 * S);
        let mut ceilings = Vec::new();
        for _ in 0..40 {
            let ceiling = backoff.ceiling();
            assert!(backoff.next() <= ceiling);
            ceilings.push(ceiling);
        }
        assert_eq!(ceilings[..8], [S, 2 * S, 4 * S, 8 * S, 16 * S, 32 * S, 60 * S, 60 * S]);
        assert_eq!(ceilings[39], 60 * S);
        backoff.reset();
        assert_eq!(backoff.ceiling(), S);
        backoff.give_up_hope();
        assert!(backoff.next() <= 60 * S && backoff.ceiling() == 60 * S);
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        // 16 equal pairs of 32-bit numbers do not happen
        let mut pair = [Backoff::new(S, S), Backoff::new(S, S)];
        assert!((0..16).any(|_| pair[0].next() != pair[1].next()));
    }
}
