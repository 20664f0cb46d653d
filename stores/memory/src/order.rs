//! Keys whose bytes sort as the rows do, so that a page is "the keys behind this one".

use bytes::Bytes;
use byway_api::{Key, PeerId, UserId, WallTime};

/// Builds a [`Key`] field by field, the most significant first.
#[derive(Default)]
pub(crate) struct Order(Vec<u8>);

impl Order {
    pub(crate) fn number(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(crate) fn time(self, t: WallTime) -> Self {
        self.number(sortable(t))
    }

    pub(crate) fn newest_first(self, t: WallTime) -> Self {
        self.number(!sortable(t))
    }

    /// Best first; IEEE 754 total order.
    pub(crate) fn rate(self, rate: f64) -> Self {
        let bits = rate.to_bits();
        let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        self.number(!ascending)
    }

    /// A text without a zero byte, which ends it.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    pub(crate) fn user(self, user: &UserId) -> Self {
        self.text(user.as_str())
    }

    /// Bytes of a fixed length.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn peer(self, peer: &PeerId) -> Self {
        self.bytes(peer.as_bytes())
    }

    pub(crate) fn key(self) -> Key {
        Key(Bytes::from(self.0))
    }
}

fn sortable(t: WallTime) -> u64 {
    t.as_millis().cast_unsigned() ^ (1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(build: impl Fn(Order) -> Order) -> Bytes {
        build(Order::default()).key().0
    }

    #[test]
    fn bytes_sort_as_the_values_do() {
        let times = [i64::MIN, -1, 0, 1, i64::MAX].map(WallTime::from_millis);
        for pair in times.windows(2) {
            assert!(of(|o| o.time(pair[0])) < of(|o| o.time(pair[1])));
            assert!(of(|o| o.newest_first(pair[0])) > of(|o| o.newest_first(pair[1])));
        }
        for pair in [0.0, 0.1, 0.5, 1.0].windows(2) {
            assert!(of(|o| o.rate(pair[0])) > of(|o| o.rate(pair[1])));
        }
        assert!(of(|o| o.text("a").number(9)) < of(|o| o.text("ab").number(0)));
    }
}
