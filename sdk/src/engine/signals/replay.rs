use std::collections::{BTreeMap, HashMap};

use byway_api::{MessageId, PeerId, WallTime};

/// The message ids of signals that arrived, until they could not be opened any more anyway.
///
/// Bounded for each sender and in all; what does not fit is refused, never forgotten too early: a
/// forgotten id could be played again.
#[derive(Debug)]
pub(super) struct Replay {
    seen: HashMap<(PeerId, MessageId), WallTime>,
    by_end: BTreeMap<(WallTime, PeerId, MessageId), ()>,
    of_sender: HashMap<PeerId, usize>,
    most: usize,
    most_of_sender: usize,
}

impl Replay {
    pub(super) fn new(most: usize, most_of_sender: usize) -> Self {
        Self { seen: HashMap::new(), by_end: BTreeMap::new(), of_sender: HashMap::new(), most, most_of_sender }
    }

    /// True if this id is new and was remembered until `until`.
    pub(super) fn admit(&mut self, from: PeerId, message: MessageId, until: WallTime, now: WallTime) -> bool {
        self.forget(now);
        let of_sender = self.of_sender.get(&from).copied().unwrap_or_default();
        if self.seen.contains_key(&(from, message)) || self.seen.len() >= self.most || of_sender >= self.most_of_sender
        {
            return false;
        }
        self.seen.insert((from, message), until);
        self.by_end.insert((until, from, message), ());
        self.of_sender.insert(from, of_sender + 1);
        true
    }

    fn forget(&mut self, now: WallTime) {
        while let Some(((until, from, message), ())) = self.by_end.first_key_value().map(|(k, ())| (*k, ())) {
            if until > now {
                break;
            }
            self.by_end.remove(&(until, from, message));
            self.seen.remove(&(from, message));
            if let Some(n) = self.of_sender.get_mut(&from) {
                *n -= 1;
                if *n == 0 {
                    self.of_sender.remove(&from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> WallTime {
        WallTime::from_millis(ms)
    }

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    #[test]
    fn an_id_is_admitted_once_and_remembered_to_its_end() {
        let mut replay = Replay::new(100, 10);
        let bob = PeerId::from_bytes([1; 32]);
        assert!(replay.admit(bob, id(1), at(120), at(0)));
        assert!(!replay.admit(bob, id(1), at(120), at(119)));
        assert!(replay.admit(PeerId::from_bytes([2; 32]), id(1), at(120), at(0)));
        assert!(replay.admit(bob, id(2), at(300), at(120)));
        assert_eq!(replay.seen.len(), 1);
    }

    #[test]
    fn one_sender_cannot_fill_the_window_of_the_others() {
        let mut replay = Replay::new(15, 10);
        let admitted = |replay: &mut Replay, peer, n| {
            (0..n).filter(|i| replay.admit(PeerId::from_bytes([peer; 32]), id(*i), at(100), at(0))).count()
        };
        assert_eq!(admitted(&mut replay, 1, 20), 10);
        assert_eq!(admitted(&mut replay, 2, 20), 5);
        assert_eq!(admitted(&mut replay, 3, 1), 0);
        assert!(replay.admit(PeerId::from_bytes([3; 32]), id(9), at(200), at(100)));
        assert_eq!(replay.of_sender.len(), 1);
    }
}
