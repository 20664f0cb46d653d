//! What neighbours are told about who is online.
//!
//! Everything when a link comes up; what turns, at once, but collected for a second; the rest, which is
//! that those who are there are still there, on one tick for all links. The tick's frame carries a digest
//! over all that was told on the link, which is also its sign of life. Nobody is told what it has said
//! itself. What it costs grows with what changes, and not with links times members.

mod side;
mod strangers;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use byway_api::{PeerId, WallTime};
use byway_wire::{Beacon, NetworkState, Presence as Entry, VerifiedRecord, limits, state_digest};

use self::side::{MAX_SIDES, Side, bit};
use self::strangers::Strangers;
use crate::limiter::TokenBucket;
use crate::machine::{Now, Tick};
use crate::roster::{Heard, Roster, Slot};
use crate::tuning::Tuning;

/// Words of our own that are out of turn are this far apart.
const SPEAK_UP: Duration = Duration::from_secs(10);
/// When our idea of the network's time moves by more, our word is renewed.
const DRIFT: Duration = Duration::from_secs(60);
/// What an entry takes in a frame at most.
const ENTRY_BYTES: usize = 140;
/// What a frame has room for, beside its head.
const ROOM: usize = limits::FRAME_MAX - 1024;

/// Which sides have been told what of a device.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    /// They know its newest word and record, or told us.
    knows: u64,
    /// They believe that we hold a link to it.
    link: u64,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    beacon: Beacon,
    signed: Tick,
    /// Sides that have it.
    knows: u64,
}

/// Presence towards all neighbours.
#[derive(Debug, Default)]
pub struct Presence {
    sides: Vec<Option<Side>>,
    numbers: BTreeMap<PeerId, usize>,
    marks: Vec<Marks>,
    strangers: Strangers,
    own: Option<Own>,
    signing: bool,
    renew: bool,
    /// Sides that something should be told to without waiting for the tick.
    urgent: u64,
    /// Sides that the tick's digest is due to.
    digest: u64,
    flush_at: Option<Tick>,
    flushed: Option<Tick>,
    tick_at: Option<Tick>,
    ticked: Tick,
}

/// What a state is, beside its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The neighbour begins anew: the links that it names are all that it holds.
    pub full: bool,
}

impl Presence {
    /// Our own newest beacon.
    pub fn own(&self) -> Option<&Beacon> {
        self.own.as_ref().map(|o| &o.beacon)
    }

    /// Our new beacon is signed.
    pub fn signed(&mut self, beacon: Beacon, now: Tick, tuning: &Tuning) {
        let in_turn = tuning.beacon_period / 2..tuning.beacon_period + tuning.idle_tick * 2;
        let in_turn = self.own.is_some_and(|o| in_turn.contains(&(now - o.signed)));
        self.own = Some(Own { beacon, signed: now, knows: 0 });
        self.signing = false;
        self.renew = false;
        if !in_turn {
            self.hurry(self.up_sides(), now, tuning);
        }
    }

    /// Somebody may believe that we are gone: we say that we are here.
    pub const fn speak_up(&mut self) {
        self.renew = true;
    }

    /// When to date the beacon that is needed now, if one is; says so once. `time` is the network's.
    pub fn needs_beacon(&mut self, now: Tick, time: WallTime, tuning: &Tuning) -> Option<WallTime> {
        let at = match &self.own {
            _ if self.signing => return None,
            None => time,
            Some(_) if self.numbers.is_empty() => return None,
            Some(own) => {
                let age = now - own.signed;
                let dated = own.beacon.at.plus(age);
                let moved = dated.since(time).max(time.since(dated));
                let needed = age >= tuning.beacon_period || moved > DRIFT || (self.renew && age >= SPEAK_UP);
                if !needed {
                    return None;
                }
                // the newer one has to win, unless the older one is of a clock that was wrong
                if moved > DRIFT { time } else { time.max(own.beacon.at.plus(Duration::from_millis(1))) }
            }
        };
        self.signing = true;
        Some(at)
    }

