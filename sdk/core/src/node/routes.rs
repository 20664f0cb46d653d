//! What is known of the ways to devices, and how it is learnt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use byway_api::{PeerId, RouteRow, SignalAddress, WallTime, Write};

use super::{NodeCore, Stored};
use crate::io::{Event, FoundRoute, Out, RouteSource};
use crate::machine::{Now, Tick};
use crate::roster::Learnt;
use crate::score::Score;

/// Addresses remembered per device.
const ADDRESSES: usize = 16;
/// Neighbours remembered that were named as a way to a device.
const TOLD: usize = 8;
/// For how long a neighbour that was named as a way to a device is one.
const TOLD_FOR: Duration = Duration::from_secs(30);

/// What is known of the ways to one device.
#[derive(Debug, Default)]
pub(super) struct RouteBook {
    /// Way and when it last proved good.
    pub(super) addresses: BTreeMap<SignalAddress, WallTime>,
    /// Neighbours that a step named as a way, or through whom something came, and when.
    told: BTreeMap<PeerId, Tick>,
    pub(super) score: Score,
    pub(super) failures: u32,
    /// Connections in a row that the peer made and then did not want.
    pub(super) turned_away: u32,
    pub(super) not_before: Option<Tick>,
}

impl RouteBook {
    pub(super) fn load(&mut self, row: &RouteRow) {
        self.score = Score::from_rate(row.success_rate);
        self.add(row.address.clone(), row.last_seen);
    }

    fn add(&mut self, address: SignalAddress, seen: WallTime) {
        let at = self.addresses.entry(address).or_insert(seen);
        *at = seen.max(*at);
        while self.addresses.len() > ADDRESSES
            && let Some(oldest) = self.addresses.iter().min_by_key(|(_, t)| **t).map(|(a, _)| a.clone())
        {
            self.addresses.remove(&oldest);
        }
    }

    pub(super) fn add_told(&mut self, neighbour: PeerId, now: Tick) {
        self.told.insert(neighbour, now);
        while self.told.len() > TOLD
            && let Some(oldest) = self.told.iter().min_by_key(|(_, t)| **t).map(|(p, _)| *p)
        {
            self.told.remove(&oldest);
        }
    }

    /// Neighbours that were lately named as a way.
    pub(super) fn told(&self, now: Tick) -> impl Iterator<Item = PeerId> {
        self.told.iter().filter(move |(_, at)| now - **at < TOLD_FOR).map(|(p, _)| *p)
    }

    /// The neighbour is no way, by its own word.
    pub(super) fn not_through(&mut self, neighbour: &PeerId) {
        self.told.remove(neighbour);
    }

    pub(super) fn succeeded(&mut self) {
        self.score.succeeded();
        self.failures = 0;
        self.not_before = None;
    }

    /// Waits are forgotten: something has changed.
    pub(super) const fn forgive(&mut self) {
        self.failures = 0;
        self.turned_away = 0;
        self.not_before = None;
    }
}

impl NodeCore {
    /// A route is known from now on. False if it must not be used.
    pub(super) fn met(&mut self, now: Now, route: FoundRoute, out: &mut Vec<Out>) -> bool {
        if route.peer == self.me.peer {
            return false;
        }
        if let Some(record) = &route.record {
            if record.peer() != route.peer {
                return false;
            }
            if !self.learn(now, record, out) {
                return false;
            }
        }
        let seen = route.last_seen.unwrap_or_default().min(now.wall);
        if route.source == RouteSource::Registry {
            self.roster.registered(&route.peer, route.last_seen, now);
            self.roster_changed = true;
        } else if route.last_seen.is_some() {
            self.roster.cached(&route.peer, seen);
        }
        let said = self.record(&route.peer).is_some_and(|r| r.addresses().contains(&route.address));
        match route.address.via() {
            // what its record says need not be remembered twice
            None if said && !self.routes.contains_key(&route.peer) => {}
            None => self.routes.entry(route.peer).or_default().add(route.address, seen),
            Some(neighbour) if neighbour != route.peer => {
                self.routes.entry(route.peer).or_default().add_told(neighbour, now.tick);
                self.way_found(now, route.peer, out);
            }
            Some(_) => {}
        }
        true
    }

