//! Envelopes on their way over our connections: those of others, one hop, to a live neighbour, within
//! quotas; ours, handed to a neighbour that has to answer; and those for us, until they are opened.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use byway_api::PeerId;
use byway_wire::{Relay as RelayFrame, RelayAck, limits};

use crate::io::AskError;
use crate::limiter::ByteBudget;
use crate::machine::{ConnId, OpId, Tick};

/// Envelopes for us that wait to be opened. More are answered `QUOTA`.
pub const OPENING: usize = 256;
/// Answers that wait for room in one connection; whoever does not read them gets no more.
const ANSWERS: usize = 256;

/// An envelope of ours that a neighbour was asked to forward.
#[derive(Debug)]
struct Handed {
    op: OpId,
    hop: PeerId,
    to: PeerId,
    until: Tick,
}

/// An envelope of one neighbour for another one, while the policy looks at it.
#[derive(Debug)]
pub struct Admitting {
    /// Where it came from, and where its answer goes.
    pub conn: ConnId,
    /// Who handed it over.
    pub from: PeerId,
    /// The frame.
    pub frame: RelayFrame,
}

/// A forwarded envelope in the queue of a connection.
#[derive(Debug)]
struct Queued {
    /// Data frames that the connection had been given before it, and this one.
    place: u64,
    from: PeerId,
    bytes: usize,
}

/// Forwarding for others, and waiting for others to forward for us.
#[derive(Debug, Default)]
pub struct Relay {
    budgets: BTreeMap<PeerId, ByteBudget>,
    carried: BTreeMap<PeerId, ByteBudget>,
    handed: BTreeMap<Vec<u8>, Handed>,
    admitting: BTreeMap<OpId, Admitting>,
    queued: BTreeMap<ConnId, VecDeque<Queued>>,
    in_flight: BTreeMap<PeerId, usize>,
    opening: BTreeMap<OpId, PeerId>,
    answers: BTreeMap<ConnId, VecDeque<RelayAck>>,
    next: u64,
}

impl Relay {
    /// Whether `from` may have `bytes` forwarded now: it spends them.
    pub fn admit(&mut self, now: Tick, from: PeerId, bytes: usize) -> bool {
        if self.in_flight(&from) + bytes > limits::RELAY_IN_FLIGHT {
            return false;
        }
        let budget = || ByteBudget::new(limits::RELAY_RATE as u64, limits::RELAY_DAY as u64);
        self.budgets.entry(from).or_insert_with(budget).spend(now, bytes as u64)
    }

    /// Bytes of a sender that wait to be written.
    pub fn in_flight(&self, from: &PeerId) -> usize {
        self.in_flight.get(from).copied().unwrap_or_default()
    }

    /// The policy is asked about an envelope.
    pub fn ask(&mut self, op: OpId, asked: Admitting) {
        self.admitting.insert(op, asked);
    }

    /// The policy has answered.
    pub fn answered(&mut self, op: OpId) -> Option<Admitting> {
        self.admitting.remove(&op)
    }

    /// The request id of a frame that we pass on: never one that we wait for.
    pub fn forwarding(&mut self) -> Bytes {
        self.next += 1;
        [b"f", &self.next.to_be_bytes()[..]].concat().into()
    }

    /// An envelope of `from` was given to a connection, as its data frame number `place`.
    pub fn queued(&mut self, conn: ConnId, place: u64, from: PeerId, bytes: usize) {
        *self.in_flight.entry(from).or_default() += bytes;
        self.queued.entry(conn).or_default().push_back(Queued { place, from, bytes });
    }

    /// A connection has written all data frames up to number `place`.
    pub fn written(&mut self, conn: ConnId, place: u64) {
        let Some(queue) = self.queued.get_mut(&conn) else { return };
        while queue.front().is_some_and(|q| q.place <= place)
            && let Some(first) = queue.pop_front()
        {
            Self::land(&mut self.in_flight, &first);
        }
        if queue.is_empty() {
            self.queued.remove(&conn);
        }
    }