    fn up_sides(&self) -> u64 {
        self.numbers.values().fold(0, |all, n| all | bit(*n))
    }

    /// Something is to be told to some sides: at once, but not twice in [`Tuning::presence_delay`].
    fn hurry(&mut self, sides: u64, now: Tick, tuning: &Tuning) {
        if sides != 0 {
            self.urgent |= sides;
            let at = self.flushed.map_or(now, |t| t.plus(tuning.presence_delay).max(now));
            self.flush_by(at);
        }
    }

    fn flush_by(&mut self, at: Tick) {
        self.flush_at = Some(self.flush_at.map_or(at, |t| t.min(at)));
    }

    fn marks(&mut self, slot: Slot) -> &mut Marks {
        if self.marks.len() <= slot.index() {
            self.marks.resize(slot.index() + 1, Marks::default());
        }
        &mut self.marks[slot.index()]
    }

    /// Everything has to be told to a side again.
    fn forget_told(&mut self, number: usize) {
        let others = !bit(number);
        for marks in &mut self.marks {
            marks.knows &= others;
            marks.link &= others;
        }
        if let Some(own) = &mut self.own {
            own.knows &= others;
        }
    }

    /// A neighbour is connected, and stands at `slot`. The one with the smaller key tells everything
    /// first, so that the other need not repeat it.
    pub fn up(&mut self, me: &PeerId, peer: PeerId, slot: Option<Slot>, now: Tick, tuning: &Tuning) {
        let number = match self.numbers.get(&peer) {
            Some(number) => *number,
            None => match self.sides.iter().position(Option::is_none) {
                Some(number) => number,
                None if self.sides.len() < MAX_SIDES => {
                    self.sides.push(None);
                    self.sides.len() - 1
                }
                None => return,
            },
        };
        self.forget_told(number);
        let rest_at = if *me < peer { now } else { now.plus(tuning.presence_delay) };
        self.sides[number] = Some(Side::new(slot, rest_at));
        self.numbers.insert(peer, number);
        if let Some(slot) = slot {
            self.marks(slot);
        }
        self.tick_at.get_or_insert(now.plus(tuning.idle_tick));
        self.hurry(self.up_sides(), now, tuning);
    }

    /// A neighbour is not connected any more.
    pub fn down(&mut self, peer: &PeerId, now: Tick, tuning: &Tuning) {
        let Some(number) = self.numbers.remove(peer) else { return };
        let Some(side) = self.sides[number].take() else { return };
        self.urgent &= !bit(number);
        self.digest &= !bit(number);
        self.strangers.forget(peer);
        if let Some(slot) = side.slot {
            let told = self.marks(slot).link & self.up_sides();
            self.hurry(told, now, tuning);
        }
        if self.numbers.is_empty() {
            self.tick_at = None;
            self.flush_at = None;
        }
    }

    /// Our own record is new.
    pub fn changed(&mut self, now: Tick, tuning: &Tuning) {
        for side in self.sides.iter_mut().flatten() {
            side.has_ours = false;
        }
        if let Some(own) = &mut self.own {
            own.knows = 0;
        }
        self.hurry(self.up_sides(), now, tuning);
    }

    /// The record of a device is new to us: what was said of it when it was a stranger.
    pub fn met(&mut self, peer: &PeerId, slot: Slot, now: Tick, tuning: &Tuning) -> Vec<(PeerId, Entry)> {
        let told = std::mem::take(&mut self.marks(slot).knows);
        self.hurry(told & self.up_sides(), now, tuning);
        self.strangers.met(peer, now)
    }

    /// A device is forgotten, its slot will be another's.
    pub fn forget(&mut self, slot: Slot) {
        *self.marks(slot) = Marks::default();
    }

    /// Whether some neighbour has given its member list.
    pub fn has_list(&self) -> bool {
        self.sides.iter().flatten().any(|s| s.told_us)
    }

