//! When which connection wants to be looked at.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::peer::ConnId;

/// At most one entry per connection.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, ConnId)>,
}

impl Timers {
    /// Moves the connection's entry from `old` to `at`. True if it is now the first of all.
    pub(crate) fn arm(&mut self, id: ConnId, old: Option<Instant>, at: Instant) -> bool {
        if let Some(old) = old {
            self.due.remove(&(old, id));
        }
        self.due.insert((at, id));
        self.due.first() == Some(&(at, id))
    }

    /// Removes the connection's entry.
    pub(crate) fn disarm(&mut self, id: ConnId, old: Instant) {
        self.due.remove(&(old, id));
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the earliest if it is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ConnId> {
        if self.next()? > now {
            return None;
        }
        self.due.pop_first().map(|(_, id)| id)
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_entry_moves_and_fires_once() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(timers.arm(1, None, at(50)));
        assert!(!timers.arm(2, None, at(80)));
        assert!(timers.arm(2, Some(at(80)), at(20)));
        assert_eq!(timers.pop(at(10)), None);
        assert_eq!(timers.pop(at(60)), Some(2));
        assert_eq!(timers.pop(at(60)), Some(1));
        assert_eq!(timers.pop(at(60)), None);
        assert_eq!(timers.len(), 0);
    }
}
