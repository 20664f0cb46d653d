//! Who is in the network, with which devices, and who is online on whose word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use byway_api::{PeerId, PinRow, Trust, UserId, WallTime};
use byway_wire::Beacon;
use byway_wire::VerifiedRecord;
use byway_wire::limits;

use crate::machine::{Now, Tick};
use crate::tuning::Tuning;
use crate::view::{Evidence, Reach};

/// How long a relay's acknowledgement counts as evidence.
const RELAY_EVIDENCE: Duration = Duration::from_secs(30);

/// A neighbour that listed a device and could not forward to it is no way to it for so long.
const NO_WAY: Duration = Duration::from_secs(60);

/// What one neighbour says about a device.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// It holds a live link to it.
    link: bool,
    heard: Tick,
    /// It could not forward to it then.
    refused: Option<Tick>,
}

impl Claim {
    /// Whether the reporter is a way to the device.
    fn leads(&self, now: Tick) -> bool {
        self.link && self.refused.is_none_or(|t| now - t >= NO_WAY)
    }
}

/// One device of the network.
#[derive(Clone, Debug, Default)]
pub struct Device {
    record: Option<VerifiedRecord>,
    beacon: Option<Beacon>,
    claims: BTreeMap<PeerId, Claim>,
    linked: bool,
    relay: Option<(PeerId, Tick)>,
    registry: Option<Tick>,
    last_seen: Option<WallTime>,
    /// It said goodbye to us, and this was its newest beacon then.
    left: Option<WallTime>,
}

impl Device {
    /// Its newest record.
    pub const fn record(&self) -> Option<&VerifiedRecord> {
        self.record.as_ref()
    }

    /// Its newest beacon.
    pub const fn beacon(&self) -> Option<&Beacon> {
        self.beacon.as_ref()
    }