    /// Whether one more new member may be learnt from a neighbour.
    pub fn may_introduce(&mut self, from: &PeerId, now: Tick) -> bool {
        self.side(from).is_some_and(|s| s.newcomers.take(now))
    }

    fn side(&mut self, peer: &PeerId) -> Option<&mut Side> {
        let number = *self.numbers.get(peer)?;
        self.sides.get_mut(number)?.as_mut()
    }

    /// A state arrived. `None` if it is one too many: it is not to be believed, and the digest will
    /// show that something is missing.
    pub fn receive(&mut self, from: &PeerId, state: &NetworkState, now: Tick, tuning: &Tuning) -> Option<Received> {
        let number = *self.numbers.get(from)?;
        let side = self.sides.get_mut(number)?.as_mut()?;
        if !side.receives.take(now) {
            return None;
        }
        let mut hurry = false;
        let full = !state.delta;
        if full {
            side.heard = [0; 16];
            side.told_us = true;
        }
        side.heard = state_digest(side.heard, &state.presence);
        if state.digest.is_some_and(|theirs| theirs != side.heard) {
            side.ask_full = true;
            hurry = true;
        }
        for peer in &state.want_records {
            if side.wanted.len() < limits::STATE_PRESENCES {
                side.wanted.insert(*peer);
                hurry = true;
            }
        }
        if state.want_full {
            side.opening = true;
            hurry = true;
            self.forget_told(number);
        }
        if hurry {
            self.hurry(bit(number), now, tuning);
        }
        Some(Received { full })
    }

    /// What a neighbour said of a known device.
    pub fn heard(&mut self, from: &PeerId, slot: Slot, heard: Heard, newest: bool, now: Tick, tuning: &Tuning) {
        let from = self.numbers.get(from).map_or(0, |n| bit(*n));
        let others = self.up_sides() & !from;
        let marks = self.marks(slot);
        match heard.lease {
            Some(Ordering::Greater) => {
                marks.knows = if newest { from } else { 0 };
                if heard.turned || heard.early {
                    self.hurry(others, now, tuning);
                }
            }
            Some(Ordering::Equal) if newest => marks.knows |= from,
            _ => {}
        }
    }

    /// A neighbour speaks of a device whose record we lack, or has a newer one.
    pub fn stranger(&mut self, from: PeerId, entry: &Entry, now: Tick, tuning: &Tuning) {
        if self.strangers.heard(from, entry, now) {
            self.want(&from, entry.peer, now, tuning);
        }
    }

    fn want(&mut self, from: &PeerId, peer: PeerId, now: Tick, tuning: &Tuning) {
        let Some(number) = self.numbers.get(from).copied() else { return };
        let Some(side) = self.sides[number].as_mut() else { return };
        if side.wants.len() < limits::STATE_PRESENCES {
            side.wants.push(peer);
            self.hurry(bit(number), now, tuning);
        }
    }

    /// Whether the shared tick is due; it is over then, and the time of the one before is returned.
    pub fn tick(&mut self, now: Tick, tuning: &Tuning) -> Option<Tick> {
        self.tick_at.filter(|t| *t <= now)?;
        self.tick_at = Some(now.plus(tuning.idle_tick));
        for (from, peer) in self.strangers.overdue(now) {
            self.want(&from, peer, now, tuning);
        }
        self.digest = self.up_sides();
        self.urgent |= self.digest;
        self.flush_by(now);
        Some(std::mem::replace(&mut self.ticked, now))
    }

