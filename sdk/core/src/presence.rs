//! What neighbours are told about who is online.
//!
//! The full state when a link comes up, changes collected for a second after that, and a digest
//! every 30 s that asks for the full state only if the two sides disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use byway_api::{PeerId, WallTime};
use byway_wire::Beacon;
use byway_wire::VerifiedRecord;
use byway_wire::limits;
use byway_wire::{NetworkState, Presence as Entry, StateEntry, state_digest};

use crate::limiter::TokenBucket;
use crate::machine::{Now, Tick};
use crate::tuning::Tuning;

/// What we know of one device and may tell.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its record, which also says whose device it is.
    pub record: VerifiedRecord,
    /// Its newest beacon.
    pub beacon: Option<Beacon>,
    /// We hold a live link to it (or it is ourselves).
    pub link: bool,
}

impl Known {
    fn entry(&self) -> StateEntry {
        StateEntry {
            record_seq: self.record.seq(),
            beacon_at: self.beacon.map_or(WallTime::default(), |b| b.at),
            link: self.link,
        }
    }
}

#[derive(Debug)]
struct Side {
    told: BTreeMap<PeerId, StateEntry>,
    heard: BTreeMap<PeerId, StateEntry>,
    /// Records the neighbour has shown or was sent: device and seq.
    records: BTreeMap<PeerId, u64>,
    sends: TokenBucket,
    receives: TokenBucket,
    full: bool,
    ask_full: bool,
    dirty: Option<Tick>,
    digest_at: Tick,
    got_full: bool,
}

/// Presence towards all neighbours.
#[derive(Debug, Default)]
pub struct Presence {
    sides: BTreeMap<PeerId, Side>,
    own: Option<Beacon>,
    signing: bool,
    renew: bool,
}

/// What a state of a neighbour leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Entries to believe.
    pub claims: Vec<Entry>,
    /// Devices that the neighbour does not list any more.
    pub withdrawn: Vec<PeerId>,
    /// It was a full state: the neighbour gave us its member list.
    pub full: bool,
}

impl Presence {
    /// Our own newest beacon.
    pub const fn own(&self) -> Option<&Beacon> {
        self.own.as_ref()
    }

    /// Our new beacon is signed.
    pub fn signed(&mut self, beacon: Beacon, now: Tick) {
        self.own = Some(beacon);
        self.signing = false;
        self.renew = false;
        self.changed(now);
    }

    /// The period of our beacon is over, whatever the clock on the wall says.
    pub const fn renew_beacon(&mut self) {
        self.renew = true;
    }

    /// Whether a new beacon is needed now; says so once.
    pub fn needs_beacon(&mut self, now: Now, tuning: &Tuning) -> bool {
        let aged = |b: Beacon| now.wall.since(b.at) >= tuning.beacon_period || b.at > now.wall;
        let old = self.renew || self.own.is_none_or(aged);
        let ask = old && !self.signing && !self.sides.is_empty();
        self.signing |= ask;
        ask
    }

    /// A neighbour is connected.
    pub fn up(&mut self, peer: PeerId, now: Tick, tuning: &Tuning) {
        let side = Side {
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
            records: BTreeMap::new(),
            // fewer than the far side admits, so that what we send is never dropped
            sends: TokenBucket::new(limits::STATE_BURST - 2, limits::STATE_REFILL),
            receives: TokenBucket::new(limits::STATE_BURST, limits::STATE_REFILL),
            full: true,
            ask_full: false,
            dirty: Some(now),
            digest_at: now.plus(tuning.state_period),
            got_full: false,
        };
        self.sides.insert(peer, side);
        self.changed(now);
    }

    /// A neighbour is not connected any more.
    pub fn down(&mut self, peer: &PeerId, now: Tick) {
        self.sides.remove(peer);
        self.changed(now);
    }

    /// Something that neighbours should know has changed.
    pub fn changed(&mut self, now: Tick) {
        for side in self.sides.values_mut() {
            side.dirty.get_or_insert(now);
        }
    }

    /// A neighbour's queue is full: it is told later.
    pub fn postpone(&mut self, peer: &PeerId, until: Tick) {
        if let Some(side) = self.sides.get_mut(peer) {
            side.dirty = side.dirty.map(|t| t.max(until));
            side.digest_at = side.digest_at.max(until);
        }
    }

    /// Whether some neighbour has given its full member list.
    pub fn has_list(&self) -> bool {
        self.sides.values().any(|s| s.got_full)
    }

