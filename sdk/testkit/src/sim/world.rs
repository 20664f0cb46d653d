//! The world: virtual time, the queue of what is to come, and the loop.

use std::collections::BTreeMap;

use byway_api::{NetworkId, PeerId, UserId};
use byway_core::io::{In, InboxKey, Out};
use byway_core::{ConnId, Tuning};
use byway_wire::VerifiedRecord;

use super::dials::{Dial, Sort};
use super::ledger::Ledger;
use super::node::Node;
use super::pipes::Pipe;
use super::plan::{Fault, Plan, Weather};
use super::random::Random;
use super::registry::Registry;
use super::stats::Stats;
use super::trace::Trace;
use super::{Config, Outcome};

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// At one process of a node; forgotten if that process has ended, later if it sleeps.
    Node { node: usize, life: u32, what: Do },
    /// A node that is down starts.
    Boot(usize),
    /// A connection's writer has time.
    Pump { pipe: u64, side: usize },
    /// Something may have arrived at one end.
    Arrive { pipe: u64, side: usize },
    /// One end learns that the connection is gone.
    Down { pipe: u64, side: usize },
    /// A connection breaks.
    Break(u64),
    /// A signal reaches a node over a socket.
    Signal { dial: u64, sort: Sort, at: usize, back: byway_api::SignalAddress },
    /// A dial says the next OFFER.
    DialTry(u64),
    /// The channel of an answered dial opens, or not.
    DialOpen(u64),
    /// A dial has taken too long.
    DialLate(u64),
    /// The next fault of the plan.
    Fault(usize),
    /// A fault ends.
    Over(Fault, u64),
    /// A relay was killed a while ago.
    FailedOver(super::failover::Failover),
    /// A second has passed.
    Second,
}

/// What happens at a node.
#[derive(Debug)]
pub(super) enum Do {
    Wake,
    Tell(Box<In>),
    Credit(ConnId),
    /// The oldest batch reaches the store.
    Commit,
    /// A page is read.
    Read(byway_core::OpId, byway_api::Load),
    /// A connection passed Hello on this side.
    Up {
        pipe: u64,
        side: usize,
    },
    /// A neighbour's silence about an approach.
    Withdraw(PeerId),
    /// The registry's socket is tried.
    Attach,
    /// The cache step reads the store.
    Recall(byway_core::OpId, UserId),
    /// The registry answers, or not.
    Called(super::registry::Call),
    AppSend,
    AppTake,
    AppDone(InboxKey),
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) config: Config,
    pub(super) seed: u64,
    pub(super) network: NetworkId,
    pub(super) tuning: Tuning,
    pub(super) random: Random,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    order: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) places: BTreeMap<PeerId, usize>,
    /// Every record that was ever signed, by device and number.
    pub(super) records: BTreeMap<(PeerId, u64), VerifiedRecord>,
    pub(super) pipes: BTreeMap<u64, Pipe>,
    pub(super) next_pipe: u64,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) next_dial: u64,
    pub(super) registry: Registry,
    /// Running partitions: who is apart.
    pub(super) cuts: Vec<Vec<usize>>,
    pub(super) plan: Plan,
    /// What was ever sealed, by number.
    pub(super) letters: Vec<super::letters::Inside>,
    pub(super) weather: Weather,
    /// Since when nothing goes wrong any more.
    pub(super) healed: Option<u64>,
    pub(super) ledger: Ledger,
    pub(super) rest: super::rest::Watch,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
    pub(super) violations: Vec<String>,
    out: Vec<Out>,
}

/// A run ends after so many violations: the later ones follow from the first.
const ENOUGH: usize = 5;
const MINUTE_MS: u64 = 60_000;