    /// Neighbours that something is due to now.
    pub fn due(&mut self, now: Tick) -> Vec<PeerId> {
        if self.flush_at.is_none_or(|t| t > now) {
            return Vec::new();
        }
        self.flush_at = None;
        self.flushed = Some(now);
        let urgent = std::mem::take(&mut self.urgent);
        let mut due = Vec::new();
        for (peer, number) in self.numbers.iter().filter(|(_, n)| urgent & bit(**n) != 0) {
            let pause = self.sides[*number].as_ref().map_or(now, |s| s.pause_until);
            if pause > now && self.digest & bit(*number) == 0 {
                self.urgent |= bit(*number);
                self.flush_at = Some(self.flush_at.map_or(pause, |t| t.min(pause)));
            } else {
                due.push(*peer);
            }
        }
        due
    }

    /// A neighbour's queue is full: it is told later.
    pub fn postpone(&mut self, peer: &PeerId, until: Tick) {
        if let Some(number) = self.numbers.get(peer) {
            self.urgent |= bit(*number);
            self.flush_by(until);
        }
    }

    /// The next frame for a neighbour, or `None` when it knows everything. Call it again until `None`,
    /// as long as there is room.
    pub fn next(
        &mut self,
        peer: &PeerId,
        roster: &Roster,
        ours: &VerifiedRecord,
        now: Now,
        tuning: &Tuning,
    ) -> Option<NetworkState> {
        let number = *self.numbers.get(peer)?;
        let side = self.sides.get_mut(number)?.as_mut()?;
        if side.sends.available(now.tick) == 0 {
            self.postpone(peer, now.tick.plus(limits::STATE_REFILL / 4));
            return None;
        }
        let me = bit(number);
        let mut state =
            NetworkState { timestamp: now.wall, delta: !side.opening, want_full: side.ask_full, ..Default::default() };
        state.want_records = std::mem::take(&mut side.wants);
        let mut room = ROOM - state.want_records.len() * 40;
        let opening = std::mem::take(&mut side.opening);
        side.ask_full = false;
        side.answer(&mut state, &mut room, roster, ours, now);
        for record in &state.records {
            if let Some(marks) = roster.slot(&record.peer()).and_then(|s| self.marks.get_mut(s.index())) {
                marks.knows &= !me;
            }
        }
        if let Some(own) = self.own.as_mut().filter(|o| o.knows & me == 0) {
            own.knows |= me;
            if !std::mem::replace(&mut side.has_ours, true) {
                room -= ours.bytes().len().min(room);
                state.records.push(ours.clone());
            }
            let age_s = seconds(now.tick - own.signed);
            let beacon = Some(own.beacon);
            let (peer, record_seq) = (ours.peer(), ours.seq());
            state.presence.push(Entry { peer, record_seq, seen_at: WallTime::default(), beacon, link: true, age_s });
        }
        let rest_at = side.rest_at;
        self.tell_links(number, &mut state, &mut room, roster, now, tuning);
        if rest_at <= now.tick {
            self.tell_rest(number, &mut state, &mut room, roster, now, tuning);
        } else {
            self.postpone(peer, rest_at);
        }
        let side = self.sides.get_mut(number)?.as_mut()?;
        if opening {
            side.told = [0; 16];
        }
        side.told = state_digest(side.told, &state.presence);
        let nothing = state.presence.is_empty()
            && state.records.is_empty()
            && state.want_records.is_empty()
            && !(opening || state.want_full);
        if self.digest & me != 0 {
            state.digest = Some(side.told);
            self.digest &= !me;
        } else if nothing {
            return None;
        }
        side.sends.take(now.tick);
        // where much is new, what is left of the burst has to last
        let left = side.sends.available(now.tick);
        let pauses = if left >= limits::STATE_BURST / 2 { 1 } else { limits::STATE_BURST / 2 - left };
        side.pause_until = now.tick.plus(tuning.presence_delay * pauses);
        Some(state)
    }

