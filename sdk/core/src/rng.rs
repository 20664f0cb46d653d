use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): jitter and epochs from one seed. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        f64::from((self.next_u64() >> 32) as u32) / f64::from(u32::MAX)
    }

    /// `d`, longer or shorter by up to `share` of it.
    pub(crate) fn jittered(&mut self, d: Duration, share: f64) -> Duration {
        let factor = 1.0 + share * (2.0 * self.fraction() - 1.0);
        d.mul_f64(factor.max(0.0))
    }
}
