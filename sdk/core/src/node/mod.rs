//! Routes inputs to the machines and their effects to the driver.

mod attempts;
mod delivery;
mod gossip;
mod letters;
mod links;
mod lookups;
mod relays;
mod routes;
mod show;
mod upgrading;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use byway_api::{Instance, Load, MessageId, NetworkId, PeerId, StoreErrorKind, UserId, Write};
use byway_wire::{Frame, Lane, VerifiedRecord, limits};

use self::attempts::Retry;
use self::lookups::{Dial, Lookup};
use self::routes::RouteBook;
use crate::courier::Courier;
use crate::inbox::Inbox;
use crate::io::{Answer, Event, In, InboxKey, Loaded, Out, Refusal, StepOutcome};
use crate::ladder::StepSpec;
use crate::limiter::TokenBucket;
use crate::link::{Conn, Links};
use crate::liveness::Liveness;
use crate::machine::{ConnId, Machine, Now, OpId, Tick};
use crate::outbox::Outbox;
use crate::pool::Pool;
use crate::presence::Presence;
use crate::query::Queries;
use crate::relay::Relay;
use crate::rng::Rng;
use crate::roster::Roster;
use crate::tuning::Tuning;
use crate::upgrade::Upgrades;
use crate::view::{self, CoreMetrics, Explanation};

/// Who we are.
#[derive(Clone, Debug)]
pub struct Myself {
    /// Our network.
    pub network: NetworkId,
    /// Whose device this is.
    pub user: UserId,
    /// This device.
    pub peer: PeerId,
    /// This process start.
    pub instance: Instance,
    /// Our own newest record.
    pub record: VerifiedRecord,
}

/// What a store request was for.
#[derive(Debug)]
enum Stored {
    Append(MessageId),
    Bind(MessageId),
    Receive,
    Command(OpId),
    Relaxed,
}

/// What a load request was for.
#[derive(Clone, Copy, Debug)]
enum Loading {
    Outbox(MessageId),
    Inbox(InboxKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Running,
    Suspended,
    Stopping,
}

/// A periodic attempt with growing waits.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    at: Option<Tick>,
    failures: u32,
}

/// Every decision of one node.
///
/// Pure: the same inputs at the same times give the same outputs.
#[derive(Debug)]
pub struct NodeCore {
    me: Myself,
    tuning: Tuning,
    steps: Vec<StepSpec>,
    rng: Rng,
    phase: Phase,
    next_op: u64,

    links: Links,
    conns: BTreeMap<ConnId, Conn>,
    by_peer: BTreeMap<PeerId, Vec<ConnId>>,
    /// A decision between two connections that waits for the Pong of the winner.
    decisions: BTreeMap<PeerId, links::Decision>,
    takeovers: BTreeMap<PeerId, VecDeque<Tick>>,
    faults: BTreeMap<ConnId, TokenBucket>,
    banned: BTreeMap<PeerId, Tick>,
    losses: VecDeque<(Tick, PeerId)>,
    /// By each neighbour's clock: the time when our tick was zero.
    epochs: BTreeMap<PeerId, i64>,
    /// The member list before the first of several losses in a row.
    before: Option<(Tick, Box<view::Roster>)>,
    /// Our own network is down: the member list as it was before.
    frozen: Option<Box<view::Roster>>,

    pool: Pool,
    liveness: Liveness,
    outbox: Outbox,
    inbox: Inbox,
    roster: Roster,
    presence: Presence,
    queries: Queries,
    relay: Relay,
    courier: Courier,
    upgrades: Upgrades,

    lookups: BTreeMap<UserId, Lookup>,
    runs: BTreeMap<OpId, UserId>,
    dials: BTreeMap<OpId, Dial>,
    routes: BTreeMap<PeerId, RouteBook>,
    retries: BTreeMap<UserId, Retry>,
    explanations: BTreeMap<UserId, Explanation>,
    anchors_at: Option<Tick>,
    /// Neighbours wanted beyond the usual ones, because a search has failed.
    wider: usize,

