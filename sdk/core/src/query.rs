//! Questions to neighbours ("do you know Bob?") and theirs to us.

use std::collections::BTreeMap;
use std::time::Duration;

use byway_api::{PeerId, UserId};
use byway_wire::limits;
use byway_wire::{PeerFound, PeerQuery};

use crate::io::AskError;
use crate::limiter::TokenBucket;
use crate::machine::{OpId, Tick};

/// A question that we asked for a lookup of our own.
#[derive(Debug)]
struct Asked {
    op: OpId,
    neighbour: PeerId,
    until: Tick,
}

/// A question that we passed on.
#[derive(Debug)]
struct PassedOn {
    /// Who asked us, and under which id.
    asker: PeerId,
    their_id: String,
    /// Neighbours that have not answered.
    open: Vec<PeerId>,
    answered: bool,
    until: Tick,
}

/// What a question of a neighbour leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Look it up and answer, or pass it on.
    Fresh,
    /// Seen before, or too many: ignore.
    Ignore,
}

/// Open questions.
#[derive(Debug, Default)]
pub struct Queries {
    asked: BTreeMap<String, Asked>,
    passed_on: BTreeMap<String, PassedOn>,
    seen: BTreeMap<(PeerId, String), Tick>,
    budgets: BTreeMap<PeerId, TokenBucket>,
    next: u64,
}

impl Queries {
    fn new_id(&mut self) -> String {
        self.next += 1;
        format!("{:x}", self.next)
    }

    /// A question of our own to one neighbour.
    pub fn ask(&mut self, now: Tick, op: OpId, neighbour: PeerId, user: UserId, wait: Duration) -> PeerQuery {
        let id = self.new_id();
        self.asked.insert(id.clone(), Asked { op, neighbour, until: now.plus(wait) });
        let deadline_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        PeerQuery { user, request_id: id, hops: 1, deadline_ms }
    }

    /// An answer arrived: to a question of ours (its `OpId`), or to one that we passed on (who gets
    /// it, with the id changed to theirs). Only the one who was asked may answer.
    pub fn answered(&mut self, from: PeerId, found: &PeerFound) -> Answered {
        if self.asked.get(&found.request_id).is_some_and(|a| a.neighbour == from)
            && let Some(asked) = self.asked.remove(&found.request_id)
        {
            return Answered::Ours(asked.op);
        }
        let Some(passed) = self.passed_on.get_mut(&found.request_id) else { return Answered::Nobodys };
        let Some(at) = passed.open.iter().position(|p| *p == from) else { return Answered::Nobodys };
        passed.open.swap_remove(at);
        let last = passed.open.is_empty();
        // an empty answer is worth passing back only when nothing better can come
        let tell = !found.records.is_empty() || (last && !passed.answered);
        passed.answered |= !found.records.is_empty();
        let answer = tell.then(|| (passed.asker, PeerFound { request_id: passed.their_id.clone(), ..found.clone() }));
        if last {
            self.passed_on.remove(&found.request_id);
        }
        answer.map_or(Answered::Nobodys, |(to, found)| Answered::PassBack(to, Box::new(found)))
    }

    /// A neighbour asks.
    pub fn heard(&mut self, now: Tick, from: PeerId, query: &PeerQuery) -> Heard {
        let budget = self
            .budgets
            .entry(from)
            .or_insert_with(|| TokenBucket::new(limits::QUERY_BURST, Duration::from_secs(1) / limits::QUERY_RATE));
        if !budget.take(now) || self.seen.len() >= limits::QUERY_IDS {
            return Heard::Ignore;
        }
        let key = (from, query.request_id.clone());
        if self.seen.insert(key, now).is_some() { Heard::Ignore } else { Heard::Fresh }
    }

    /// Passes a question on to some neighbours under an id of ours.
    pub fn pass_on(&mut self, now: Tick, from: PeerId, query: &PeerQuery, to: Vec<PeerId>) -> Option<PeerQuery> {
        if to.is_empty() || query.hops == 0 || self.passed_on.len() >= limits::QUERY_IDS {
            return None;
        }
        let id = self.new_id();
        let wait = Duration::from_millis(query.deadline_ms).min(limits::QUERY_MEMORY);
        // the answer has to make its way back in time
        let wait = wait.mul_f64(0.8);
        self.passed_on.insert(
            id.clone(),
            PassedOn {
                asker: from,
                their_id: query.request_id.clone(),
                open: to,
                answered: false,
                until: now.plus(wait),
            },
        );
        let deadline_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Some(PeerQuery { user: query.user.clone(), request_id: id, hops: query.hops - 1, deadline_ms })
    }

