//! One device: its key and store, which outlive a process, and the process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use byway_api::{CloseCode, Instance, Load, PeerId, Row, Secret, SignalAddress, UserId, WallTime, Write};
use byway_core::io::{In, InboxItem, Loaded};
use byway_core::ladder::STORE_AND_FORWARD;
use byway_core::limiter::TokenBucket;
use byway_core::{ConnId, META_PREFIX, Myself, NodeCore, Now, OpId, StepSpec, Tick};
use byway_wire::{DeviceKey, OpenMembership, RecordDraft, issue_self_token};

use super::steps::Run;
use super::store::Store;
use super::world::{Do, World};

/// Where the clocks on the wall begin.
const EPOCH: i64 = 1_800_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A command or request that the core has to answer once.
#[derive(Debug)]
pub(super) enum Asked {
    Send(byway_api::MessageId),
    Done,
    Routes {
        run: OpId,
        neighbour: PeerId,
    },
    Forwarded,
    /// For the relay request of the core with this id.
    Handed(OpId),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: usize,
    pub(super) user: UserId,
    pub(super) key: DeviceKey,
    pub(super) peer: PeerId,
    credential: String,
    record_seq: u64,
    /// Serves a signalling socket of its own.
    pub(super) listener: bool,
    pub(super) store: Store,
    pub(super) wall_offset: i64,
    /// How far the clock on the wall is off all the time.
    pub(super) skew: i64,

    // the process
    pub(super) core: Option<NodeCore>,
    pub(super) life: u32,
    pub(super) instance: Instance,
    born: u64,
    pub(super) asleep_until: u64,
    pub(super) suspended: bool,
    pub(super) quitting: bool,
    pub(super) wake_at: Option<u64>,
    pub(super) last_wake: u64,
    pub(super) wakes: u32,
    /// Since when nothing unusual has happened to it.
    pub(super) calm_since: u64,
    pub(super) ends: BTreeMap<ConnId, (u64, usize)>,
    pub(super) next_conn: u64,
    next_op: u64,
    pub(super) asked: BTreeMap<OpId, (Asked, u64)>,
    pub(super) running: BTreeMap<OpId, Run>,
    /// Which dial answers which request, and since when.
    pub(super) dialing: BTreeMap<OpId, (u64, u64)>,
    /// When which device was dialled in the last minute.
    pub(super) dialled: VecDeque<(u64, PeerId)>,
    pub(super) approached: BTreeMap<PeerId, u64>,
    /// Bytes that it has passed on in the last second: when, whose, how many.
    pub(super) passed_on: VecDeque<(u64, usize, usize)>,
    /// Batches on their way to the store, and how many of them are being committed.
    pub(super) batches: VecDeque<(OpId, Vec<Write>)>,
    pub(super) committing: usize,
    /// When a write last failed.
    pub(super) unwritten_at: Option<u64>,
    pub(super) disk_full: u32,
    pub(super) slow_store: u64,
    pub(super) inbox: VecDeque<InboxItem>,
    pub(super) taking: bool,

    // its client of the registry
    pub(super) tokens: TokenBucket,
    pub(super) calls: Vec<u64>,
    pub(super) known_down_until: u64,
    pub(super) attached: bool,
    pub(super) attach_failures: u32,
}

impl Node {
    /// A device that has never run.
    pub(super) fn make(place: usize, world: &mut World) -> Self {
        let secret: [u8; 32] = world.random.bytes();
        let key = DeviceKey::from_seed(&Secret::new(secret));
        let peer = key.peer();
        // every seventh device is the second one of the user before it
        let second = place % 7 == 6;
        let name = format!("user{}", if second { place - 1 } else { place });
        let user = UserId::new(&name).unwrap_or_else(|e| unreachable!("{e}"));
        let signer = if second { &world.nodes[place - 1].key } else { &key };
        let jti = world.random.bytes();
        let issued = WallTime::from_millis(EPOCH).minus(DAY);
        let credential = issue_self_token(signer, &world.network, &user, &peer, issued, DAY * 20, jti);
        let listener = place.is_multiple_of(2);
        let skew = i64::from(world.config.skew_s) * 1_000;
        let range = usize::try_from(2 * skew + 1).unwrap_or(1);
        let skew = if skew == 0 { 0 } else { i64::try_from(world.random.index(range)).unwrap_or(0) - skew };
        Self {
            place,
            user,
            key,
            peer,
            credential,
            record_seq: 0,
            listener,
            store: Store::default(),
            wall_offset: 0,
            skew,
            core: None,
            life: 0,
            instance: Instance::from_bytes([0; 16]),
            born: 0,
            asleep_until: 0,
            suspended: false,
            quitting: false,
            wake_at: None,
            last_wake: u64::MAX,
            wakes: 0,
            calm_since: 0,
            ends: BTreeMap::new(),
            next_conn: 0,
            next_op: 0,
            asked: BTreeMap::new(),
            running: BTreeMap::new(),
            dialing: BTreeMap::new(),
            dialled: VecDeque::new(),
            approached: BTreeMap::new(),
            passed_on: VecDeque::new(),
            batches: VecDeque::new(),
            committing: 0,
            unwritten_at: None,
            disk_full: 0,
            slow_store: 0,
            inbox: VecDeque::new(),
            taking: false,
            tokens: TokenBucket::new(5, Duration::from_secs(75)),
            calls: Vec::new(),
            known_down_until: 0,
            attached: false,
            attach_failures: 0,
        }
    }