impl World {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x00b1_7a3e);
        let network = NetworkId::new("sim").unwrap_or_else(|e| unreachable!("{e}"));
        let plan = Plan::draw(&config, &mut random.fork());
        let mut tuning = Tuning::default();
        if random.chance(500) {
            // bodies are read from the store
            tuning.bodies_in_memory = 64 << 10;
        }
        if config.anchors > 0 {
            tuning.anchors = config.anchors;
        }
        let mut world = Self {
            config,
            seed,
            network,
            tuning,
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            nodes: Vec::new(),
            places: BTreeMap::new(),
            records: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            dials: BTreeMap::new(),
            next_dial: 0,
            registry: Registry::default(),
            cuts: Vec::new(),
            weather: plan.weather,
            plan,
            letters: Vec::new(),
            healed: None,
            ledger: Ledger::default(),
            rest: super::rest::Watch::default(),
            trace: Trace::new(config.trace),
            stats: Stats::default(),
            violations: Vec::new(),
            out: Vec::new(),
            random,
        };
        for place in 0..config.nodes {
            let node = Node::make(place, &mut world);
            world.places.insert(node.peer, place);
            world.nodes.push(node);
            let at = world.random.between(0, 2_000);
            world.at(at, Event::Boot(place));
        }
        for (index, (at, _)) in world.plan.faults.clone().iter().enumerate() {
            world.at(*at, Event::Fault(index));
        }
        world.at(1_000, Event::Second);
        world
    }

    pub(super) fn at(&mut self, when: u64, event: Event) {
        self.order += 1;
        self.queue.insert((when.max(self.now), self.order), event);
    }

    pub(super) fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Something that the present process of a node meets.
    pub(super) fn at_node(&mut self, node: usize, wait: u64, what: Do) {
        let life = self.nodes[node].life;
        self.after(wait, Event::Node { node, life, what });
    }

    pub(super) fn tell(&mut self, node: usize, wait: u64, input: In) {
        self.at_node(node, wait, Do::Tell(Box::new(input)));
    }

    pub(super) fn violation(&mut self, node: usize, text: &str) {
        if self.violations.len() >= ENOUGH {
            return;
        }
        let line = format!("at {} ms, n{node}: {text}", self.now);
        self.trace.say(self.now, node, || format!("VIOLATION {text}"));
        self.violations.push(line);
    }

    pub(super) fn run(mut self, minute: &mut dyn FnMut(u64)) -> Outcome {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            for passed in self.now / MINUTE_MS..at / MINUTE_MS {
                minute(passed + 1);
            }
            self.now = at;
            if self.settled() || self.violations.len() >= ENOUGH {
                break;
            }
            self.event(event);
        }
        for place in 0..self.nodes.len() {
            self.count_core(place);
        }
        self.stats.virtual_ms = self.now;
        self.stats.member_ms = self.now * self.nodes.len() as u64;
        self.stats.events = self.trace.events;
        self.ledger.count(&mut self.stats);
        let hash = self.trace.hash();
        Outcome { seed: self.seed, violations: self.violations, plan: self.plan.lines(), hash, stats: self.stats }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Node { node, life, what } => self.at_process(node, life, what),
            Event::Boot(node) => self.boot(node),
            Event::Pump { pipe, side } => self.pump(pipe, side),
            Event::Arrive { pipe, side } => self.arrive(pipe, side),
            Event::Down { pipe, side } => self.pipe_down(pipe, side),
            Event::Break(pipe) => self.break_pipe(pipe),
            Event::Signal { dial, sort, at, back } => self.signal(dial, sort, at, back),
            Event::DialTry(dial) => self.dial_try(dial),
            Event::DialOpen(dial) => self.dial_open(dial),
            Event::DialLate(dial) => self.dial_late(dial),
            Event::Fault(index) => self.fault(index),
            Event::Over(fault, id) => self.fault_over(fault, id),
            Event::FailedOver(failover) => self.failed_over(&failover),
            Event::Second => self.second(),
        }
    }

    fn at_process(&mut self, node: usize, life: u32, what: Do) {
        let n = &mut self.nodes[node];
        if n.life != life || n.core.is_none() {
            return;
        }
        if n.asleep_until > self.now {
            let until = n.asleep_until;
            self.at(until, Event::Node { node, life, what });
            return;
        }
        match what {
            Do::Wake => self.wake(node),
            Do::Tell(input) => self.feed(node, *input),
            Do::Credit(conn) => self.give_credit(node, conn),
            Do::Commit => self.commit(node),
            Do::Read(op, load) => self.read_store(node, op, &load),
            Do::Up { pipe, side } => self.pipe_up(pipe, side),
            Do::Withdraw(peer) => self.withdraw(node, peer),
            Do::Attach => self.attach(node),
            Do::Recall(op, user) => self.recall(node, op, &user),
            Do::Called(call) => self.called(node, call),
            Do::AppSend => self.app_send(node),
            Do::AppTake => self.app_take(node),
            Do::AppDone(key) => self.app_done(node, key),
        }
    }

    /// One input of one core, and everything that comes out of it.
    pub(super) fn feed(&mut self, place: usize, input: In) {
        let now = self.clock(place);
        let (kind, ids) = super::effects::label(&input);
        self.trace.note(self.now, place, kind, ids);
        self.trace.say(self.now, place, || format!("<- {input:?}"));
        let mut out = std::mem::take(&mut self.out);
        let Some(core) = &mut self.nodes[place].core else { return };
        core.handle(now, input, &mut out);
        for effect in out.drain(..) {
            self.effect(place, effect);
        }
        self.out = out;
        self.look(place);
        self.plan_wake(place);
    }

    fn wake(&mut self, place: usize) {
        let n = &mut self.nodes[place];
        if n.wake_at.is_none_or(|t| t > self.now) {
            return;
        }
        n.wake_at = None;
        let spinning = n.last_wake == self.now;
        n.wakes = if spinning { n.wakes + 1 } else { 0 };
        n.last_wake = self.now;
        self.stats.wakes += 1;
        if n.wakes > 20 {
            n.wakes = 0;
            self.violation(place, "the core wants to be woken again and again at the same moment");
            return;
        }
        self.feed(place, In::Wake);
    }

    fn plan_wake(&mut self, place: usize) {
        let n = &mut self.nodes[place];
        let Some(core) = &n.core else { return };
        let Some(deadline) = core.deadline() else { return };
        let at = n.sim_time(deadline).max(self.now);
        if n.wake_at.is_none_or(|t| at < t) {
            n.wake_at = Some(at);
            self.at_node(place, at - self.now, Do::Wake);
        }
    }
}