    /// When it was last known to be there.
    pub const fn last_seen(&self) -> Option<WallTime> {
        self.last_seen
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

/// All members.
#[derive(Debug)]
pub struct Roster {
    me: PeerId,
    devices: BTreeMap<PeerId, Device>,
    users: BTreeMap<UserId, BTreeSet<PeerId>>,
    owner: BTreeMap<PeerId, (UserId, Trust)>,
    pins: BTreeMap<UserId, BTreeSet<PeerId>>,
    blocked: BTreeSet<UserId>,
    offset: i64,
}

impl Roster {
    /// An empty roster of the device `me`.
    pub const fn new(me: PeerId) -> Self {
        Self {
            me,
            devices: BTreeMap::new(),
            users: BTreeMap::new(),
            owner: BTreeMap::new(),
            pins: BTreeMap::new(),
            blocked: BTreeSet::new(),
            offset: 0,
        }
    }

    /// A stored pin.
    pub fn load_pin(&mut self, pin: &PinRow) {
        self.pins.entry(pin.user.clone()).or_default().insert(pin.peer);
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
        self.blocked.contains(user)
    }

    /// Whether a device may be the user's: it is pinned to it, was authorised by a pinned one, or
    /// nobody is pinned yet. Issued credentials need no pins.
    pub fn fits(&self, user: &UserId, peer: &PeerId, trust: Trust, authorized_by: Option<&PeerId>) -> bool {
        if trust == Trust::Issued {
            return true;
        }
        self.pins.get(user).is_none_or(|pins| pins.contains(peer) || authorized_by.is_some_and(|by| pins.contains(by)))
    }

    /// Pins a device to its user. Returns whether that is new.
    pub fn pin(&mut self, user: &UserId, peer: PeerId) -> bool {
        self.pins.entry(user.clone()).or_default().insert(peer)
    }

    /// Forgets all pins of a user, and its devices other than `keep`.
    pub fn repin(&mut self, user: &UserId, keep: PeerId) {
        self.pins.insert(user.clone(), BTreeSet::from([keep]));
        let gone: Vec<_> = self.users.get(user).into_iter().flatten().filter(|p| **p != keep).copied().collect();
        for peer in gone {
            self.forget(&peer);
        }
    }

    /// Forgets a device.
    pub fn forget(&mut self, peer: &PeerId) {
        self.devices.remove(peer);
        if let Some((user, _)) = self.owner.remove(peer)
            && let Some(set) = self.users.get_mut(&user)
        {
            set.remove(peer);
            if set.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// A device whose user Hello or a record proved.
    fn enter(&mut self, user: &UserId, peer: PeerId, trust: Trust) -> bool {
        if self.devices.contains_key(&peer) {
            return true;
        }
        let devices = self.users.get(user).map_or(0, BTreeSet::len);
        if devices >= limits::MEMBER_DEVICES || (devices == 0 && self.users.len() >= limits::ROSTER_MEMBERS) {
            return false;
        }
        self.users.entry(user.clone()).or_default().insert(peer);
        self.owner.insert(peer, (user.clone(), trust));
        self.devices.insert(peer, Device::default());
        true
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
        let fresh = !self.devices.contains_key(&peer);
        if !self.enter(&member.user, peer, member.trust) {
            return Learnt::Ignored;
        }
        let Some(device) = self.devices.get_mut(&peer) else { return Learnt::Ignored };
        match &device.record {
            Some(known) if known.seq() >= record.seq() => return Learnt::Known,
            _ => device.record = Some(record.clone()),
        }
        if fresh { Learnt::NewDevice } else { Learnt::Newer }
    }

    /// A device is, or is no longer, connected to us.
    pub fn linked(&mut self, user: &UserId, peer: PeerId, trust: Trust, linked: bool, now: Now) {
        if linked && !self.enter(user, peer, trust) {
            return;
        }
        if let Some(device) = self.devices.get_mut(&peer) {
            device.linked = linked;
            device.last_seen = Some(now.wall);
            device.left = None;
            if !linked {
                device.registry = None;
            }
        }
        if !linked {
            // what it told us is hearsay of somebody who is gone
            for device in self.devices.values_mut() {
                device.claims.remove(&peer);
            }
        }
    }

    /// A device said goodbye: what others said of it before is over, and what they repeat, perhaps
    /// after us, counts only if it comes with a newer beacon, or if they hold a link to it themselves.
    pub fn left(&mut self, peer: &PeerId) {
        if let Some(device) = self.devices.get_mut(peer) {
            device.claims.clear();
            device.relay = None;
            device.left = Some(device.beacon.map_or(WallTime::default(), |b| b.at));
        }
    }

    /// A neighbour claims something about a device; a newer beacon is kept for all.
    pub fn claim(&mut self, reporter: PeerId, peer: &PeerId, link: bool, beacon: Option<Beacon>, now: Now) -> bool {
        let wall = self.network_time(now);
        let Some(device) = self.devices.get_mut(peer) else { return false };
        if let Some(left) = device.left {
            if !link && beacon.is_none_or(|b| b.at <= left) {
                return false;
            }
            device.left = None;
        }
        let before = device.claims.get(&reporter).map(|c| c.link);
        device.claims.insert(reporter, Claim { link, heard: now.tick, refused: None });
        // a clock that ran ahead for a while must not outbid the truth: what lies in the future loses
        let worth = |b: Beacon| (b.at <= wall.plus(limits::CREDENTIAL_SKEW), b.at);
        if let Some(new) = beacon
            && device.beacon.is_none_or(|b| worth(b) < worth(new))
        {
            device.beacon = Some(new);
            if new.at <= wall.plus(limits::CREDENTIAL_SKEW) {
                device.last_seen = device.last_seen.max(Some(new.at.max(WallTime::default())));
            }
        }
        before != Some(link)
    }

    /// A neighbour does not list a device any more: believed at once, for that reporter.
    pub fn withdraw(&mut self, reporter: &PeerId, peer: &PeerId) -> bool {
        self.devices.get_mut(peer).is_some_and(|d| d.claims.remove(reporter).is_some())
    }

    /// A registry says that a device is online.
    pub fn registered(&mut self, peer: &PeerId, last_seen: Option<WallTime>, now: Now) {
        if let Some(device) = self.devices.get_mut(peer) {
            device.registry = Some(now.tick);
            device.last_seen = device.last_seen.max(last_seen.map(|t| t.min(now.wall)));
        }
    }

    /// Our cache says when a device was last seen.
    pub fn cached(&mut self, peer: &PeerId, last_seen: WallTime) {
        if let Some(device) = self.devices.get_mut(peer) {
            device.last_seen = device.last_seen.max(Some(last_seen));
        }
    }

    /// A neighbour forwarded something to a device.
    pub fn relayed(&mut self, peer: &PeerId, through: PeerId, now: Tick) {
        if let Some(device) = self.devices.get_mut(peer) {
            device.relay = Some((through, now));
        }
    }

    /// A neighbour could not forward to a device: no way to it for a while. What it has heard of the
    /// device is believed all the same, it would not be told again.
    pub fn not_relayed(&mut self, peer: &PeerId, through: &PeerId, now: Tick) {
        if let Some(device) = self.devices.get_mut(peer) {
            if let Some(claim) = device.claims.get_mut(through) {
                claim.refused = Some(now);
            }
            if device.relay.is_some_and(|(p, _)| p == *through) {
                device.relay = None;
            }
        }
    }

    /// The neighbours' clocks differ from ours by this much, in milliseconds.
    pub const fn set_offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// The network's time: our clock and the median offset of our neighbours.
    pub const fn network_time(&self, now: Now) -> WallTime {
        WallTime::from_millis(now.wall.as_millis().saturating_add(self.offset))
    }

    /// A device.
    pub fn device(&self, peer: &PeerId) -> Option<&Device> {
        self.devices.get(peer)
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = (&PeerId, &Device)> {
        self.devices.iter()
    }

    /// The user of a device.
    pub fn user(&self, peer: &PeerId) -> Option<&UserId> {
        self.owner.get(peer).map(|(u, _)| u)
    }

    /// Trust in the user's devices.
    pub fn trust(&self, user: &UserId) -> Trust {
        let first = self.users.get(user).and_then(BTreeSet::first).and_then(|p| self.owner.get(p));
        first.map_or(Trust::Unverified, |(_, t)| *t)
    }

    /// Devices of a user.
    pub fn devices_of(&self, user: &UserId) -> Vec<PeerId> {
        self.users.get(user).map_or_else(Vec::new, |set| set.iter().copied().collect())
    }

    /// All users.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.users.keys()
    }

    /// Neighbours that list a live link to a device, newest word first.
    pub fn reporters(&self, peer: &PeerId, now: Tick) -> Vec<PeerId> {
        let Some(device) = self.devices.get(peer) else { return Vec::new() };
        let mut claims: Vec<_> =
            device.claims.iter().filter(|(_, c)| c.leads(now)).map(|(p, c)| (c.heard, *p)).collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        claims.into_iter().map(|(_, p)| p).collect()
    }

    /// The neighbour that carried something to or from a device lately.
    pub fn carrier(&self, peer: &PeerId, now: Tick) -> Option<PeerId> {
        let (through, at) = self.devices.get(peer)?.relay?;
        (now - at < RELAY_EVIDENCE).then_some(through)
    }

    fn lease(&self, device: &Device, now: Now, tuning: &Tuning) -> Option<Duration> {
        let at = device.beacon?.at;
        let wall = self.network_time(now);
        let age = wall.since(at);
        (age <= tuning.beacon_life && at <= wall.plus(limits::CREDENTIAL_SKEW)).then_some(age)
    }

    /// How a device can be reached, by precedence: relay, presence, registry, cache. A live link is
    /// the caller's to know.
    pub fn reach(&self, peer: &PeerId, now: Now, tuning: &Tuning) -> Reach {
        let Some(device) = self.devices.get(peer) else { return Reach::Offline { last_seen: None } };
        let via = |p: &PeerId, age| self.user(p).map(|user| Reach::Via { user: user.clone(), peer: *p, age });
        if let Some((through, at)) = device.relay
            && now.tick - at < RELAY_EVIDENCE
            && let Some(reach) = via(&through, now.tick - at)
        {
            return reach;
        }
        if let Some(age) = self.lease(device, now, tuning) {
            let newest = device.claims.iter().filter(|(_, c)| c.leads(now.tick)).max_by_key(|(p, c)| (c.heard, **p));
            if let Some((reporter, claim)) = newest
                && let Some(reach) = via(reporter, now.tick - claim.heard)
            {
                return reach;
            }
            if !device.claims.is_empty() {
                return Reach::Online { evidence: Evidence::Presence, age };
            }
        }
        if let Some(at) = device.registry
            && now.tick - at < tuning.beacon_life
        {
            return Reach::Online { evidence: Evidence::Registry, age: now.tick - at };
        }
        Reach::Offline { last_seen: device.last_seen }
    }

    /// Whether there is any sign that the device is online now.
    pub fn seems_online(&self, peer: &PeerId, now: Now, tuning: &Tuning) -> bool {
        !matches!(self.reach(peer, now, tuning), Reach::Offline { .. })
    }
}

#[cfg(test)]
mod tests;