    /// When the node's clock shows `tick`.
    pub(super) fn sim_time(&self, tick: Tick) -> u64 {
        tick.0.saturating_add(self.born).saturating_sub(BORN_AT)
    }

    /// The address of its listener.
    pub(super) fn listener_address(&self) -> Option<SignalAddress> {
        self.listener.then(|| socket(&format!("ws://node-{}:1", self.place), self.peer))
    }

    /// The number of its newest record.
    pub(super) const fn record_seq(&self) -> u64 {
        self.record_seq
    }

    /// Takes messages at once: it is awake, and has been well for `ms`.
    pub(super) const fn well(&self, now: u64, ms: u64) -> bool {
        let stored = self.slow_store == 0 && (self.unwritten_at.is_none() || self.resent(now));
        self.awake(now) && self.calm_since + ms < now && self.wall_offset == 0 && stored
    }

    /// What could not be written has been sent again by now.
    const fn resent(&self, now: u64) -> bool {
        matches!(self.unwritten_at, Some(at) if at + RESEND_MS < now)
    }

    /// Runs, and neither sleeps nor is suspended.
    pub(super) const fn awake(&self, now: u64) -> bool {
        self.core.is_some() && self.asleep_until <= now && !self.suspended && !self.quitting
    }
}

/// A sender tries again after 30 s what a recipient could not store, and that may take a while.
const RESEND_MS: u64 = 45_000;
/// Ticks at which a process begins: not 0, which hides mistakes.
const BORN_AT: u64 = 1_000;

pub(super) fn socket(base: &str, peer: PeerId) -> SignalAddress {
    SignalAddress::socket(base, peer).unwrap_or_else(|e| unreachable!("{e}"))
}

/// The ladder of every node.
pub(super) const STEPS: [StepSpec; 6] = [
    StepSpec { name: "existing", metered: false },
    StepSpec { name: "neighbours", metered: false },
    StepSpec { name: "cache", metered: false },
    StepSpec { name: "coordinators", metered: false },
    StepSpec { name: "registry", metered: true },
    StepSpec { name: STORE_AND_FORWARD, metered: false },
];

/// The app's inbox queue.
const INBOX_ROOM: u32 = 16;

impl World {
    pub(super) fn clock(&self, place: usize) -> Now {
        let n = &self.nodes[place];
        let wall = EPOCH + i64::try_from(self.now).unwrap_or(0) + n.wall_offset + n.skew;
        Now { tick: Tick(self.now - n.born + BORN_AT), wall: WallTime::from_millis(wall) }
    }

    /// Signs the next record of a device.
    pub(super) fn sign_record(&mut self, place: usize) -> byway_wire::VerifiedRecord {
        let n = &mut self.nodes[place];
        n.record_seq += 1;
        let mut addresses: Vec<_> = n.listener_address().into_iter().collect();
        addresses.push(socket("ws://registry:1", n.peer));
        let issued_at = WallTime::from_millis(EPOCH).minus(DAY);
        let draft = RecordDraft {
            network: self.network.clone(),
            user: n.user.clone(),
            seq: n.record_seq,
            issued_at,
            expires_at: issued_at.plus(DAY * 14),
            addresses,
            capabilities: vec!["relay".into()],
            credential: n.credential.clone(),
            seal_keys: Vec::new(),
            coordinators: Vec::new(),
        };
        let membership = OpenMembership::new(self.network.clone());
        let record = draft.sign(&n.key, &membership, WallTime::from_millis(EPOCH));
        let record = record.unwrap_or_else(|e| unreachable!("our own record: {e}"));
        self.records.insert((n.peer, n.record_seq), record.clone());
        record
    }