    fn land(in_flight: &mut BTreeMap<PeerId, usize>, queued: &Queued) {
        if let Some(bytes) = in_flight.get_mut(&queued.from) {
            *bytes = bytes.saturating_sub(queued.bytes);
            if *bytes == 0 {
                in_flight.remove(&queued.from);
            }
        }
    }

    /// A connection has ended: what it had not written is not in flight any more.
    pub fn down(&mut self, conn: ConnId) {
        for queued in self.queued.remove(&conn).into_iter().flatten() {
            Self::land(&mut self.in_flight, &queued);
        }
        self.answers.remove(&conn);
    }

    /// There is no room for an answer now: it waits.
    pub fn owe(&mut self, conn: ConnId, answer: RelayAck) {
        let answers = self.answers.entry(conn).or_default();
        if answers.len() < ANSWERS {
            answers.push_back(answer);
        }
    }

    /// The next answer that waits for a connection.
    pub fn owed(&mut self, conn: ConnId) -> Option<RelayAck> {
        let answers = self.answers.get_mut(&conn)?;
        let first = answers.pop_front();
        if answers.is_empty() {
            self.answers.remove(&conn);
        }
        first
    }

    /// Whether an envelope for us, handed over by `hop`, can be opened now. It takes a place.
    pub fn open(&mut self, now: Tick, op: OpId, hop: PeerId, bytes: usize) -> bool {
        let rate = limits::CARRIED_RATE as u64;
        let budget = self.carried.entry(hop).or_insert_with(|| ByteBudget::new(rate, u64::MAX));
        // no neighbour takes all places
        let taken = self.opening.values().filter(|h| **h == hop).count();
        if self.opening.len() >= OPENING || taken >= OPENING / 2 || !budget.spend(now, bytes as u64) {
            return false;
        }
        self.opening.insert(op, hop);
        true
    }

    /// An envelope was opened, or could not be: who handed it over.
    pub fn opened(&mut self, op: OpId) -> Option<PeerId> {
        self.opening.remove(&op)
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
    fn a_sender_has_at_most_a_mebibyte_in_our_queues() {
        let (mut r, conn) = (Relay::default(), ConnId(7));
        let mut now = Tick(0);
        let mut place = 0;
        while r.admit(now, peer(1), 60_000) {
            place += 1;
            r.queued(conn, place, peer(1), 60_000);
            now = Tick(now.0 + 1_000);
        }
        assert_eq!(place as usize, limits::RELAY_IN_FLIGHT / 60_000);
        assert!(r.admit(now, peer(2), 60_000), "another sender has its own");
        r.written(conn, 1);
        assert!(r.admit(now, peer(1), 60_000), "one was written");
        r.down(conn);
        assert_eq!(r.in_flight(&peer(1)), 0);
    }

    #[test]
    fn no_neighbour_takes_all_places_where_envelopes_are_opened() {
        let mut r = Relay::default();
        let taken = (0..1_000).filter(|n| r.open(Tick(0), OpId(*n), peer(1), 10)).count();
        assert_eq!(taken, OPENING / 2);
        assert!(r.open(Tick(0), OpId(2_000), peer(2), 10));
        assert_eq!(r.opened(OpId(0)), Some(peer(1)));
        assert!(r.open(Tick(0), OpId(2_001), peer(1), 10));
        assert!(!r.open(Tick(0), OpId(2_002), peer(3), 2 * limits::CARRIED_RATE), "more than its rate");
    }

    /// A frame that was passed on had the id under which its sender waits. The recipient answered it
    /// too, and that answer could be taken for the one to an envelope of the relay's own.
    #[test]
    fn the_id_of_a_frame_that_is_passed_on_is_nobodys() {
        let mut r = Relay::default();
        let ours = r.hand_over(OpId(1), peer(1), peer(3), Tick(1_000));
        let passed = r.forwarding();
        assert_ne!(ours, passed);
        assert_eq!(r.acknowledged(peer(1), &passed), None);
        assert_ne!(r.forwarding(), passed);
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
