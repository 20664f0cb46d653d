//! Who is in the network, with which devices, and who is online on whose word.

mod evidence;
mod index;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use byway_api::{PeerId, PinRow, Trust, UserId, WallTime};
use byway_wire::{Presence as Entry, VerifiedRecord, limits};

pub use self::evidence::{Evidence, Lease, Moment, Near, Says, Word};
use self::index::Index;
pub use self::index::Slot;
use crate::machine::{Now, Tick};
use crate::tuning::Tuning;
use crate::view::{Evidence as Class, Reach};

/// How long a relay's acknowledgement counts as evidence.
const RELAY_EVIDENCE: Duration = Duration::from_secs(30);

/// Two honest clocks differ by this much at most: each is off by up to [`limits::CREDENTIAL_SKEW`].
const SKEW: Duration = limits::CREDENTIAL_SKEW.saturating_mul(2);

/// Whose device it is, and on whose word.
#[derive(Clone, Debug)]
enum Who {
    /// Nobody's any more: the slot is free.
    Vacant,
    /// Hello's, and no record is known.
    Hello(Box<(PeerId, UserId, Trust)>),
    /// Its record's.
    Record(VerifiedRecord),
}

impl Who {
    fn name(&self) -> Option<(&UserId, PeerId)> {
        match self {
            Self::Vacant => None,
            Self::Hello(hello) => Some((&hello.1, hello.0)),
            Self::Record(record) => Some((record.user(), record.peer())),
        }
    }
}

/// One device of the network.
#[derive(Clone, Debug)]
pub struct Device {
    who: Who,
    evidence: Evidence,
}

impl Device {
    /// Its newest record.
    pub const fn record(&self) -> Option<&VerifiedRecord> {
        match &self.who {
            Who::Record(record) => Some(record),
            _ => None,
        }
    }

    /// Its newest word.
    pub const fn lease(&self) -> Option<&Lease> {
        self.evidence.lease.as_ref()
    }

    /// When it was last known to be there.
    pub fn last_seen(&self) -> Option<WallTime> {
        Some(self.evidence.seen).filter(|t| *t > WallTime::default())
    }
}

/// What learning a record led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// The device was not known.
    NewDevice,
    /// A newer record of a known device.
    Newer,
    /// Nothing new.
    Known,
    /// The user is pinned to another device that did not authorise this one.
    Conflict,
    /// No room, or a record of ourselves.
    Ignored,
}

/// What an entry of a neighbour's state led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its beacon compared with ours before; `None` if it had none that counts.
    pub lease: Option<Ordering>,
    /// The device seemed offline before and does not now, or the other way round.
    pub turned: bool,
    /// The beacon came before the old one was half over: the device has something to say by it.
    pub early: bool,
    /// The neighbour's link to the device is new, or no more.
    pub link: bool,
}

/// When a device was lost, and which of its words is the last that does not count.
#[derive(Clone, Copy, Debug)]
struct Parted {
    tick: Tick,
    at: WallTime,
}

/// All members.
#[derive(Debug)]
pub struct Roster {
    me: PeerId,
    devices: Vec<Device>,
    free: Vec<Slot>,
    index: Index,
    /// Slots by user and key.
    by_user: Vec<Slot>,
    members: usize,
    pins: BTreeSet<(UserId, PeerId)>,
    blocked: BTreeSet<UserId>,
    /// Devices that were lost to us, or said goodbye.
    parted: BTreeMap<Slot, Parted>,
    /// The network's time when our tick was zero, by our neighbours' clocks.
    epoch: Option<i64>,
    words: u64,
}

impl Roster {
    /// An empty roster of the device `me`.
    pub const fn new(me: PeerId) -> Self {
        Self {
            me,
            devices: Vec::new(),
            free: Vec::new(),
            index: Index::new(),
            by_user: Vec::new(),
            members: 0,
            pins: BTreeSet::new(),
            blocked: BTreeSet::new(),
            parted: BTreeMap::new(),
            epoch: None,
            words: 0,
        }
    }

