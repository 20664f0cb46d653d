//! Success rates of dials.

use byway_api::Retry;

/// Moving average of dial outcomes: weight 0.2, start 0.5.
///
/// Our own network being down, a superseded attempt and one that was cancelled because another won
/// say nothing about the peer and do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(f64);

const WEIGHT: f64 = 0.2;

impl Default for Score {
    fn default() -> Self {
        Self(0.5)
    }
}

impl Score {
    /// A remembered rate; anything that is no share counts as unknown.
    pub fn from_rate(rate: f64) -> Self {
        if (0.0..=1.0).contains(&rate) { Self(rate) } else { Self::default() }
    }

    /// The rate, 0 to 1.
    pub const fn rate(self) -> f64 {
        self.0
    }

    /// A dial succeeded.
    pub fn succeeded(&mut self) {
        self.0 += WEIGHT * (1.0 - self.0);
    }

    /// A dial failed.
    pub fn failed(&mut self, retry: Retry) {
        if retry != Retry::LocalFault {
            self.0 -= WEIGHT * self.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_outage_is_not_the_peers_fault() {
        let mut s = Score::default();
        s.failed(Retry::LocalFault);
        assert_eq!(s.rate(), 0.5);
        s.failed(Retry::Later);
        assert!(s.rate() < 0.5);
        s.succeeded();
        assert!(s.rate() > 0.5);
        assert_eq!(Score::from_rate(f64::NAN), Score::default());
    }
}
