//! Dialling: OFFER and ANSWER over whatever carries signals, then a channel.
//!
//! Signals through a neighbour are sealed envelopes that the cores forward ([`In::Forward`], `Out::Mail`);
//! those over a socket need the listener or the registry, and everybody who is attached to it.

use bytes::Bytes;
use byway_api::{PeerId, Retry, Sealed, SignalAddress};
use byway_core::OpId;
use byway_core::io::{DialError, FoundRoute, In, RouteSource};

use super::node::Asked;
use super::world::{Do, Event, World};

/// A kind of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Offer,
    Answer,
}

/// One attempt of one node.
#[derive(Debug)]
pub(super) struct Dial {
    from: usize,
    life: u32,
    op: OpId,
    to: usize,
    ways: Vec<SignalAddress>,
    next: usize,
    answered: bool,
}

const DIAL_MS: u64 = 10_000;
const HELLO_MS: u64 = 5_000;
/// More dials of one device in a minute are a storm.
const DIALS_A_MINUTE: usize = 30;

fn failure(retry: Retry, superseded: bool, text: &str) -> DialError {
    DialError { retry, superseded, text: text.into() }
}

impl World {
    pub(super) fn dial(&mut self, from: usize, op: OpId, peer: PeerId, ways: Vec<SignalAddress>) {
        let Some(&to) = self.places.get(&peer) else {
            self.violation(from, &format!("dials {peer:?}, which does not exist"));
            return;
        };
        if ways.is_empty() {
            self.violation(from, "a dial without a way");
        }
        if self.dials.values().any(|d| d.from == from && d.to == to) {
            self.violation(from, &format!("dials n{to} twice at a time"));
        }
        let since = self.now.saturating_sub(60_000);
        let dialled = &mut self.nodes[from].dialled;
        while dialled.front().is_some_and(|(at, _)| *at < since) {
            dialled.pop_front();
        }
        dialled.push_back((self.now, peer));
        let often = dialled.iter().filter(|(_, p)| *p == peer).count();
        if often > DIALS_A_MINUTE {
            self.violation(from, &format!("dials n{to} {often} times in a minute"));
        }
        let id = self.next_dial;
        self.next_dial += 1;
        let life = self.nodes[from].life;
        let since = self.now;
        self.nodes[from].dialing.insert(op, (id, since));
        self.dials.insert(id, Dial { from, life, op, to, ways, next: 0, answered: false });
        let wait = self.random.between(1, 5);
        self.after(wait, Event::DialTry(id));
        self.after(DIAL_MS, Event::DialLate(id));
    }

    /// The dial if its process still runs, and is awake; else the event comes again.
    fn dialer(&mut self, id: u64, again: fn(u64) -> Event) -> Option<(usize, usize, OpId)> {
        let d = self.dials.get(&id)?;
        let (from, to, op, life) = (d.from, d.to, d.op, d.life);
        let n = &self.nodes[from];
        if n.life != life || n.core.is_none() {
            self.dials.remove(&id);
            return None;
        }
        if n.asleep_until > self.now {
            self.at(n.asleep_until, again(id));
            return None;
        }
        Some((from, to, op))
    }

    pub(super) fn dial_try(&mut self, id: u64) {
        let Some((from, to, _)) = self.dialer(id, Event::DialTry) else { return };
        let Some(dial) = self.dials.get(&id) else { return };
        if dial.answered {
            return;
        }
        let (ways, next) = (dial.ways.clone(), dial.next);
        for i in 0..ways.len() {
            let way = &ways[(next + i) % ways.len()];
            if self.send_signal(from, to, id, Sort::Offer, way) {
                if let Some(dial) = self.dials.get_mut(&id) {
                    dial.next = (next + i + 1) % ways.len();
                }
                let wait = self.random.between(600, 1_000);
                self.after(wait, Event::DialTry(id));
                return;
            }
        }
        if next == 0 {
            let alone = !(0..self.nodes.len()).any(|n| n != from && self.reach(from, n));
            let retry = if alone { Retry::LocalFault } else { Retry::Later };
            self.dial_fails(id, failure(retry, false, "nothing carries the signals"));
        } else {
            let wait = self.random.between(600, 1_000);
            self.after(wait, Event::DialTry(id));
        }
    }

    /// Whether the signal could be handed to something that carries it.
    fn send_signal(&mut self, from: usize, to: usize, dial: u64, sort: Sort, way: &SignalAddress) -> bool {
        if let Some(hop) = way.via() {
            if !self.nodes[from].core.as_ref().is_some_and(|c| c.is_linked(&hop)) {
                return false;
            }
            let op = self.ask_core(from, Asked::Forwarded);
            let mut envelope = vec![0; usize::try_from(self.random.between(200, 1_500)).unwrap_or(200)];
            envelope[0] = u8::from(sort == Sort::Answer);
            envelope[1..9].copy_from_slice(&dial.to_be_bytes());
            let mail = Sealed { to: self.nodes[to].peer, envelope: Bytes::from(envelope) };
            self.tell(from, 0, In::Forward { op, hop, mail });
            return true;
        }
        let open = if way.as_str().starts_with("ws://registry") {
            self.registry.up && self.nodes[from].attached && self.nodes[to].attached
        } else {
            // the listener of either of the two; both run
            self.reach(from, to) && !self.kept_apart(from, to) && self.nodes[to].core.is_some()
        };
        if !open {
            return false;
        }
        let times = if self.random.chance(self.weather.signal_loss) {
            0
        } else {
            1 + u64::from(self.random.chance(self.weather.signal_twice))
        };
        for _ in 0..times {
            let wait = self.latency(from, to) + self.random.between(2, 40);
            self.after(wait, Event::Signal { dial, sort, at: to, back: way.clone() });
        }
        true
    }

