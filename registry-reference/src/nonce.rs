//! Nonces that need no memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use byway_api::WallTime;
use byway_wire::base64url;
use sha2::{Digest, Sha256};

const MAC: usize = 16;
/// Window, counter, authenticator.
const NONCE: usize = 4 + 8 + MAC;

/// Makes and recognises nonces: each is different, carries the time window it was made in and is
/// authenticated with a key of this start.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: Key,
    window: i64,
    made: AtomicU64,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Nonces {
    /// Nonces that are taken in the window of `window` they were made in and in the next one.
    pub(crate) fn new(key: [u8; 32], window: Duration) -> Self {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { key: Key(key), window, made: AtomicU64::new(0) }
    }

    pub(crate) fn make(&self, now: WallTime) -> String {
        let mut nonce = [0; NONCE];
        nonce[..4].copy_from_slice(&self.window_at(now).to_be_bytes());
        nonce[4..12].copy_from_slice(&self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mac = self.mac(&nonce[..12]);
        nonce[12..].copy_from_slice(&mac);
        base64url::encode(&nonce)
    }

    pub(crate) fn is_good(&self, nonce: &str, now: WallTime) -> bool {
        let Ok(nonce) = base64url::decode(nonce) else { return false };
        let Ok(nonce) = <[u8; NONCE]>::try_from(nonce) else { return false };
        let same = self.mac(&nonce[..12]).iter().zip(&nonce[12..]).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
        let window = u32::from_be_bytes([nonce[0], nonce[1], nonce[2], nonce[3]]);
        same && self.window_at(now).wrapping_sub(window) <= 1
    }

    fn window_at(&self, now: WallTime) -> u32 {
        (now.as_millis().div_euclid(self.window) & i64::from(u32::MAX)) as u32
    }

    /// Keyed twice and cut, so that nothing can be appended.
    fn mac(&self, message: &[u8]) -> [u8; MAC] {
        let hash = |message: &[u8]| Sha256::new().chain_update(self.key.0).chain_update(message).finalize();
        let mut mac = [0; MAC];
        mac.copy_from_slice(&hash(&hash(message))[..MAC]);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: WallTime = WallTime::from_millis(1_795_000_000_000);
    const W: Duration = Duration::from_secs(150);

    #[test]
    fn good_in_its_window_and_the_next() {
        let nonces = Nonces::new([7; 32], W);
        let nonce = nonces.make(T);
        assert!(nonces.is_good(&nonce, T));
        assert!(nonces.is_good(&nonce, T.plus(W)));
        assert!(!nonces.is_good(&nonce, T.plus(W * 2)));
        assert!(!nonces.is_good(&nonce, T.minus(W)));
        assert_ne!(nonce, nonces.make(T), "each is used for one challenge");
    }

    #[test]
    fn only_our_own() {
        let nonces = Nonces::new([7; 32], W);
        let nonce = nonces.make(T);
        assert!(!Nonces::new([8; 32], W).is_good(&nonce, T));
        for i in 0..NONCE {
            let mut bytes = base64url::decode(&nonce).unwrap();
            bytes[i] ^= 1;
            assert!(!nonces.is_good(&base64url::encode(&bytes), T), "byte {i}");
        }
        for wrong in ["", "nonce", &nonce[1..], &format!("{nonce}A")] {
            assert!(!nonces.is_good(wrong, T));
        }
    }
}