    /// Starts a process: loads what the store has kept, in the contract's order, and begins.
    pub(super) fn boot(&mut self, place: usize) {
        if self.nodes[place].core.is_some() {
            return;
        }
        let seq = self.nodes[place].record_seq;
        let known = self.records.get(&(self.nodes[place].peer, seq)).cloned();
        let record = known.unwrap_or_else(|| self.sign_record(place));
        let (instance, seed) = (Instance::from_bytes(self.random.bytes()), self.random.next());
        let (network, tuning, now) = (self.network.clone(), self.tuning.clone(), self.now);
        let n = &mut self.nodes[place];
        n.life += 1;
        n.born = now;
        n.instance = instance;
        n.calm_since = now;
        n.tokens = TokenBucket::new(5, Duration::from_secs(75));
        n.calls.clear();
        let me = Myself { network, user: n.user.clone(), peer: n.peer, instance, record };
        n.core = Some(NodeCore::new(me, tuning, STEPS.to_vec(), seed));
        self.trace.note(now, place, "boot", [u64::from(self.nodes[place].life), seed]);
        let all = [
            Load::Seen,
            Load::Outbox,
            Load::Inbox,
            Load::Meta { prefix: META_PREFIX.into() },
            Load::Pins,
            Load::Blocked,
            Load::Records { user: None },
            Load::Routes { user: None },
        ];
        for what in all {
            if matches!(what, Load::Records { .. }) {
                self.load_records(place);
            }
            for row in self.nodes[place].store.load(&what) {
                if let Some(row) = self.loaded(row) {
                    self.feed(place, In::Loaded(row));
                }
            }
        }
        self.feed(place, In::InboxRoom(INBOX_ROOM));
        self.feed(place, In::Start);
        self.at_node(place, 1, Do::Attach);
        let first = self.random.between(1_000, 8_000);
        if !self.config.idle {
            self.at_node(place, first, Do::AppSend);
        }
    }

    fn load_records(&mut self, place: usize) {
        for other in 0..self.nodes.len() {
            let peer = self.nodes[other].peer;
            let seq = self.nodes[place].store.record(&peer);
            if let Some(record) = seq.and_then(|seq| self.records.get(&(peer, seq))).cloned() {
                self.feed(place, In::Loaded(Loaded::Record(record)));
            }
        }
    }

    fn loaded(&self, row: Row) -> Option<Loaded> {
        Some(match row {
            Row::Route(row) => Loaded::Route(row),
            Row::Outbox(row) => Loaded::Outbox(row),
            Row::Inbox(row) => Loaded::Inbox(row),
            Row::Seen(row) => Loaded::Seen(row),
            Row::Meta { key, value } => Loaded::Meta { key, value },
            Row::Pin(row) => Loaded::Pin(row),
            Row::Blocked(user) => Loaded::Blocked(user),
            _ => return None,
        })
    }

    /// The process ends, with or without a word.
    pub(super) fn kill(&mut self, place: usize) {
        if self.nodes[place].core.is_none() {
            return;
        }
        self.trace.note(self.now, place, "kill", [0, 0]);
        self.trace.say(self.now, place, || "killed".into());
        self.count_core(place);
        // what is on its way to the store may or may not get there, in order
        let reach = self.random.index(self.nodes[place].batches.len() + 1);
        for _ in 0..reach {
            if let Some((_, batch)) = self.nodes[place].batches.pop_front() {
                self.apply(place, batch);
            }
        }
        let now = self.now;
        let n = &mut self.nodes[place];
        n.core = None;
        n.store.crash(now);
        n.asleep_until = 0;
        n.suspended = false;
        n.quitting = false;
        n.wake_at = None;
        n.asked.clear();
        n.running.clear();
        n.approached.clear();
        n.dialled.clear();
        n.passed_on.clear();
        n.batches.clear();
        n.committing = 0;
        n.inbox.clear();
        n.taking = false;
        n.known_down_until = 0;
        n.attached = false;
        n.attach_failures = 0;
        let ends = std::mem::take(&mut n.ends);
        let dials: BTreeSet<_> = std::mem::take(&mut n.dialing).into_values().map(|(id, _)| id).collect();
        for dial in dials {
            self.dials.remove(&dial);
        }
        self.ledger.forget_order(place);
        self.registry.detach(place);
        for (pipe, side) in ends.into_values() {
            self.vanish(pipe, side, CloseCode::LOST);
        }
        self.vanish_unborn(place);
    }

    /// What the core of a process that ends has counted.
    pub(super) fn count_core(&mut self, place: usize) {
        if let Some(core) = &self.nodes[place].core {
            let metrics = core.metrics();
            self.stats.add_core(&metrics);
        }
    }

    /// A new request to the core of a node.
    pub(super) fn ask_core(&mut self, place: usize, asked: Asked) -> OpId {
        let now = self.now;
        let n = &mut self.nodes[place];
        n.next_op += 1;
        let op = OpId(n.next_op);
        n.asked.insert(op, (asked, now));
        self.stats.most_open_requests = self.stats.most_open_requests.max(n.asked.len() as u64);
        op
    }

    /// Something unusual happens to a node: for a while nothing may be expected to be quick.
    pub(super) fn disturb(&mut self, place: usize) {
        self.nodes[place].calm_since = self.now;
    }
}