    /// A signal that came in an envelope.
    pub(super) fn mailed_signal(&mut self, at: usize, hop: PeerId, mail: &Sealed) {
        let (Some(sort), Some(dial)) = (mail.envelope.first(), mail.envelope.get(1..9)) else { return };
        let sort = if *sort == 0 { Sort::Offer } else { Sort::Answer };
        let dial = dial.try_into().map_or(0, u64::from_be_bytes);
        if !self.random.chance(self.weather.signal_loss) {
            self.after(1, Event::Signal { dial, sort, at, back: SignalAddress::through(hop) });
        }
    }

    pub(super) fn signal(&mut self, id: u64, sort: Sort, at: usize, back: SignalAddress) {
        let n = &self.nodes[at];
        if n.core.is_none() || n.quitting {
            return;
        }
        if n.asleep_until > self.now {
            self.at(n.asleep_until, Event::Signal { dial: id, sort, at, back });
            return;
        }
        let Some(dial) = self.dials.get(&id) else { return };
        match sort {
            Sort::Offer if dial.to == at => self.offered(id, dial.from, at, back),
            Sort::Answer if dial.from == at && !dial.answered => self.answered(id),
            _ => {}
        }
    }

    fn offered(&mut self, id: u64, from: usize, at: usize, back: SignalAddress) {
        let (peer, user) = (self.nodes[from].peer, self.nodes[from].user.clone());
        let record = self.records.get(&(peer, self.nodes[from].record_seq())).cloned();
        let Some(core) = &self.nodes[at].core else { return };
        if !core.admits(&user, &peer) {
            return;
        }
        let linked = core.is_linked(&peer);
        let last_seen = Some(self.clock(at).wall);
        let route = FoundRoute { peer, address: back.clone(), record, last_seen, source: RouteSource::Step };
        self.feed(at, In::Sighting(route));
        let until = self.now + DIAL_MS + HELLO_MS;
        if !linked && self.nodes[at].approached.insert(peer, until).is_none() {
            self.feed(at, In::Approached { peer });
            self.at_node(at, DIAL_MS + HELLO_MS, Do::Withdraw(peer));
        }
        // two dials towards each other: the transport settles it, or both connect
        let ours = self.dials.iter().find(|(_, d)| d.from == at && d.to == from).map(|(id, _)| *id);
        if let Some(ours) = ours
            && !self.random.chance(self.weather.glare)
        {
            if self.nodes[at].peer < peer {
                return;
            }
            self.dial_fails(ours, failure(Retry::Later, true, "superseded"));
        }
        self.send_signal(at, from, id, Sort::Answer, &back);
    }

    fn answered(&mut self, id: u64) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        dial.answered = true;
        let (from, to, op) = (dial.from, dial.to, dial.op);
        self.feed(from, In::Answering { op });
        let wait = 2 * self.latency(from, to) + self.random.between(20, 200);
        self.after(wait, Event::DialOpen(id));
    }

    pub(super) fn dial_open(&mut self, id: u64) {
        let Some((from, to, op)) = self.dialer(id, Event::DialOpen) else { return };
        let there = &self.nodes[to];
        let open = there.core.is_some() && there.asleep_until <= self.now && !there.quitting && self.reach(from, to);
        if !open {
            // nothing answers; the deadline ends it
            return;
        }
        if self.kept_apart(from, to) || self.random.chance(self.weather.dial_fails) {
            self.dial_fails(id, failure(Retry::Later, false, "no path"));
            return;
        }
        self.dials.remove(&id);
        self.open_pipe(from, to, op);
    }

    pub(super) fn dial_late(&mut self, id: u64) {
        if self.dialer(id, Event::DialLate).is_some() {
            self.dial_fails(id, failure(Retry::Later, false, "no connection in time"));
        }
    }

    pub(super) fn dial_fails(&mut self, id: u64, error: DialError) {
        let Some(dial) = self.dials.remove(&id) else { return };
        if self.nodes[dial.from].dialing.remove(&dial.op).is_some() {
            self.tell(dial.from, 0, In::Dialed { op: dial.op, result: Err(error) });
        }
    }

    pub(super) fn cancel_dial(&mut self, node: usize, op: OpId) {
        let Some(&(id, _)) = self.nodes[node].dialing.get(&op) else { return };
        if self.dials.contains_key(&id) {
            self.dial_fails(id, failure(Retry::Later, false, "cancelled"));
        } else {
            // its channel is open and Hello is not over: it is dropped
            self.nodes[node].dialing.remove(&op);
            self.tell(node, 0, In::Dialed { op, result: Err(failure(Retry::Later, false, "cancelled")) });
        }
    }

    pub(super) fn withdraw(&mut self, node: usize, peer: PeerId) {
        let now = self.now;
        if self.nodes[node].approached.get(&peer).is_some_and(|until| *until <= now) {
            self.nodes[node].approached.remove(&peer);
            self.feed(node, In::Withdrawn { peer });
        }
    }
}
