//! Lookups and the dials that they lead to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use byway_api::{PeerId, Retry, SignalAddress, UserId};

use super::{EXPLANATIONS, NodeCore, Phase};
use crate::io::{DialError, Event, FoundRoute, Out, StepOutcome};
use crate::ladder::{Ladder, Step};
use crate::link::{LinkKey, LinkState};
use crate::machine::{Now, OpId, Tick};
use crate::view::{DialTrace, Explanation, LookupOutcome};

/// After a lost race the winner's connection has this long to appear.
const GRACE: Duration = Duration::from_secs(2);

/// The search for one user.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) ladder: Ladder,
    dials: Vec<DialTrace>,
    /// Devices that wait for a free dial.
    waiting: VecDeque<(PeerId, &'static str)>,
    /// Ways that were dialled, so that only a new way leads to a second dial.
    tried: BTreeMap<PeerId, BTreeSet<SignalAddress>>,
}

/// One attempt to connect to one device.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) peer: PeerId,
    users: BTreeSet<UserId>,
    addresses: Vec<SignalAddress>,
    /// The race was lost: the connection should come up before this.
    pub(super) grace: Option<Tick>,
}

/// The step of a dial that no step led to.
const KNOWN: &str = "known member";
/// How often the wait between two dials of a device doubles at most, whatever the longest wait is.
const DOUBLINGS: u32 = 16;
/// The same while our own network is down.
const OUTAGE_DOUBLINGS: u32 = 4;
/// The outcome of a dial that runs.
const DIALLING: &str = "dialling";

impl NodeCore {
    /// Begins to look for a user, unless it is connected or sought already.
    pub(super) fn seek(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        if self.phase != Phase::Running || self.lookups.contains_key(user) || self.roster.is_blocked(user) {
            return;
        }
        if *user == self.me.user {
            return;
        }
        if self.is_user_linked(user) {
            self.dial_left_out(now, user, out);
            return;
        }
        self.metrics.lookups += 1;
        for key in self.link_keys(user) {
            self.links.seek(&key);
        }
        let ladder = Ladder::new(&self.steps, &self.tuning, now.tick, now.wall);
        let lookup = Lookup { ladder, dials: Vec::new(), waiting: VecDeque::new(), tried: BTreeMap::new() };
        self.lookups.insert(user.clone(), lookup);
        self.join_dials(now, user);
        // What was learnt a moment ago may not have reached the store yet, where the cache looks.
        for peer in self.roster.devices_of(user) {
            if !self.addresses(now, &peer).is_empty() {
                self.try_device(now, user, peer, KNOWN, out);
            }
        }
        self.advance_lookup(now, user, out);
    }

    /// Dials of the user's devices that already run, for other reasons, belong to the lookup: it is
    /// not over before they are.
    fn join_dials(&mut self, now: Now, user: &UserId) {
        let Some(lookup) = self.lookups.get_mut(user) else { return };
        for dial in self.dials.values_mut().filter(|d| self.roster.user(&d.peer) == Some(user)) {
            if !dial.users.insert(user.clone()) {
                continue;
            }
            lookup.tried.entry(dial.peer).or_default().extend(dial.addresses.iter().cloned());
            lookup.dials.push(DialTrace {
                peer: dial.peer,
                address: dial.addresses.first().map_or_else(String::new, ToString::to_string),
                step: KNOWN,
                started: now.tick - lookup.ladder.started(),
                outcome: DIALLING.into(),
            });
            lookup.ladder.dial_started();
        }
    }

    fn link_keys(&self, user: &UserId) -> Vec<LinkKey> {
        let devices = self.roster.devices_of(user);
        if devices.is_empty() {
            vec![LinkKey::User(user.clone())]
        } else {
            devices.into_iter().map(LinkKey::Device).collect()
        }
    }

    pub(super) fn is_user_linked(&self, user: &UserId) -> bool {
        self.roster.devices_of(user).iter().any(|p| self.by_peer.contains_key(p))
    }

    pub(super) fn advance_lookups(&mut self, now: Now, out: &mut Vec<Out>) {
        let due: Vec<_> = self
            .lookups
            .iter()
            .filter(|(_, l)| l.ladder.deadline().is_some_and(|t| t <= now.tick))
            .map(|(u, _)| u.clone())
            .collect();
        for user in due {
            self.advance_lookup(now, &user, out);
        }
    }