    /// Links of ours that are new to a side, or that we hold no more.
    fn tell_links(
        &mut self,
        number: usize,
        state: &mut NetworkState,
        room: &mut usize,
        roster: &Roster,
        now: Now,
        tuning: &Tuning,
    ) {
        let me = bit(number);
        let linked: BTreeSet<_> = self.sides.iter().flatten().filter_map(|s| s.slot).collect();
        let own_slot = self.sides[number].as_ref().and_then(|s| s.slot);
        let lost = self.marks.iter().enumerate().filter(|(_, m)| m.link & me != 0);
        let lost = lost.filter_map(|(i, _)| u32::try_from(i).ok().map(Slot)).filter(|s| !linked.contains(s));
        let lost: Vec<_> = lost.collect();
        let fresh = linked.iter().filter(|s| Some(**s) != own_slot && self.marks[s.index()].link & me == 0);
        let fresh: Vec<_> = fresh.copied().collect();
        for (slot, link) in lost.into_iter().map(|s| (s, false)).chain(fresh.into_iter().map(|s| (s, true))) {
            if *room < ENTRY_BYTES || state.presence.len() >= limits::STATE_PRESENCES {
                self.urgent |= me;
                self.flush_by(now.tick);
                return;
            }
            let marks = &mut self.marks[slot.index()];
            let Some(entry) = entry(roster, slot, link, marks.knows & me != 0, now, tuning) else { continue };
            if entry.beacon.is_some() {
                marks.knows |= me;
            }
            marks.link = if link { marks.link | me } else { marks.link & !me };
            *room -= ENTRY_BYTES;
            state.presence.push(entry);
        }
    }

    /// Words of devices that a side does not know.
    fn tell_rest(
        &mut self,
        number: usize,
        state: &mut NetworkState,
        room: &mut usize,
        roster: &Roster,
        now: Now,
        tuning: &Tuning,
    ) {
        let me = bit(number);
        let own_slot = self.sides[number].as_ref().and_then(|s| s.slot);
        for (index, marks) in self.marks.iter_mut().enumerate() {
            if marks.knows & me != 0 {
                continue;
            }
            let slot = Slot(u32::try_from(index).unwrap_or(u32::MAX));
            if Some(slot) == own_slot || roster.word_of(slot, now.tick).is_none() {
                continue;
            }
            if *room < ENTRY_BYTES || state.presence.len() >= limits::STATE_PRESENCES {
                // the caller asks again
                return;
            }
            let Some(entry) = entry(roster, slot, marks.link & me != 0, false, now, tuning) else { continue };
            marks.knows |= me;
            *room -= ENTRY_BYTES;
            state.presence.push(entry);
        }
    }

    /// When [`Self::tick`] and [`Self::due`] are worth asking.
    pub fn deadline(&self) -> Option<Tick> {
        let speak_up = self.own.filter(|_| self.renew && !self.signing && !self.numbers.is_empty());
        let speak_up = speak_up.map(|o| o.signed.plus(SPEAK_UP));
        [self.flush_at, self.tick_at, speak_up].into_iter().flatten().min()
    }
}

fn seconds(age: Duration) -> u32 {
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

/// What is told of the device at `slot`: with its beacon unless that is known.
fn entry(roster: &Roster, slot: Slot, link: bool, known: bool, now: Now, tuning: &Tuning) -> Option<Entry> {
    let peer = roster.peer_at(slot)?;
    let word = roster.word_of(slot, now.tick);
    let record_seq = roster.device_at(slot)?.record().map_or(0, VerifiedRecord::seq);
    if link && roster.user(&peer).is_some_and(|u| roster.is_blocked(u)) {
        return None;
    }
    let lease = word.map(|(_, lease)| lease).filter(|_| !known);
    let age_s = lease.map_or(0, |l| seconds(tuning.beacon_life.saturating_sub(Tick::from(l.until) - now.tick)));
    let beacon = lease.map(|l| l.beacon(peer));
    // how long ago is said by `age_s`, whatever clocks on walls show
    Some(Entry { peer, record_seq, seen_at: WallTime::default(), beacon, link, age_s })
}

/// A full bucket of what a side may send.
const fn states(burst: u32) -> TokenBucket {
    TokenBucket::new(burst, limits::STATE_REFILL)
}
