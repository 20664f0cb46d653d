//! Which connection a datagram of the shared socket belongs to: the security filter.
//!
//! The stack does not check where DTLS records come from, so this table does: a remote address is
//! known only because this side's ICE agent sent to it after an integrity check.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::peer::ConnId;
use crate::stun::Transaction;

/// Requests are remembered for as long as the stack waits for an answer.
const TRANSACTION_LIFE: Duration = Duration::from_secs(5);
/// Requests in flight, of all connections.
const MAX_TRANSACTIONS: usize = 16_384;
/// Addresses learned for one connection.
const MAX_ADDRESSES: usize = 16;

/// A remote address, and whether the TURN server stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    pub(crate) relayed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    id: ConnId,
    /// The connection's chosen pair ends here; it yields only to another chosen pair.
    chosen: bool,
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    ufrags: HashMap<String, ConnId>,
    transactions: HashMap<Transaction, (ConnId, Instant)>,
    /// Ids by age; entries whose transaction was answered are skipped.
    ages: VecDeque<(Instant, Transaction)>,
    remotes: HashMap<Remote, Owner>,
}

impl Demux {
    /// Requests with this user fragment are for the connection.
    pub(crate) fn add_ufrag(&mut self, ufrag: String, id: ConnId) {
        self.ufrags.insert(ufrag, id);
    }

    pub(crate) fn by_ufrag(&self, ufrag: &str) -> Option<ConnId> {
        self.ufrags.get(ufrag).copied()
    }

    /// The connection sent a request and awaits its response.
    pub(crate) fn add_transaction(&mut self, transaction: Transaction, id: ConnId, now: Instant) {
        while let Some(&(at, oldest)) = self.ages.front() {
            let live = self.transactions.get(&oldest).is_some_and(|(_, sent)| *sent == at);
            if live && now.saturating_duration_since(at) < TRANSACTION_LIFE && self.ages.len() < MAX_TRANSACTIONS {
                break;
            }
            if live {
                self.transactions.remove(&oldest);
            }
            self.ages.pop_front();
        }
        self.transactions.insert(transaction, (id, now));
        self.ages.push_back((now, transaction));
    }

    /// Takes the request that a response answers: the connection and when it was sent.
    pub(crate) fn take_transaction(&mut self, transaction: &Transaction) -> Option<(ConnId, Instant)> {
        self.transactions.remove(transaction)
    }

    /// The connection answered an authentic request from `remote`.
    pub(crate) fn learn(&mut self, remote: Remote, id: ConnId) {
        match self.remotes.get(&remote) {
            Some(owner) if owner.chosen || owner.id == id => {}
            Some(_) => {
                self.remotes.insert(remote, Owner { id, chosen: false });
            }
            None => {
                if self.remotes.values().filter(|owner| owner.id == id).count() < MAX_ADDRESSES {
                    self.remotes.insert(remote, Owner { id, chosen: false });
                }
            }
        }
    }

    /// The connection's chosen pair ends at `remote`. Returns the connection whose chosen pair did
    /// so until now.
    pub(crate) fn choose(&mut self, remote: Remote, id: ConnId) -> Option<ConnId> {
        self.remotes
            .insert(remote, Owner { id, chosen: true })
            .filter(|old| old.chosen && old.id != id)
            .map(|old| old.id)
    }

    pub(crate) fn by_remote(&self, remote: Remote) -> Option<ConnId> {
        self.remotes.get(&remote).map(|owner| owner.id)
    }

    /// Forgets the connection.
    pub(crate) fn remove(&mut self, id: ConnId, ufrag: &str) {
        self.ufrags.remove(ufrag);
        self.remotes.retain(|_, owner| owner.id != id);
        self.transactions.retain(|_, (owner, _)| *owner != id);
        if self.transactions.is_empty() {
            self.ages.clear();
        }
    }

    /// Entries in the three tables: user fragments, transactions, remote addresses.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        (self.ufrags.len(), self.transactions.len(), self.remotes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> Remote {
        Remote { address: SocketAddr::from(([192, 0, 2, 1], port)), relayed: false }
    }

    fn id(n: u32) -> Transaction {
        let mut id = [0; 12];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn a_chosen_pair_yields_only_to_a_chosen_pair() {
        let mut demux = Demux::default();
        demux.learn(remote(1), 1);
        assert_eq!(demux.choose(remote(1), 2), None);
        demux.learn(remote(1), 1);
        assert_eq!(demux.by_remote(remote(1)), Some(2));
        assert_eq!(demux.choose(remote(1), 3), Some(2));
        assert_eq!(demux.choose(remote(1), 3), None);
    }

    #[test]
    fn relayed_and_direct_are_different_ways() {
        let mut demux = Demux::default();
        demux.choose(remote(1), 1);
        assert_eq!(demux.by_remote(Remote { relayed: true, ..remote(1) }), None);
    }

    #[test]
    fn transactions_are_taken_once_and_expire() {
        let (mut demux, start) = (Demux::default(), Instant::now());
        demux.add_transaction(id(1), 7, start);
        assert_eq!(demux.take_transaction(&id(1)), Some((7, start)));
        assert_eq!(demux.take_transaction(&id(1)), None);
        demux.add_transaction(id(2), 7, start);
        demux.add_transaction(id(3), 7, start + TRANSACTION_LIFE);
        assert_eq!(demux.take_transaction(&id(2)), None);
        assert!(demux.take_transaction(&id(3)).is_some());
    }

    #[test]
    fn every_table_is_bounded() {
        let (mut demux, now) = (Demux::default(), Instant::now());
        for n in 0..40_000 {
            demux.add_transaction(id(n), 1, now);
            demux.learn(remote(n as u16), 1);
        }
        let (_, transactions, remotes) = demux.sizes();
        assert!(transactions <= MAX_TRANSACTIONS && demux.ages.len() <= MAX_TRANSACTIONS);
        assert_eq!(remotes, MAX_ADDRESSES);
    }

    #[test]
    fn nothing_is_left_of_a_removed_connection() {
        let mut demux = Demux::default();
        demux.add_ufrag("u".into(), 1);
        demux.add_transaction(id(1), 1, Instant::now());
        demux.choose(remote(1), 1);
        demux.remove(1, "u");
        assert_eq!(demux.sizes(), (0, 0, 0));
        assert!(demux.ages.is_empty());
    }
}