    stores: BTreeMap<OpId, Stored>,
    loads: BTreeMap<OpId, Loading>,
    fetching: BTreeSet<MessageId>,
    fetching_inbox: bool,
    announce: Attempt,
    announcing: Option<OpId>,
    browse: Attempt,
    browsing: BTreeSet<OpId>,
    roster_changed: bool,
    metrics: CoreMetrics,
}

impl NodeCore {
    /// A core that has loaded nothing yet. `seed` drives jitter and epochs.
    pub fn new(me: Myself, tuning: Tuning, steps: Vec<StepSpec>, seed: u64) -> Self {
        let roster = Roster::new(me.peer);
        Self {
            me,
            tuning,
            steps,
            rng: Rng::new(seed),
            phase: Phase::Loading,
            next_op: 0,
            links: Links::default(),
            conns: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            decisions: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            faults: BTreeMap::new(),
            banned: BTreeMap::new(),
            losses: VecDeque::new(),
            epochs: BTreeMap::new(),
            before: None,
            frozen: None,
            pool: Pool::default(),
            liveness: Liveness::default(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            roster,
            presence: Presence::default(),
            queries: Queries::default(),
            relay: Relay::default(),
            courier: Courier::default(),
            upgrades: Upgrades::default(),
            lookups: BTreeMap::new(),
            runs: BTreeMap::new(),
            dials: BTreeMap::new(),
            routes: BTreeMap::new(),
            retries: BTreeMap::new(),
            explanations: BTreeMap::new(),
            anchors_at: None,
            wider: 0,
            stores: BTreeMap::new(),
            loads: BTreeMap::new(),
            fetching: BTreeSet::new(),
            fetching_inbox: false,
            announce: Attempt::default(),
            announcing: None,
            browse: Attempt::default(),
            browsing: BTreeSet::new(),
            roster_changed: false,
            metrics: CoreMetrics::default(),
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: In, out: &mut Vec<Out>) {
        self.outbox.clock(now);
        match input {
            In::Loaded(row) => self.load(now, row),
            In::Start => self.start(now, out),
            In::Me(record) => {
                self.me.record = record;
                self.presence.changed(now.tick, &self.tuning);
                self.announce_soon(now);
            }
            In::Beacon(beacon) => {
                self.presence.signed(beacon, now.tick, &self.tuning);
                self.gossip(now, out);
            }
            In::Wake => self.wake(now, out),
            In::Send(command) => self.send(now, *command, out),
            In::Seek(user) => self.seek(now, &user, out),
            In::Read { op, key } => {
                if let Some(write) = self.inbox.read(&key, self.tuning.read_receipts) {
                    self.store(Stored::Relaxed, vec![write], out);
                }
                out.push(Out::Answer { op, answer: Answer::Done });
            }
            In::Done { op, key } => {
                if let Some(write) = self.inbox.done(&key) {
                    self.store(Stored::Relaxed, vec![write], out);
                }
                out.push(Out::Answer { op, answer: Answer::Done });
            }
            In::InboxRoom(n) => self.inbox.room(n),
            In::Block { op, user, blocked } => self.block(now, op, user, blocked, out),
            In::Trust { op, user, peer } => self.trust(now, op, &user, peer, out),
            In::Suspend => self.suspend(now, out),
            In::Resume => self.resume(now, out),
            In::NetworkChanged => self.network_changed(now, out),
            In::Shutdown => self.shutdown(now, out),
            In::Up(up) => self.up(now, &up, out),
            In::Down { conn, code } => self.down(now, conn, code, out),
            In::Frame { conn, frame } => self.frame(now, conn, frame, out),
            In::Credit { conn, control, data, bytes } => self.credit(now, conn, control, data, bytes, out),
            In::Protocol { conn } => self.protocol_error(now, conn, out),
            In::Stored { op, result } => self.stored(now, op, result, out),
            In::LoadedPage { op, result } => self.loaded_page(now, op, result, out),
            In::Found { op, route } => self.found(now, op, route, out),
            In::StepEnded { op, outcome } => self.step_ended(now, op, &outcome, out),
            In::Sighting(route) => self.sighting(now, route, out),
            In::BrowseEnded { op, outcome } => self.browse_ended(now, op, &outcome),
            In::Announced { op, ok } => self.announced(now, op, ok),
            In::Answering { op } => self.answering(op),
            In::Dialed { op, result } => self.dialed(now, op, result, out),
            In::Approached { peer } => self.approached(peer),
            In::Withdrawn { peer } => self.withdrawn(peer),
            In::Ask { op, neighbour, user } => self.ask(now, op, neighbour, user, out),
            In::Forward { op, hop, mail } => self.forward(now, op, hop, mail, out),
            In::Sealed { op, result } => self.sealed(now, op, result, out),
            In::Relayed { op, result } => self.relayed(now, op, result, out),
            In::Admitted { op, admitted } => self.admitted(now, op, admitted, out),
            In::Opened { op, letter } => self.opened(now, op, letter, out),
        }
        self.settle(now, out);
    }

    /// When [`In::Wake`] is due.
    pub fn deadline(&self) -> Option<Tick> {
        let machines = [
            self.liveness.deadline(&self.tuning),
            self.outbox.deadline(&self.tuning),
            self.inbox.deadline(&self.tuning),
            self.presence.deadline(),
            self.queries.deadline(),
            self.relay.deadline(),
            self.courier.deadline(),
            self.upgrades.deadline(),
            self.lookups.values().filter_map(|l| l.ladder.deadline()).min(),
            self.dials.values().filter_map(|d| d.grace).min(),
        ];
        let announce = self.announce.at.filter(|_| self.announcing.is_none());
        let own = [self.anchors_at, announce, self.browse.at];
        match self.phase {
            Phase::Loading | Phase::Stopping => None,
            Phase::Suspended => machines[1],
            Phase::Running => {
                let retries = self.retries.values().map(|r| r.next).min();
                machines.into_iter().chain(own).chain([retries]).flatten().min()
            }
        }
    }

    fn wake(&mut self, now: Now, out: &mut Vec<Out>) {
        self.expire(now, out);
        if self.phase != Phase::Running {
            return;
        }
        self.check_links(now, out);
        for (op, error) in self.queries.expire(now.tick) {
            out.push(Out::Answer { op, answer: Answer::Routes(Err(error)) });
        }
        for (op, error) in self.relay.expire(now.tick) {
            out.push(Out::Answer { op, answer: Answer::Forwarded(Err(error)) });
        }
        self.inbox.expire(now.tick, &self.tuning);
        self.letters_due(now, out);
        self.upgrades_due(now, out);
        self.advance_lookups(now, out);
        self.end_graces(now, out);
        self.retry_due(now, out);
        self.announce_due(now, out);
        self.browse_due(now, out);
        self.presence_tick(now);
        self.gossip(now, out);
        if self.anchors_at.is_some_and(|t| t <= now.tick) {
            self.anchors_at = None;
            self.dial_anchors(now, out);
        }
    }

    /// What follows from any input: batches for the store, receipts, messages for the app.
    fn settle(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase == Phase::Loading {
            return;
        }
        if let Some(batch) = self.inbox.batch(now) {
            self.store(Stored::Receive, batch, out);
        }
        self.send_receipts(now, out);
        self.letters_denied(now, out);
        self.show_messages(out);
        let time = self.roster.network_time(now);
        if let Some(at) = self.presence.needs_beacon(now.tick, time, &self.tuning) {
            out.push(Out::SignBeacon { at });
        }
        self.forget_before(now);
        if std::mem::take(&mut self.roster_changed) {
            out.push(Out::Tell(Event::RosterChanged));
        }
    }

    fn load(&mut self, now: Now, row: Loaded) {
        match row {
            Loaded::Record(record) => {
                self.roster.learn(&record, now);
            }
            Loaded::Route(route) => {
                self.roster.cached(&route.peer, route.last_seen);
                self.routes.entry(route.peer).or_default().load(&route);
            }
            Loaded::Outbox(row) => self.outbox.load(now, &row),
            Loaded::Inbox(row) => self.inbox.load(&row, now.tick),
            Loaded::Seen(row) => self.inbox.load_seen(&row),
            Loaded::Pin(pin) => self.roster.load_pin(&pin),
            Loaded::Blocked(user) => self.roster.block(user, true),
            Loaded::Meta { key, value } => self.outbox.load_lane(&key, &value),
        }
    }

    fn start(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase != Phase::Loading {
            return;
        }
        self.phase = Phase::Running;
        self.inbox.loaded();
        self.roster_changed = true;
        self.announce_soon(now);
        self.announce_due(now, out);
        self.browse_free_steps(out);
        self.browse.at = Some(now.tick.plus(self.tuning.browse_after));
        for user in self.outbox.waiting_users() {
            self.seek(now, &user, out);
        }
        self.dial_anchors(now, out);
    }

    fn suspend(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase == Phase::Running {
            self.end_lookups(now, out);
            self.close_all(now, byway_api::CloseCode::NORMAL, out);
            self.end_letters();
            self.phase = Phase::Suspended;
        }
    }

    fn resume(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase == Phase::Suspended {
            self.phase = Phase::Running;
            // those whom we left believe that we are gone
            self.presence.speak_up();
            self.network_changed(now, out);
        }
    }

    fn network_changed(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase != Phase::Running {
            return;
        }
        self.frozen = None;
        self.probe_all(now, out);
        for book in self.routes.values_mut() {
            book.forgive();
        }
        self.upgrades.evidence_of_all(now.tick);
        self.announce_soon(now);
        self.announce_due(now, out);
        if self.pool.is_empty() && self.browsing.is_empty() {
            self.browse.at = Some(now.tick.plus(self.tuning.browse_after));
        }
        for user in self.outbox.waiting_users() {
            self.seek(now, &user, out);
        }
        self.dial_anchors(now, out);
    }

    fn shutdown(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.end_lookups(now, out);
        self.close_all(now, byway_api::CloseCode::LEAVING, out);
        self.end_letters();
        self.phase = Phase::Stopping;
        let op = self.op();
        out.push(Out::Announce { op, leaving: true });
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn store(&mut self, what: Stored, batch: Vec<Write>, out: &mut Vec<Out>) {
        if batch.is_empty() {
            return;
        }
        if batch.iter().any(|w| w.durability() == byway_api::Durability::Durable) {
            self.metrics.durable_batches += 1;
        }
        let op = self.op();
        self.stores.insert(op, what);
        out.push(Out::Store { op, batch });
    }

    fn fetch(&mut self, what: Load, loading: Loading, out: &mut Vec<Out>) {
        let op = self.op();
        self.loads.insert(op, loading);
        out.push(Out::Load { op, what });
    }

    /// Writes a frame if the connection has room for it.
    fn write(&mut self, conn: ConnId, frame: Frame, out: &mut Vec<Out>) -> bool {
        let Some(c) = self.conns.get_mut(&conn) else { return false };
        match frame.lane() {
            Lane::Control => {
                if c.credit.control == 0 {
                    return false;
                }
                c.credit.control -= 1;
            }
            Lane::Data => {
                let bytes = frame.encoded_len();
                if c.credit.data == 0 || c.credit.bytes < bytes {
                    return false;
                }
                c.credit.data -= 1;
                c.credit.bytes -= bytes;
                c.data_given += 1;
            }
        }
        out.push(Out::Write { conn, frame });
        true
    }

    fn stored(
        &mut self,
        now: Now,
        op: OpId,
        result: Result<Vec<byway_api::Applied>, StoreErrorKind>,
        out: &mut Vec<Out>,
    ) {
        let Some(what) = self.stores.remove(&op) else { return };
        if let Err(kind) = result {
            out.push(Out::Tell(Event::StoreFailed(kind)));
        }
        match (what, result) {
            (Stored::Append(id), Ok(_)) => self.appended(now, &id, out),
            (Stored::Append(id), Err(kind)) => {
                if let Some(op) = self.outbox.not_stored(&id) {
                    out.push(Out::Answer { op, answer: Answer::Refused(Refusal::Store(kind)) });
                }
            }
            (Stored::Bind(id), Ok(_)) => {
                for peer in self.outbox.bound(&id) {
                    self.flush(now, peer, out);
                }
            }
            (Stored::Bind(id), Err(_)) => self.outbox.not_bound(&id),
            (Stored::Receive, Ok(applied)) => {
                let mut batch = Vec::new();
                let (new, old) = self.inbox.stored(now, &self.tuning, &applied, &mut batch);
                self.metrics.received += new;
                self.metrics.duplicates += old;
                self.store(Stored::Relaxed, batch, out);
            }
            (Stored::Receive, Err(_)) => self.inbox.not_stored(),
            (Stored::Command(op), _) => out.push(Out::Answer { op, answer: Answer::Done }),
            (Stored::Relaxed, _) => {}
        }
    }

    fn announce_soon(&mut self, now: Now) {
        if self.phase == Phase::Running {
            self.announce = Attempt { at: Some(now.tick), failures: 0 };
        }
    }

    fn announce_due(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.announcing.is_none() && self.announce.at.is_some_and(|t| t <= now.tick) {
            self.announce.at = None;
            let op = self.op();
            self.announcing = Some(op);
            out.push(Out::Announce { op, leaving: false });
        }
    }

    fn announced(&mut self, now: Now, op: OpId, ok: bool) {
        if self.announcing != Some(op) {
            return;
        }
        self.announcing = None;
        if ok {
            self.announce.failures = 0;
        } else if self.announce.at.is_none() {
            let wait = self.tuning.announce_retry * 2u32.saturating_pow(self.announce.failures.min(16));
            let wait = self.rng.jittered(wait.min(self.tuning.announce_retry_max), self.tuning.jitter);
            self.announce.failures += 1;
            self.announce.at = Some(now.tick.plus(wait));
        }
    }

    fn browse_free_steps(&mut self, out: &mut Vec<Out>) {
        for step in 0..self.steps.len() {
            if !self.steps[step].metered {
                let op = self.op();
                out.push(Out::Browse { op, step });
            }
        }
    }

    /// A server's list is read once, and only if no neighbour gave one.
    fn browse_due(&mut self, now: Now, out: &mut Vec<Out>) {
        if self.browse.at.is_none_or(|t| t > now.tick) {
            return;
        }
        self.browse.at = None;
        if self.presence.has_list() || !self.browsing.is_empty() {
            return;
        }
        for step in 0..self.steps.len() {
            if self.steps[step].metered {
                let op = self.op();
                self.browsing.insert(op);
                out.push(Out::Browse { op, step });
            }
        }
    }

    fn browse_ended(&mut self, now: Now, op: OpId, outcome: &StepOutcome) {
        if self.browsing.remove(&op) && matches!(outcome, StepOutcome::Failed(..)) && self.pool.is_empty() {
            let wait = self.tuning.announce_retry * 2u32.saturating_pow(self.browse.failures.min(16));
            let wait = self.rng.jittered(wait.min(self.tuning.announce_retry_max), self.tuning.jitter);
            self.browse.failures += 1;
            self.browse.at = Some(now.tick.plus(wait));
        }
    }
}

impl Machine for NodeCore {
    type In = In;
    type Out = Out;

    fn handle(&mut self, now: Now, input: In, out: &mut Vec<Out>) {
        Self::handle(self, now, input, out);
    }

    fn deadline(&self) -> Option<Tick> {
        Self::deadline(self)
    }
}

/// How many explanations are kept.
const EXPLANATIONS: usize = 256;
/// A device that is known by nothing but its words may be banned for this long.
const BAN: std::time::Duration = limits::BAN;

#[cfg(test)]
mod tests;
