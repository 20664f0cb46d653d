//! The registry: who announced themselves, and who is attached. It can be slow, unreachable or down.

use std::collections::{BTreeMap, BTreeSet};

use byway_api::{PeerId, Retry, StepErrorKind, UserId, WallTime};
use byway_core::OpId;
use byway_core::io::{FoundRoute, In, RouteSource, StepOutcome};
use byway_wire::VerifiedRecord;

use super::node::socket;
use super::world::{Do, World};

/// Where the registry stands, as [`World::reach`] counts.
const PLACE: usize = usize::MAX;
/// A client that could not reach it leaves it alone for so long.
const KNOWN_DOWN_MS: u64 = 30_000;

#[derive(Debug)]
pub(super) struct Registry {
    pub(super) up: bool,
    pub(super) slow: bool,
    announced: BTreeMap<PeerId, (VerifiedRecord, WallTime)>,
    attached: BTreeMap<usize, PeerId>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { up: true, slow: false, announced: BTreeMap::new(), attached: BTreeMap::new() }
    }
}

impl Registry {
    pub(super) fn detach(&mut self, place: usize) {
        self.attached.remove(&place);
    }
}

/// A call to the registry.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Find(OpId, UserId),
    List(OpId),
    Announce(OpId, bool),
    Attach,
}

impl World {
    /// Makes a call, if the budget has one left.
    pub(super) fn call(&mut self, place: usize, call: Call) {
        let (now, tick) = (self.now, self.clock(place).tick);
        let n = &mut self.nodes[place];
        if n.known_down_until > now {
            self.call_failed(place, call, StepErrorKind::KnownDown);
            return;
        }
        if !n.tokens.take(tick) {
            self.call_failed(place, call, StepErrorKind::NoBudget);
            return;
        }
        n.calls.push(now);
        self.check_calls(place);
        let there = self.registry.up && self.reach(place, PLACE);
        let wait = match (there, self.registry.slow) {
            (true, false) => self.random.between(20, 200),
            (true, true) => self.random.between(500, 5_000),
            (false, _) if self.random.chance(500) => self.random.between(1, 30),
            (false, _) => 3_000,
        };
        self.at_node(place, wait, Do::Called(call));
    }

    /// The answer, or nothing.
    pub(super) fn called(&mut self, place: usize, call: Call) {
        if !(self.registry.up && self.reach(place, PLACE)) {
            self.nodes[place].known_down_until = self.now + KNOWN_DOWN_MS;
            self.call_failed(place, call, StepErrorKind::Unreachable);
            return;
        }
        let (peer, seq) = (self.nodes[place].peer, self.nodes[place].record_seq());
        match call {
            Call::Attach => {
                self.nodes[place].attached = true;
                self.nodes[place].attach_failures = 0;
                self.registry.attached.insert(place, peer);
            }
            Call::Announce(op, leaving) => {
                let at = self.clock(place).wall;
                if leaving {
                    self.registry.attached.remove(&place);
                } else if let Some(record) = self.records.get(&(peer, seq)) {
                    self.registry.announced.insert(peer, (record.clone(), at));
                }
                self.tell(place, 0, In::Announced { op, ok: true });
            }
            Call::Find(op, user) => {
                if self.nodes[place].running.contains_key(&op) {
                    for route in self.listed(place, |r| *r.user() == user) {
                        self.tell(place, 0, In::Found { op, route });
                    }
                    self.end_run(place, op, StepOutcome::Finished);
                }
            }
            Call::List(op) => {
                let online: BTreeSet<_> = self.registry.attached.values().copied().collect();
                for route in self.listed(place, |r| online.contains(&r.peer())) {
                    self.tell(place, 0, In::Sighting(route));
                }
                self.tell(place, 0, In::BrowseEnded { op, outcome: StepOutcome::Finished });
            }
        }
    }

    fn listed(&self, place: usize, which: impl Fn(&VerifiedRecord) -> bool) -> Vec<FoundRoute> {
        let now = self.clock(place).wall;
        let me = self.nodes[place].peer;
        let listed = self.registry.announced.iter().filter(|(p, (r, _))| **p != me && which(r));
        let attached = |p: &PeerId| self.places.get(p).is_some_and(|place| self.registry.attached.contains_key(place));
        listed
            .map(|(peer, (record, at))| FoundRoute {
                peer: *peer,
                address: socket("ws://registry:1", *peer),
                record: Some(record.clone()),
                last_seen: Some(if attached(peer) { now } else { *at }),
                source: RouteSource::Registry,
            })
            .collect()
    }

    fn call_failed(&mut self, place: usize, call: Call, kind: StepErrorKind) {
        let outcome = StepOutcome::Failed(kind, format!("{kind:?}"));
        match call {
            Call::Attach => {
                let n = &mut self.nodes[place];
                // a token that is missing says nothing about the registry
                n.attach_failures += u32::from(kind != StepErrorKind::NoBudget);
                let wait = match kind {
                    StepErrorKind::NoBudget => 10_000,
                    _ => (2_000u64 << n.attach_failures.min(10)).min(300_000),
                };
                let wait = self.random.between(wait / 2, wait);
                self.at_node(place, wait, Do::Attach);
            }
            Call::Announce(op, _) => {
                let ok = byway_api::StepError::new(kind, "registry", "").retry() != Retry::Later;
                self.tell(place, 0, In::Announced { op, ok });
            }
            Call::Find(op, _) => self.end_run(place, op, outcome),
            Call::List(op) => self.tell(place, 0, In::BrowseEnded { op, outcome }),
        }
    }

    /// Opens the socket, and opens it again when it was lost.
    pub(super) fn attach(&mut self, place: usize) {
        if !self.nodes[place].attached {
            self.call(place, Call::Attach);
        }
    }

    /// Sockets that do not survive: the registry is down, or beyond a partition.
    pub(super) fn drop_sockets(&mut self) {
        for place in 0..self.nodes.len() {
            let lost = !(self.registry.up && self.reach(place, PLACE));
            if lost && std::mem::take(&mut self.nodes[place].attached) {
                self.registry.detach(place);
                let wait = self.random.between(500, 3_000);
                self.at_node(place, wait, Do::Attach);
            }
        }
    }

    /// The budget: at most five calls in any minute, and fewer than ten in any ten minutes.
    fn check_calls(&mut self, place: usize) {
        let now = self.now;
        let calls = &mut self.nodes[place].calls;
        calls.retain(|t| now - *t < 600_000);
        let within = |ms: u64| calls.iter().rev().take_while(|t| now - **t < ms).count() as u64;
        let (minute, ten) = (within(60_000), within(600_000));
        self.stats.registry_calls += 1;
        self.stats.registry_most_in_10_min = self.stats.registry_most_in_10_min.max(ten);
        if minute > 5 {
            self.violation(place, &format!("{minute} calls to the registry in a minute"));
        }
        if ten > 13 {
            self.violation(place, &format!("{ten} calls to the registry in ten minutes"));
        }
    }
}
