//! Envelopes of others: one hop, to a live neighbour, within quotas.

use std::collections::BTreeMap;

use byway_api::PeerId;
use byway_wire::limits;

use crate::io::AskError;
use crate::limiter::ByteBudget;
use crate::machine::{OpId, Tick};

/// An envelope of ours that a neighbour was asked to forward.
#[derive(Debug)]
struct Handed {
    op: OpId,
    hop: PeerId,
    to: PeerId,
    until: Tick,
}

/// Forwarding for others, and waiting for others to forward for us.
#[derive(Debug, Default)]
pub struct Relay {
    budgets: BTreeMap<PeerId, ByteBudget>,
    handed: BTreeMap<Vec<u8>, Handed>,
    next: u64,
}

impl Relay {
    /// Whether `from` may have `bytes` forwarded now.
    pub fn admit(&mut self, now: Tick, from: PeerId, bytes: usize) -> bool {
        let budget = || ByteBudget::new(limits::RELAY_RATE as u64, limits::RELAY_DAY as u64);
        self.budgets.entry(from).or_insert_with(budget).spend(now, bytes as u64)
    }

    /// A request id for an envelope of ours, handed to `hop`.
    pub fn hand_over(&mut self, op: OpId, hop: PeerId, to: PeerId, until: Tick) -> Vec<u8> {
        self.next += 1;
        let id = self.next.to_be_bytes().to_vec();
        self.handed.insert(id.clone(), Handed { op, hop, to, until });
        id
    }

    /// A neighbour acknowledged; only the one that was asked may. The request, and whom the envelope
    /// was for.
    pub fn acknowledged(&mut self, from: PeerId, id: &[u8]) -> Option<(OpId, PeerId)> {
        if self.handed.get(id)?.hop != from {
            return None;
        }
        self.handed.remove(id).map(|h| (h.op, h.to))
    }

    /// A neighbour is gone: what it held is lost. Its day's budget is kept.
    pub fn gone(&mut self, peer: PeerId) -> Vec<(OpId, AskError)> {
        self.take(|h| h.hop == peer, AskError::NotConnected)
    }

    /// What is overdue.
    pub fn expire(&mut self, now: Tick) -> Vec<(OpId, AskError)> {
        self.take(|h| h.until <= now, AskError::Timeout)
    }

    fn take(&mut self, which: impl Fn(&Handed) -> bool, error: AskError) -> Vec<(OpId, AskError)> {
        let ids: Vec<_> = self.handed.iter().filter(|(_, h)| which(h)).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.handed.remove(id)).map(|h| (h.op, error)).collect()
    }

    /// When [`Self::expire`] is due.
    pub fn deadline(&self) -> Option<Tick> {
        self.handed.values().map(|h| h.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn one_sender_cannot_use_up_anothers_quota() {
        let mut r = Relay::default();
        let frames = (0..1_000).filter(|_| r.admit(Tick(0), peer(1), 16_384)).count();
        assert_eq!(frames, limits::RELAY_RATE / 16_384);
        assert!(r.admit(Tick(0), peer(2), 16_384));
        assert!(r.admit(Tick(1_000), peer(1), 16_384), "a second later there is room again");
    }

    #[test]
    fn every_hand_over_gets_one_answer() {
        let mut r = Relay::default();
        let id = r.hand_over(OpId(1), peer(1), peer(3), Tick(1_000));
        assert_eq!(r.acknowledged(peer(2), &id), None, "only the hop may answer");
        assert_eq!(r.acknowledged(peer(1), &id), Some((OpId(1), peer(3))));
        assert_eq!(r.acknowledged(peer(1), &id), None);
        r.hand_over(OpId(2), peer(1), peer(3), Tick(1_000));
        assert_eq!(r.expire(Tick(1_000)), vec![(OpId(2), AskError::Timeout)]);
        assert_eq!(r.gone(peer(1)), vec![]);
    }
}