    fn advance_lookup(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        self.dial_waiting(now, user, out);
        let Some(lookup) = self.lookups.get_mut(user) else { return };
        let mut steps = Vec::new();
        lookup.ladder.advance(now.tick, &mut steps);
        for step in steps {
            match step {
                Step::Run(index) => {
                    let op = self.op();
                    self.runs.insert(op, user.clone());
                    if self.steps[index].metered {
                        self.metrics.lookups_metered += 1;
                    }
                    if let Some(lookup) = self.lookups.get_mut(user) {
                        lookup.ladder.running(index, op, now.tick);
                    }
                    out.push(Out::Run { op, step: index, user: user.clone() });
                }
                Step::Cancel(op) => {
                    self.runs.remove(&op);
                    out.push(Out::CancelRun { op });
                }
                Step::Exhausted => self.finish_lookup(now, user, LookupOutcome::Queued, out),
            }
        }
    }

    pub(super) fn found(&mut self, now: Now, op: OpId, route: FoundRoute, out: &mut Vec<Out>) {
        let Some(user) = self.runs.get(&op).cloned() else { return };
        let Some(step) = self.lookups.get_mut(&user).and_then(|l| l.ladder.found(op)) else { return };
        let owner = route.record.as_ref().map(|r| r.user().clone());
        let peer = route.peer;
        if !self.met(now, route, out) || owner.is_some_and(|o| o != user) {
            return;
        }
        self.links.adopt(&user, peer);
        self.bind(now, &user, out);
        self.try_device(now, &user, peer, step, out);
        self.advance_lookup(now, &user, out);
    }

    fn try_device(&mut self, now: Now, user: &UserId, peer: PeerId, step: &'static str, out: &mut Vec<Out>) {
        if self.by_peer.contains_key(&peer) {
            let transport = self.writer(&peer).and_then(|c| self.conns.get(&c)).map_or("", |c| c.transport);
            self.finish_lookup(now, user, LookupOutcome::Connected { peer, transport }, out);
            return;
        }
        let addresses = self.addresses(now, &peer);
        let dialling = self.dials.values().any(|d| d.peer == peer && d.users.contains(user));
        let Some(lookup) = self.lookups.get_mut(user) else { return };
        let fresh = lookup.tried.get(&peer).is_none_or(|tried| addresses.iter().any(|a| !tried.contains(a)));
        // a dial that runs looks for new ways itself when it fails
        if fresh && !dialling && !lookup.waiting.iter().any(|(p, _)| *p == peer) {
            lookup.waiting.push_back((peer, step));
        }
    }

    fn dial_waiting(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        loop {
            let running = self.dials.values().filter(|d| d.users.contains(user)).count();
            let Some(lookup) = self.lookups.get_mut(user) else { return };
            if running >= self.tuning.parallel_dials {
                return;
            }
            let Some((peer, step)) = lookup.waiting.pop_front() else { return };
            let addresses = self.addresses(now, &peer);
            let Some(lookup) = self.lookups.get_mut(user) else { return };
            let address = addresses.first().map_or_else(String::new, ToString::to_string);
            let started = now.tick - lookup.ladder.started();
            lookup.tried.entry(peer).or_default().extend(addresses.iter().cloned());
            let outcome = if addresses.is_empty() { "no way to it is known" } else { DIALLING };
            lookup.dials.push(DialTrace { peer, address, step, started, outcome: outcome.into() });
            if addresses.is_empty() {
                continue;
            }
            lookup.ladder.dial_started();
            self.dial(peer, addresses, Some(user.clone()), out);
        }
    }

    /// One dial per device at a time: a second wish joins the first.
    pub(super) fn dial(
        &mut self,
        peer: PeerId,
        addresses: Vec<SignalAddress>,
        user: Option<UserId>,
        out: &mut Vec<Out>,
    ) {
        if let Some(dial) = self.dials.values_mut().find(|d| d.peer == peer) {
            dial.users.extend(user);
            return;
        }
        let op = self.op();
        let key = LinkKey::Device(peer);
        self.links.seek(&key);
        let next = if addresses[0].is_signalling() { LinkState::Signaling } else { LinkState::Connecting };
        self.links.go(&key, next);
        let users = user.into_iter().collect();
        self.dials.insert(op, Dial { peer, users, addresses: addresses.clone(), grace: None });
        out.push(Out::Dial { op, peer, addresses });
    }

    pub(super) fn answering(&mut self, op: OpId) {
        if let Some(dial) = self.dials.get(&op) {
            self.links.go(&LinkKey::Device(dial.peer), LinkState::Connecting);
        }
    }