    /// A neighbour is gone: what it was asked will not be answered.
    pub fn gone(&mut self, peer: PeerId) -> Vec<(OpId, AskError)> {
        self.budgets.remove(&peer);
        self.passed_on.retain(|_, p| p.asker != peer);
        for passed in self.passed_on.values_mut() {
            passed.open.retain(|p| *p != peer);
        }
        let lost: Vec<_> = self.asked.iter().filter(|(_, a)| a.neighbour == peer).map(|(id, _)| id.clone()).collect();
        lost.iter().filter_map(|id| self.asked.remove(id)).map(|a| (a.op, AskError::NotConnected)).collect()
    }

    /// What is overdue.
    pub fn expire(&mut self, now: Tick) -> Vec<(OpId, AskError)> {
        self.passed_on.retain(|_, p| p.until > now);
        self.seen.retain(|_, t| now - *t < limits::QUERY_MEMORY);
        let late: Vec<_> = self.asked.iter().filter(|(_, a)| a.until <= now).map(|(id, _)| id.clone()).collect();
        late.iter().filter_map(|id| self.asked.remove(id)).map(|a| (a.op, AskError::Timeout)).collect()
    }

    /// When [`Self::expire`] is due.
    pub fn deadline(&self) -> Option<Tick> {
        let asked = self.asked.values().map(|a| a.until).min();
        let passed = self.passed_on.values().map(|p| p.until).min();
        let seen = self.seen.values().min().map(|t| t.plus(limits::QUERY_MEMORY));
        [asked, passed, seen].into_iter().flatten().min()
    }
}

/// Whom an answer is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// Our own question.
    Ours(OpId),
    /// A question of this neighbour; send it this.
    PassBack(PeerId, Box<PeerFound>),
    /// Nobody waits for it.
    Nobodys,
}

#[cfg(test)]
mod tests {
    use byway_api::WallTime;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn bob() -> UserId {
        UserId::new("bob").unwrap()
    }

    fn answer(id: &str) -> PeerFound {
        PeerFound {
            user: bob(),
            request_id: id.into(),
            address: None,
            last_seen: WallTime::default(),
            can_relay: false,
            records: vec![],
        }
    }

    #[test]
    fn only_the_one_who_was_asked_may_answer() {
        let mut q = Queries::default();
        let query = q.ask(Tick(0), OpId(7), peer(1), bob(), Duration::from_millis(600));
        assert_eq!(q.answered(peer(2), &answer(&query.request_id)), Answered::Nobodys);
        assert_eq!(q.answered(peer(1), &answer(&query.request_id)), Answered::Ours(OpId(7)));
        assert_eq!(q.answered(peer(1), &answer(&query.request_id)), Answered::Nobodys, "once");
    }

    #[test]
    fn every_question_gets_one_answer() {
        let mut q = Queries::default();
        q.ask(Tick(0), OpId(1), peer(1), bob(), Duration::from_millis(600));
        q.ask(Tick(0), OpId(2), peer(2), bob(), Duration::from_millis(600));
        assert_eq!(q.gone(peer(1)), vec![(OpId(1), AskError::NotConnected)]);
        assert_eq!(q.expire(Tick(599)), vec![]);
        assert_eq!(q.expire(Tick(600)), vec![(OpId(2), AskError::Timeout)]);
        assert_eq!(q.expire(Tick(10_000)), vec![]);
    }

    #[test]
    fn a_flood_of_questions_is_cut_off() {
        let mut q = Queries::default();
        let fresh = (0..100)
            .filter(|i| {
                let query = PeerQuery { user: bob(), request_id: i.to_string(), hops: 1, deadline_ms: 600 };
                q.heard(Tick(0), peer(1), &query) == Heard::Fresh
            })
            .count();
        assert_eq!(fresh, limits::QUERY_BURST as usize);
    }

    #[test]
    fn a_passed_on_question_goes_back_to_its_asker_and_no_further() {
        let mut q = Queries::default();
        let query = PeerQuery { user: bob(), request_id: "theirs".into(), hops: 1, deadline_ms: 600 };
        assert_eq!(q.heard(Tick(0), peer(1), &query), Heard::Fresh);
        assert_eq!(q.heard(Tick(0), peer(1), &query), Heard::Ignore);
        let on = q.pass_on(Tick(0), peer(1), &query, vec![peer(2), peer(3)]).unwrap();
        assert_eq!(on.hops, 0);
        assert_eq!(q.pass_on(Tick(0), peer(1), &on, vec![peer(2)]), None, "hops are used up");
        assert_eq!(q.answered(peer(2), &answer(&on.request_id)), Answered::Nobodys, "an empty answer waits");
        let Answered::PassBack(to, found) = q.answered(peer(3), &answer(&on.request_id)) else { panic!() };
        assert_eq!((to, found.request_id.as_str()), (peer(1), "theirs"));
    }
}