    /// A verified record enters roster and store. False if it must not be used.
    pub(super) fn learn(&mut self, now: Now, record: &byway_wire::VerifiedRecord, out: &mut Vec<Out>) -> bool {
        match self.roster.learn(record, now) {
            Learnt::Conflict => {
                let (user, newcomer) = (record.user().clone(), record.peer());
                out.push(Out::Tell(Event::IdentityConflict { user, newcomer }));
                false
            }
            Learnt::Ignored => false,
            Learnt::Known => true,
            Learnt::NewDevice | Learnt::Newer => {
                let row = byway_api::RecordRow {
                    peer: record.peer(),
                    user: record.user().clone(),
                    seq: record.seq(),
                    record: record.bytes().clone(),
                    expires_at: record.expires_at(),
                };
                let mut batch = vec![Write::Record(row)];
                batch.extend(self.route_rows(now, record.peer()));
                self.store(Stored::Relaxed, batch, out);
                self.roster_changed = true;
                self.introduced(now, &record.peer(), out);
                self.anchors_soon(now);
                self.upgrades.evidence(&record.peer(), now.tick);
                self.way_found(now, record.peer(), out);
                true
            }
        }
    }

    pub(super) fn sighting(&mut self, now: Now, route: FoundRoute, out: &mut Vec<Out>) {
        let (peer, owner) = (route.peer, route.record.as_ref().map(|r| r.user().clone()));
        let from_registry = route.source == RouteSource::Registry;
        if !self.met(now, route, out) {
            return;
        }
        if let Some(user) = owner {
            self.bind(now, &user, out);
            if from_registry {
                self.sign_of_life(now, peer, &user);
            }
        }
        self.anchors_soon(now);
    }

    /// Ways to a device, best first: neighbours that list it, then where it said that it is, then
    /// where it was.
    pub(super) fn addresses(&self, now: Now, peer: &PeerId) -> Vec<SignalAddress> {
        let record = self.record(peer).filter(|r| r.expires_at() > now.wall);
        let via = self.ways(now, peer).into_iter().map(SignalAddress::through);
        let said = record.into_iter().flat_map(|r| r.addresses().iter().cloned());
        let mut known: Vec<_> = self.routes.get(peer).into_iter().flat_map(|b| b.addresses.iter()).collect();
        known.sort_by(|a, b| b.1.cmp(a.1));
        let known = known.into_iter().map(|(a, _)| a.clone());
        let mut seen = BTreeSet::new();
        // a signal can only be sealed to somebody whose record is known
        let usable = |a: &SignalAddress| record.is_some() || !a.is_signalling();
        via.chain(said).chain(known).filter(|a| usable(a) && seen.insert(a.clone())).collect()
    }

    /// What a live connection teaches about the ways to a peer.
    pub(super) fn route_rows(&self, now: Now, peer: PeerId) -> Vec<Write> {
        let Some(conn) = self.writer(&peer).and_then(|c| self.conns.get(&c)) else { return Vec::new() };
        let book = self.routes.get(&peer);
        let rate = book.map_or(Score::default(), |b| b.score).rate();
        let said = self.record(&peer).map_or(&[][..], |r| r.addresses());
        let known = book.into_iter().flat_map(|b| b.addresses.keys());
        let addresses: BTreeSet<_> = said.iter().chain(known).cloned().collect();
        let row = |address| RouteRow {
            user: conn.user.clone(),
            peer,
            address,
            last_seen: now.wall,
            success_rate: rate,
            path: format!("direct {}", conn.transport),
        };
        addresses.into_iter().take(ADDRESSES).map(|a| Write::Route(row(a))).collect()
    }
}