    pub(super) fn dialed(&mut self, now: Now, op: OpId, result: Result<(), DialError>, out: &mut Vec<Out>) {
        let Some(dial) = self.dials.get_mut(&op) else { return };
        match result {
            Err(error) if error.superseded && !self.by_peer.contains_key(&dial.peer) => {
                // the peer's own attempt won: its connection is on its way
                dial.grace = Some(now.tick.plus(GRACE));
            }
            Err(error) => self.dial_failed(now, op, &error, out),
            Ok(()) => {
                let peer = dial.peer;
                self.dial_over(now, op, "connected", out);
                self.not_wanted(&peer);
            }
        }
    }

    fn dial_failed(&mut self, now: Now, op: OpId, error: &DialError, out: &mut Vec<Out>) {
        let Some(dial) = self.dials.get(&op) else { return };
        let (peer, tried, users) = (dial.peer, dial.addresses.clone(), dial.users.clone());
        if error.retry == Retry::LocalFault {
            self.freeze(out);
        }
        if !error.superseded {
            let retry = if self.frozen.is_some() { Retry::LocalFault } else { error.retry };
            let book = self.routes.entry(peer).or_default();
            book.score.failed(retry);
            // our own outage is nobody's fault; it may be over soon, and ends no sooner for being asked
            let doublings = if Self::blames(retry) { DOUBLINGS } else { OUTAGE_DOUBLINGS };
            book.failures = book.failures.max((book.failures + 1).min(doublings));
            let wait = self.tuning.anchor_retry * 2u32.saturating_pow(book.failures.min(doublings) - 1);
            let wait = self.rng.jittered(wait.min(self.tuning.anchor_retry_max), self.tuning.jitter);
            book.not_before = Some(now.tick.plus(wait));
        }
        if !self.by_peer.contains_key(&peer) {
            let relay = !self.ways(now, &peer).is_empty();
            self.links.fail(&LinkKey::Device(peer), relay);
            if users.is_empty() && !self.outbox.has_open(&peer) && !self.upgrades.wanted(&peer) {
                self.links.go(&LinkKey::Device(peer), LinkState::Disconnected);
            }
        }
        // a way that became known meanwhile deserves a try of its own
        let fresh: Vec<_> = self.addresses(now, &peer).into_iter().filter(|a| !tried.contains(a)).collect();
        for user in users.into_iter().filter(|_| !fresh.is_empty()) {
            if let Some(lookup) = self.lookups.get_mut(&user) {
                lookup.waiting.push_back((peer, "again"));
            }
        }
        self.dial_over(now, op, &error.text, out);
        self.anchors_soon(now);
    }

    /// The dial succeeded, and meanwhile there was no room for the connection any more.
    fn not_wanted(&mut self, peer: &PeerId) {
        let key = LinkKey::Device(*peer);
        if !self.by_peer.contains_key(peer) && self.links.get(&key) == LinkState::Connecting {
            self.links.fail(&key, false);
            if !self.outbox.has_open(peer) {
                self.links.go(&key, LinkState::Disconnected);
            }
        }
    }

    fn dial_over(&mut self, now: Now, op: OpId, outcome: &str, out: &mut Vec<Out>) {
        let Some(dial) = self.dials.remove(&op) else { return };
        if !self.by_peer.contains_key(&dial.peer) {
            self.upgrade_failed(now, &dial.peer, out);
        }
        for user in dial.users {
            if let Some(lookup) = self.lookups.get_mut(&user) {
                lookup.ladder.dial_ended();
                if let Some(trace) = lookup.dials.iter_mut().rfind(|t| t.peer == dial.peer) {
                    outcome.clone_into(&mut trace.outcome);
                }
            }
            self.advance_lookup(now, &user, out);
        }
    }

    /// Races that were lost, and whose winner did not appear.
    pub(super) fn end_graces(&mut self, now: Now, out: &mut Vec<Out>) {
        let over = |d: &Dial| d.grace.is_some_and(|t| t <= now.tick);
        let ops: Vec<_> = self.dials.iter().filter(|(_, d)| over(d)).map(|(op, _)| *op).collect();
        for op in ops {
            let peer = self.dials[&op].peer;
            self.dial_over(now, op, "the peer's own attempt won and did not connect", out);
            if !self.by_peer.contains_key(&peer) {
                let relay = !self.ways(now, &peer).is_empty();
                self.links.fail(&LinkKey::Device(peer), relay);
            }
        }
    }

    pub(super) fn step_ended(&mut self, now: Now, op: OpId, outcome: &StepOutcome, out: &mut Vec<Out>) {
        let Some(user) = self.runs.remove(&op) else { return };
        if let Some(lookup) = self.lookups.get_mut(&user) {
            lookup.ladder.ended(op, outcome, now.tick);
        }
        self.advance_lookup(now, &user, out);
    }

