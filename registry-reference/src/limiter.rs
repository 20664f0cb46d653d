//! Who may call how often.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// A token bucket for each of many keys. A rate of 0 limits nothing.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    per_second: f64,
    burst: f64,
    remembered: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Seconds until the next token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u64);

impl<K: Eq + Hash + Clone> Limiter<K> {
    pub(crate) fn new(per_minute: u32, burst: u32, remembered: usize) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_minute) / 60.0, burst, remembered, buckets: Mutex::default() }
    }

    /// Takes a token.
    pub(crate) fn take(&self, key: &K) -> Result<(), Wait> {
        self.spend(key, 1.0)
    }

    /// Whether there is a token.
    pub(crate) fn check(&self, key: &K) -> Result<(), Wait> {
        self.spend(key, 0.0)
    }

    fn spend(&self, key: &K, cost: f64) -> Result<(), Wait> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut buckets = self.lock();
        if !buckets.contains_key(key) {
            if buckets.len() >= self.remembered {
                self.forget_full(&mut buckets, now);
            }
            if buckets.len() >= self.remembered {
                return Err(Wait(1));
            }
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket { tokens: self.burst, at: now });
        bucket.tokens = self.filled(bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= cost;
            return Ok(());
        }
        Err(Wait(((1.0 - bucket.tokens) / self.per_second).ceil() as u64))
    }

    /// Forgets who has had a full bucket again.
    pub(crate) fn sweep(&self) {
        self.forget_full(&mut self.lock(), Instant::now());
    }

    fn forget_full(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * self.per_second).min(self.burst)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one customer has: an IPv4 address, or a /64 of IPv6.
pub(crate) fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            if ip.is_loopback() { IpAddr::V6(ip) } else { IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)) }
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate_for_each_key_alone() {
        let limiter = Limiter::new(10, 20, 100);
        assert_eq!((0..30).filter(|_| limiter.take(&1).is_ok()).count(), 20);
        assert_eq!(limiter.take(&1), Err(Wait(6)));
        assert_eq!(limiter.take(&2), Ok(()));
        advance(Duration::from_secs(6)).await;
        assert_eq!(limiter.check(&1), Ok(()), "looking costs nothing");
        assert_eq!(limiter.take(&1), Ok(()));
        assert!(limiter.take(&1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let limiter = Limiter::new(60, 2, 3);
        for key in 0..3 {
            limiter.take(&key).unwrap();
        }
        assert_eq!(limiter.take(&9), Err(Wait(1)), "no room for a newcomer");
        assert_eq!(limiter.take(&0), Ok(()), "who is known goes on");
        advance(Duration::from_secs(1)).await;
        assert_eq!(limiter.take(&9), Ok(()));
    }

    #[test]
    fn no_rate_no_limit() {
        let limiter = Limiter::new(0, 0, 0);
        assert!((0..1000).all(|_| limiter.take(&1).is_ok()));
    }

    #[test]
    fn a_household_is_an_address_or_a_64() {
        let same = |a: &str, b: &str| household(a.parse().unwrap()) == household(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