    /// A state arrived.
    pub fn heard(&mut self, from: &PeerId, state: &NetworkState, now: Now) -> Heard {
        let mut heard = Heard::default();
        let Some(side) = self.sides.get_mut(from) else { return heard };
        if !side.receives.take(now.tick) {
            return heard;
        }
        if state.want_full {
            side.full = true;
            side.dirty.get_or_insert(now.tick);
        }
        for record in &state.records {
            side.records.insert(record.peer(), record.seq());
        }
        if !state.delta && state.digest.is_none() {
            let listed: BTreeSet<_> = state.presence.iter().map(|p| p.peer).collect();
            heard.withdrawn = side.heard.keys().filter(|p| !listed.contains(p)).copied().collect();
            side.heard.clear();
            side.got_full = true;
            heard.full = true;
        }
        for entry in &state.presence {
            if entry.beacon.is_none() && !entry.link {
                side.heard.remove(&entry.peer);
                heard.withdrawn.push(entry.peer);
                continue;
            }
            if side.heard.len() >= limits::ROSTER_MEMBERS && !side.heard.contains_key(&entry.peer) {
                continue;
            }
            side.heard.insert(
                entry.peer,
                StateEntry {
                    record_seq: entry.record_seq,
                    beacon_at: entry.beacon.map_or(WallTime::default(), |b| b.at),
                    link: entry.link,
                },
            );
            heard.claims.push(*entry);
        }
        if state.digest.is_some_and(|theirs| theirs != state_digest(&side.heard)) {
            side.ask_full = true;
            side.dirty.get_or_insert(now.tick);
        }
        heard
    }

    /// Neighbours that something is due to now.
    pub fn due(&self, now: Tick, tuning: &Tuning) -> Vec<PeerId> {
        self.sides.iter().filter(|(_, s)| s.due_at(tuning) <= now).map(|(p, _)| *p).collect()
    }

    /// The next frame for a neighbour, or `None` when it knows everything. `view` is all that may be
    /// told. Call it again until `None`, as long as there is room.
    pub fn next(
        &mut self,
        peer: &PeerId,
        view: &BTreeMap<PeerId, Known>,
        now: Now,
        tuning: &Tuning,
    ) -> Option<NetworkState> {
        let side = self.sides.get_mut(peer)?;
        let mut state = NetworkState {
            online_members: Vec::new(),
            coordinators: Vec::new(),
            timestamp: now.wall,
            presence: Vec::new(),
            records: Vec::new(),
            revocation_seq: 0,
            delta: true,
            digest: None,
            want_full: false,
        };
        if side.full {
            side.told.clear();
            state.delta = false;
        }
        let current = |p: &PeerId, k: &Known, s: &Side| p != peer && s.told.get(p) != Some(&k.entry());
        let mut more = false;
        let news: Vec<_> = view.iter().filter(|(p, k)| current(p, k, side)).collect();
        let gone: Vec<_> = side.told.keys().filter(|p| !view.contains_key(p)).copied().collect();
        let nothing = news.is_empty() && gone.is_empty() && !side.full && !side.ask_full;
        if nothing && side.digest_at > now.tick {
            side.dirty = None;
            return None;
        }
        if !side.sends.take(now.tick) {
            // told later; the digest finds what is missing
            let later = now.tick.plus(limits::STATE_REFILL / 4);
            side.dirty = Some(later);
            side.digest_at = side.digest_at.max(later);
            return None;
        }
        if nothing {
            state.digest = Some(state_digest(&side.told));
            side.digest_at = now.tick.plus(tuning.state_period);
            side.dirty = None;
            return Some(state);
        }
        state.want_full = std::mem::take(&mut side.ask_full);
        side.full = false;
        for (p, known) in news {
            let needs_record = side.records.get(p).is_none_or(|seq| *seq < known.record.seq());
            if state.presence.len() >= limits::STATE_PRESENCES
                || (needs_record && state.records.len() >= limits::STATE_RECORDS.min(MAX_RECORDS))
            {
                more = true;
                continue;
            }
            if needs_record {
                state.records.push(known.record.clone());
                side.records.insert(*p, known.record.seq());
            }
            side.told.insert(*p, known.entry());
            state.presence.push(Entry {
                peer: *p,
                record_seq: known.record.seq(),
                seen_at: now.wall,
                beacon: known.beacon,
                link: known.link,
                age_s: 0,
            });
        }
        for p in gone.into_iter().take(limits::STATE_PRESENCES - state.presence.len()) {
            side.told.remove(&p);
            let seen_at = WallTime::default();
            state.presence.push(Entry { peer: p, record_seq: 0, seen_at, beacon: None, link: false, age_s: 0 });
        }
        side.digest_at = now.tick.plus(tuning.state_period);
        side.dirty = more.then_some(now.tick);
        Some(state)
    }

    /// When [`Self::due`] is worth asking.
    pub fn deadline(&self, tuning: &Tuning) -> Option<Tick> {
        self.sides.values().map(|s| s.due_at(tuning)).min()
    }
}

impl Side {
    fn due_at(&self, tuning: &Tuning) -> Tick {
        let wait = if self.full || self.ask_full { Duration::ZERO } else { tuning.presence_delay };
        self.dirty.map_or(self.digest_at, |t| t.plus(wait).min(self.digest_at))
    }
}

/// Records in one frame: twelve of the largest leave room for the presences.
const MAX_RECORDS: usize = 12;