    /// A device of the user is connected: the search is over.
    pub(super) fn lookup_connected(
        &mut self,
        now: Now,
        user: &UserId,
        peer: PeerId,
        transport: &'static str,
        out: &mut Vec<Out>,
    ) {
        let graced: Vec<_> =
            self.dials.iter().filter(|(_, d)| d.peer == peer && d.grace.is_some()).map(|(op, _)| *op).collect();
        self.finish_lookup(now, user, LookupOutcome::Connected { peer, transport }, out);
        for op in graced {
            self.dial_over(now, op, "the peer's own attempt won", out);
        }
        if self.left_out(user).is_empty() {
            self.retries.remove(user);
        } else {
            self.retry_soon(now, user);
        }
    }

    fn finish_lookup(&mut self, now: Now, user: &UserId, outcome: LookupOutcome, out: &mut Vec<Out>) {
        let Some(mut lookup) = self.lookups.remove(user) else { return };
        for op in lookup.ladder.operations() {
            if self.runs.remove(&op).is_some() {
                out.push(Out::CancelRun { op });
            }
        }
        for dial in self.dials.values_mut() {
            dial.users.remove(user);
        }
        let took = now.tick - lookup.ladder.started();
        match outcome {
            LookupOutcome::Connected { peer, .. } => {
                for dial in lookup.dials.iter_mut().filter(|d| d.outcome == DIALLING) {
                    dial.outcome = if dial.peer == peer { "connected" } else { "another device was first" }.into();
                }
                self.metrics.lookups_connected += 1;
                if took <= crate::view::CONNECT_TARGET {
                    self.metrics.lookups_connected_within_2s += 1;
                }
            }
            _ => {
                let mut relay = false;
                for key in self.link_keys(user) {
                    let way = matches!(&key, LinkKey::Device(peer) if !self.ways(now, peer).is_empty());
                    self.links.fail(&key, way);
                    relay |= way;
                }
                self.retry_later(now, user);
                // a neighbour that was named as a way is none if what waited still waits
                if !relay || self.outbox.waiting_for(user) > 0 {
                    self.widen(now, user, out);
                }
                out.push(Out::Tell(Event::Unreachable { user: user.clone() }));
            }
        }
        while self.explanations.len() >= EXPLANATIONS && !self.explanations.contains_key(user) {
            let oldest = self.explanations.iter().min_by_key(|(_, e)| e.started).map(|(u, _)| u.clone());
            oldest.map(|u| self.explanations.remove(&u));
        }
        self.explanations.insert(
            user.clone(),
            Explanation {
                user: user.clone(),
                started: lookup.ladder.started_wall(),
                took: Some(took),
                outcome,
                steps: lookup.ladder.traces().to_vec(),
                dials: lookup.dials,
                queued: 0,
                next_try: None,
            },
        );
    }

    /// The explanation of a lookup that runs.
    pub(super) fn running_explanation(&self, user: &UserId) -> Option<Explanation> {
        let lookup = self.lookups.get(user)?;
        Some(Explanation {
            user: user.clone(),
            started: lookup.ladder.started_wall(),
            took: None,
            outcome: LookupOutcome::Running,
            steps: lookup.ladder.traces().to_vec(),
            dials: lookup.dials.clone(),
            queued: 0,
            next_try: None,
        })
    }

    /// Ends a lookup without a word.
    pub(super) fn drop_lookup(&mut self, user: &UserId, out: &mut Vec<Out>) {
        let Some(lookup) = self.lookups.remove(user) else { return };
        for op in lookup.ladder.operations() {
            if self.runs.remove(&op).is_some() {
                out.push(Out::CancelRun { op });
            }
        }
        let dials: Vec<_> = self.dials.iter().filter(|(_, d)| d.users.contains(user)).map(|(op, _)| *op).collect();
        out.extend(dials.into_iter().map(|op| Out::CancelDial { op }));
        for key in self.link_keys(user) {
            self.links.go(&key, LinkState::Disconnected);
        }
    }

    pub(super) fn end_lookups(&mut self, _now: Now, out: &mut Vec<Out>) {
        let users: Vec<_> = self.lookups.keys().cloned().collect();
        for user in users {
            self.drop_lookup(&user, out);
        }
        out.extend(self.dials.keys().map(|op| Out::CancelDial { op: *op }));
        self.retries.clear();
    }
}