    /// A stored pin.
    pub fn load_pin(&mut self, pin: &PinRow) {
        self.pins.insert((pin.user.clone(), pin.peer));
    }

    /// Blocks or unblocks a user.
    pub fn block(&mut self, user: UserId, blocked: bool) {
        if blocked {
            self.blocked.insert(user);
        } else {
            self.blocked.remove(&user);
        }
    }

    /// Whether a user is blocked.
    pub fn is_blocked(&self, user: &UserId) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(user)
    }

    fn pins_of<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a PeerId> {
        let first = (user.clone(), PeerId::from_bytes([0; 32]));
        self.pins.range(first..).take_while(move |(u, _)| u == user).map(|(_, p)| p)
    }

    /// Whether a device may be the user's: it is pinned to it, was authorised by a pinned one, or
    /// nobody is pinned yet. Issued credentials need no pins.
    pub fn fits(&self, user: &UserId, peer: &PeerId, trust: Trust, authorized_by: Option<&PeerId>) -> bool {
        if trust == Trust::Issued {
            return true;
        }
        let mut pins = self.pins_of(user).peekable();
        pins.peek().is_none() || pins.any(|p| p == peer || Some(p) == authorized_by)
    }

    /// Pins a device to its user. Returns whether that is new.
    pub fn pin(&mut self, user: &UserId, peer: PeerId) -> bool {
        self.pins.insert((user.clone(), peer))
    }

    /// Forgets all pins of a user, and its devices other than `keep`.
    pub fn repin(&mut self, user: &UserId, keep: PeerId) {
        self.pins.retain(|(u, _)| u != user);
        self.pins.insert((user.clone(), keep));
        for peer in self.devices_of(user).into_iter().filter(|p| *p != keep) {
            self.forget(&peer);
        }
    }

    /// Forgets a device.
    pub fn forget(&mut self, peer: &PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        let user = self.user_at(slot).cloned();
        if let Some(user) = user {
            if let Ok(at) = self.by_user.binary_search_by(|s| self.order(*s, &user, peer)) {
                self.by_user.remove(at);
            }
            self.members -= usize::from(self.slots_of(&user).is_empty());
        }
        self.index.remove(peer, slot);
        self.devices[slot.index()] = Device { who: Who::Vacant, evidence: Evidence::default() };
        self.parted.remove(&slot);
        self.free.push(slot);
    }

    fn order(&self, slot: Slot, user: &UserId, peer: &PeerId) -> Ordering {
        self.devices[slot.index()].who.name().map_or(Ordering::Less, |(u, p)| u.cmp(user).then(p.cmp(peer)))
    }

    fn slots_of(&self, user: &UserId) -> &[Slot] {
        let by = |s: &Slot| self.user_at(*s).map_or(Ordering::Less, |u| u.cmp(user));
        let from = self.by_user.partition_point(|s| by(s) == Ordering::Less);
        let len = self.by_user[from..].iter().take_while(|s| by(s) == Ordering::Equal).count();
        &self.by_user[from..from + len]
    }

    /// Where a device stands.
    pub fn slot(&self, peer: &PeerId) -> Option<Slot> {
        self.index.candidates(peer).find(|s| self.peer_at(*s) == Some(*peer))
    }

    /// The device that stands there.
    pub fn peer_at(&self, slot: Slot) -> Option<PeerId> {
        self.devices.get(slot.index())?.who.name().map(|(_, p)| p)
    }

    fn user_at(&self, slot: Slot) -> Option<&UserId> {
        self.devices.get(slot.index())?.who.name().map(|(u, _)| u)
    }

    fn device_mut(&mut self, peer: &PeerId) -> Option<&mut Device> {
        let slot = self.slot(peer)?;
        self.devices.get_mut(slot.index())
    }

    /// A device whose user Hello or a record proved.
    fn enter(&mut self, who: Who) -> Option<Slot> {
        let (user, peer) = who.name().map(|(u, p)| (u.clone(), p))?;
        if let Some(slot) = self.slot(&peer) {
            return Some(slot);
        }
        let siblings = self.slots_of(&user).len();
        if siblings >= limits::MEMBER_DEVICES || (siblings == 0 && self.members >= limits::ROSTER_MEMBERS) {
            return None;
        }
        self.members += usize::from(siblings == 0);
        let device = Device { who, evidence: Evidence::default() };
        let slot = if let Some(slot) = self.free.pop() {
            self.devices[slot.index()] = device;
            slot
        } else {
            self.devices.push(device);
            Slot(u32::try_from(self.devices.len() - 1).unwrap_or(u32::MAX))
        };
        self.index.insert(&peer, slot);
        let at = self.by_user.partition_point(|s| self.order(*s, &user, &peer) == Ordering::Less);
        self.by_user.insert(at, slot);
        Some(slot)
    }

    /// A verified record.
    pub fn learn(&mut self, record: &VerifiedRecord, now: Now) -> Learnt {
        let (peer, member) = (record.peer(), record.member());
        if peer == self.me || record.expires_at() <= now.wall {
            return Learnt::Ignored;
        }
        if !self.fits(&member.user, &peer, member.trust, member.authorized_by.as_ref()) {
            return Learnt::Conflict;
        }
        let Some(device) = self.device_mut(&peer) else {
            let entered = self.enter(Who::Record(record.clone()));
            return if entered.is_some() { Learnt::NewDevice } else { Learnt::Ignored };
        };
        match &device.who {
            Who::Record(known) if known.seq() >= record.seq() => Learnt::Known,
            who if who.name().is_some_and(|(u, _)| *u != member.user) => Learnt::Ignored,
            _ => {
                device.who = Who::Record(record.clone());
                Learnt::Newer
            }
        }
    }

    /// A device is, or is no longer, connected to us.
    pub fn linked(&mut self, user: &UserId, peer: PeerId, trust: Trust, linked: bool, now: Now) {
        if linked && self.enter(Who::Hello(Box::new((peer, user.clone(), trust)))).is_none() {
            return;
        }
        if let Some(slot) = self.slot(&peer) {
            self.parted.remove(&slot);
            self.devices[slot.index()].evidence.merge(&Evidence::of_sight(now.wall));
        }
        if !linked {
            // what it told us is hearsay of somebody who is gone
            for device in &mut self.devices {
                device.evidence.forget(&peer);
            }
        }
    }

    /// A device that was connected is lost to us, or said goodbye: what others said of it before is
    /// over, and what they repeat, perhaps after us, counts only if it comes with a newer beacon, or if
    /// they hold a link to it themselves. What it signed after it was last `there` is new, too.
    pub fn parted(&mut self, peer: &PeerId, there: Tick, leaving: bool, now: Tick, tuning: &Tuning) {
        let Some(slot) = self.slot(peer) else { return };
        let evidence = &mut self.devices[slot.index()].evidence;
        if leaving {
            evidence.forget_ways();
        }
        let later = |l: &Lease| Tick::from(l.until).since(there) > tuning.beacon_life;
        if evidence.lease.as_ref().is_some_and(later) {
            return;
        }
        let at = evidence.lease.map_or(WallTime::default(), |l| l.at);
        self.parted.insert(slot, Parted { tick: now, at });
    }

    /// It was our own network: the device is not lost.
    pub fn absolve(&mut self, peer: &PeerId) {
        if let Some(slot) = self.slot(peer) {
            self.parted.remove(&slot);
        }
    }

    /// A neighbour says something about a device; a newer beacon is kept for all.
    pub fn hear(&mut self, from: PeerId, slot: Slot, entry: &Entry, now: Now, tuning: &Tuning) -> Heard {
        let time = self.network_time(now);
        let nothing = Heard { lease: None, turned: false, early: false, link: false };
        let Some(peer) = self.peer_at(slot) else { return nothing };
        let was_online = self.seems_online_at(slot, now, tuning);
        self.words += 1;
        let nth = self.words;
        let evidence = &mut self.devices[slot.index()].evidence;
        // a neighbour's own entry is about itself: our link says more than its claim
        let link = entry.link && from != peer;
        let linked = evidence.word(&from).is_some_and(|w| w.says != Says::NoLink);
        let refused = evidence.word(&from).is_some_and(|w| w.says == Says::Refused);
        if link || linked {
            let says = if link { Says::Link } else { Says::NoLink };
            evidence.merge(&Evidence::of_word(from, Word { nth, heard: now.tick, says }));
            evidence.prune();
        }
        let old = evidence.lease.as_ref().map(|l| l.at);
        let told = lease(entry, now.tick, time, tuning);
        let compared = told.map(|l| Some(l.at).cmp(&old));
        let mut early = false;
        if let Some(lease) = told {
            evidence.merge(&Evidence::of_lease(lease));
            if compared == Some(Ordering::Greater) {
                let age = old.map_or(Duration::MAX, |at| lease.at.since(at));
                early = age < tuning.beacon_period / 2;
                evidence.merge(&Evidence::of_sight(lease.at.min(time)));
                if self.parted.get(&slot).is_some_and(|p| p.at < lease.at) {
                    self.parted.remove(&slot);
                }
            }
        }
        let turned = was_online != self.seems_online_at(slot, now, tuning);
        Heard { lease: compared, turned, early, link: link != linked || link && refused }
    }

    /// A neighbour has told everything, and these are all the links that it holds.
    pub fn only_links(&mut self, from: &PeerId, links: &BTreeSet<PeerId>) -> bool {
        let mut changed = false;
        for device in &mut self.devices {
            let stays = device.who.name().is_some_and(|(_, p)| links.contains(&p));
            if !stays && let Some(word) = device.evidence.word(from).copied() {
                self.words += 1;
                let word = Word { nth: self.words, says: Says::NoLink, ..word };
                device.evidence.merge(&Evidence::of_word(*from, word));
                device.evidence.prune();
                changed = true;
            }
        }
        changed
    }

    /// A registry says that a device is online.
    pub fn registered(&mut self, peer: &PeerId, last_seen: Option<WallTime>, now: Now) {
        let seen = last_seen.map_or(WallTime::default(), |t| t.min(now.wall));
        if let Some(device) = self.device_mut(peer) {
            device.evidence.merge(&Evidence::of_registry(now.tick, seen));
        }
    }

    /// Our cache says when a device was last seen.
    pub fn cached(&mut self, peer: &PeerId, last_seen: WallTime) {
        if let Some(device) = self.device_mut(peer) {
            device.evidence.merge(&Evidence::of_sight(last_seen));
        }
    }

    /// A neighbour forwarded something to a device.
    pub fn relayed(&mut self, peer: &PeerId, through: PeerId, now: Tick) {
        if let Some(device) = self.device_mut(peer) {
            device.evidence.merge(&Evidence::of_relay(now, through));
        }
    }

    /// A neighbour could not forward to a device: no way to it for a while. What it has heard of the
    /// device is believed all the same, it would not be told again.
    pub fn not_relayed(&mut self, peer: &PeerId, through: &PeerId, now: Tick) {
        self.words += 1;
        let nth = self.words;
        if let Some(device) = self.device_mut(peer) {
            let refused = device.evidence.word(through).map(|_| Word { nth, heard: now, says: Says::Refused });
            let relayed = device.evidence.relay().is_some_and(|(_, p)| p == *through);
            if relayed {
                device.evidence.forget(through);
            }
            if let Some(word) = refused {
                device.evidence.merge(&Evidence::of_word(*through, word));
            }
        }
    }

    /// Clocks of neighbours: the network's time when our tick was zero, or `None` if ours has to do.
    pub const fn set_epoch(&mut self, epoch: Option<i64>) {
        self.epoch = epoch;
    }

    /// The network's time: by our neighbours' clocks, so that a jump of ours changes nothing.
    pub fn network_time(&self, now: Now) -> WallTime {
        let Some(epoch) = self.epoch else { return now.wall };
        let tick = i64::try_from(now.tick.0).unwrap_or(i64::MAX);
        let time = WallTime::from_millis(epoch.saturating_add(tick));
        time.clamp(now.wall.minus(limits::CLOCK_SKEW), now.wall.plus(limits::CLOCK_SKEW))
    }

    /// A device.
    pub fn device(&self, peer: &PeerId) -> Option<&Device> {
        self.device_at(self.slot(peer)?)
    }

    /// The device that stands there.
    pub fn device_at(&self, slot: Slot) -> Option<&Device> {
        self.devices.get(slot.index())
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = (PeerId, &Device)> {
        self.devices.iter().filter_map(|d| Some((d.who.name()?.1, d)))
    }

    /// All devices with their users, and where they stand.
    pub fn all(&self) -> impl Iterator<Item = (Slot, PeerId, &UserId, &Device)> {
        (0..).map(Slot).zip(&self.devices).filter_map(|(slot, d)| {
            let (user, peer) = d.who.name()?;
            Some((slot, peer, user, d))
        })
    }

    /// The user of a device.
    pub fn user(&self, peer: &PeerId) -> Option<&UserId> {
        self.user_at(self.slot(peer)?)
    }

    /// Trust in the user's devices.
    pub fn trust(&self, user: &UserId) -> Trust {
        let first = self.slots_of(user).first().and_then(|s| self.devices.get(s.index()));
        match first.map(|d| &d.who) {
            Some(Who::Hello(hello)) => hello.2,
            Some(Who::Record(record)) => record.member().trust,
            _ => Trust::Unverified,
        }
    }

    /// Devices of a user.
    pub fn devices_of(&self, user: &UserId) -> Vec<PeerId> {
        self.slots_of(user).iter().filter_map(|s| self.peer_at(*s)).collect()
    }

    /// All users, by name, each with its devices.
    pub fn users(&self) -> impl Iterator<Item = (&UserId, &[Slot])> {
        let chunks = self.by_user.chunk_by(|a, b| self.user_at(*a) == self.user_at(*b));
        chunks.filter_map(|slots| Some((self.user_at(*slots.first()?)?, slots)))
    }

    /// Neighbours that list a live link to a device, newest word first.
    pub fn reporters(&self, peer: &PeerId, now: Tick) -> Vec<PeerId> {
        let Some(device) = self.device(peer) else { return Vec::new() };
        let mut words: Vec<_> =
            device.evidence.words().filter(|(_, w)| w.leads(now)).map(|(p, w)| (w.heard, *p)).collect();
        words.sort_unstable_by(|a, b| b.cmp(a));
        words.into_iter().map(|(_, p)| p).collect()
    }

    /// The neighbour that carried something to or from a device lately.
    pub fn carrier(&self, peer: &PeerId, now: Tick) -> Option<PeerId> {
        let (at, through) = self.device(peer)?.evidence.relay()?;
        (now - at < RELAY_EVIDENCE).then_some(through)
    }

    /// The device's word, if it is good and we have no reason to doubt it: what may be told.
    pub fn word_of(&self, slot: Slot, now: Tick) -> Option<(&VerifiedRecord, &Lease)> {
        let device = self.devices.get(slot.index())?;
        let lease = device.lease().filter(|l| l.holds(now) && !self.doubted(slot, l))?;
        let record = device.record()?;
        (!self.is_blocked(record.user())).then_some((record, lease))
    }

    fn doubted(&self, slot: Slot, lease: &Lease) -> bool {
        self.parted.get(&slot).is_some_and(|p| p.at >= lease.at)
    }

    /// How a device can be reached, by precedence: relay, presence, registry, cache. A live link is
    /// the caller's to know.
    pub fn reach(&self, peer: &PeerId, now: Now, tuning: &Tuning) -> Reach {
        self.slot(peer).map_or(Reach::Offline { last_seen: None }, |slot| self.reach_at(slot, now, tuning))
    }

    /// [`Self::reach`] of the device that stands there.
    pub fn reach_at(&self, slot: Slot, now: Now, tuning: &Tuning) -> Reach {
        let Some(device) = self.devices.get(slot.index()) else { return Reach::Offline { last_seen: None } };
        let via = |p: &PeerId, age| self.user(p).map(|user| Reach::Via { user: user.clone(), peer: *p, age });
        if let Some((at, through)) = device.evidence.relay()
            && now.tick - at < RELAY_EVIDENCE
            && let Some(reach) = via(&through, now.tick - at)
        {
            return reach;
        }
        if let Some(lease) = device.lease().filter(|l| l.holds(now.tick)) {
            let leading = device.evidence.words().filter(|(_, w)| w.leads(now.tick));
            if let Some((reporter, word)) = leading.max_by_key(|(p, w)| (w.heard, **p))
                && let Some(reach) = via(reporter, now.tick - word.heard)
            {
                return reach;
            }
            if !self.doubted(slot, lease) {
                let age = tuning.beacon_life.saturating_sub(Tick::from(lease.until) - now.tick);
                return Reach::Online { evidence: Class::Presence, age };
            }
        }
        let parted = self.parted.get(&slot).map(|p| p.tick);
        if let Some(at) = device.evidence.registry.map(Tick::from)
            && now.tick - at < tuning.beacon_life
            && parted.is_none_or(|t| t < at)
        {
            return Reach::Online { evidence: Class::Registry, age: now.tick - at };
        }
        Reach::Offline { last_seen: device.last_seen() }
    }

    /// Whether there is any sign that the device is online now.
    pub fn seems_online(&self, peer: &PeerId, now: Now, tuning: &Tuning) -> bool {
        self.slot(peer).is_some_and(|slot| self.seems_online_at(slot, now, tuning))
    }

    /// [`Self::seems_online`] of the device that stands there.
    pub fn seems_online_at(&self, slot: Slot, now: Now, tuning: &Tuning) -> bool {
        let device = &self.devices[slot.index()];
        let undoubted = device.lease().is_some_and(|l| l.holds(now.tick) && !self.doubted(slot, l));
        undoubted || !matches!(self.reach_at(slot, now, tuning), Reach::Offline { .. })
    }

    /// Whether somebody's word has run out since `last`.
    pub fn lapsed(&self, last: Tick, now: Tick) -> bool {
        let over = |until: Tick| last < until && until <= now;
        self.devices.iter().any(|d| d.lease().is_some_and(|l| over(l.until.into())))
    }
}

/// The beacon of an entry as a lease, if it may count at all.
///
/// How old it is, is told by those who passed it on. Its own time only has to be plausible, clocks being
/// what they are; a clock that ran an hour ahead for a minute must not outbid the truth.
fn lease(entry: &Entry, now: Tick, time: WallTime, tuning: &Tuning) -> Option<Lease> {
    let beacon = entry.beacon?;
    if beacon.at > time.plus(SKEW) {
        return None;
    }
    let held = Duration::from_secs(u64::from(entry.age_s));
    let left = tuning.beacon_life.checked_sub(held)?;
    let at_most = beacon.at.plus(tuning.beacon_life + SKEW).since(time);
    let left = left.min(at_most);
    (!left.is_zero()).then(|| Lease { at: beacon.at, until: now.plus(left).into(), signature: beacon.signature })
}

#[cfg(test)]
mod tests;
