//! What the core shows: read-only.

use byway_api::{MessageId, Neighbour, PeerId, UserId};
use byway_wire::VerifiedRecord;

use super::NodeCore;
use crate::link::{LinkKey, LinkState};
use crate::machine::Now;
use crate::pool::Tier;
use crate::roster::Slot;
use crate::status::DeviceDelivery;
use crate::view::{CoreMetrics, Evidence, Explanation, LookupOutcome, MemberView, Reach, Roster};

impl NodeCore {
    /// The member list, by name.
    pub fn roster(&self, now: Now) -> Roster {
        if let Some(frozen) = &self.frozen {
            return Roster::clone(frozen);
        }
        let others = self.roster.users().filter(|(u, _)| **u != self.me.user);
        let members = others.map(|(u, slots)| self.member(u, slots, now)).collect();
        Roster { members, frozen: false }
    }

    fn member(&self, user: &UserId, slots: &[Slot], now: Now) -> MemberView {
        let devices: Vec<_> = slots.iter().filter_map(|s| self.roster.peer_at(*s)).collect();
        let best = devices.iter().map(|p| self.reach(p, now)).min_by_key(reach_rank);
        let link = devices.iter().map(|p| self.link(p)).max_by_key(|s| *s == LinkState::Connected);
        MemberView {
            user: user.clone(),
            reach: best.unwrap_or(Reach::Offline { last_seen: None }),
            trust: self.roster.trust(user),
            link: link.unwrap_or_default(),
            devices,
            blocked: self.roster.is_blocked(user),
        }
    }

    fn reach(&self, peer: &PeerId, now: Now) -> Reach {
        match self.writer(peer).and_then(|c| self.conns.get(&c)) {
            Some(conn) => Reach::Direct { transport: conn.transport, rtt: self.liveness.rtt(conn.id) },
            None => self.roster.reach(peer, now, &self.tuning),
        }
    }

    /// Why the last lookup of a user took the path it took.
    pub fn explain(&self, now: Now, user: &UserId) -> Option<Explanation> {
        let connected = || {
            let peer = self.roster.devices_of(user).into_iter().find(|p| self.by_peer.contains_key(p))?;
            let _ = peer;
            Some(Explanation {
                user: user.clone(),
                started: now.wall,
                took: Some(std::time::Duration::ZERO),
                outcome: LookupOutcome::AlreadyConnected,
                steps: Vec::new(),
                dials: Vec::new(),
                queued: 0,
                next_try: None,
            })
        };
        let mut explanation =
            self.running_explanation(user).or_else(|| self.explanations.get(user).cloned()).or_else(connected)?;
        explanation.queued = self.outbox.waiting_for(user);
        explanation.next_try = self.next_try(user, now.tick);
        Some(explanation)
    }

    /// What the core counts.
    pub fn metrics(&self) -> CoreMetrics {
        CoreMetrics {
            queued: self.outbox.waiting(),
            links: self.by_peer.len(),
            links_direct: self.direct_links(),
            ..self.metrics.clone()
        }
    }

    /// Who is connected, active ones first.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        let mut peers: Vec<_> = self.by_peer.keys().collect();
        peers.sort_by_key(|p| (self.pool.tier(p) != Some(Tier::Active), **p));
        let neighbour = |p: &&PeerId| self.roster.user(p).map(|u| Neighbour::new(**p, u.clone()));
        peers.iter().filter_map(neighbour).collect()
    }

    /// The newest known record of a device, for sealing.
    pub fn record(&self, peer: &PeerId) -> Option<&VerifiedRecord> {
        if *peer == self.me.peer {
            return Some(&self.me.record);
        }
        self.roster.device(peer).and_then(|d| d.record())
    }

    /// Neighbours to hand a sealed envelope for a device to, best first: those that list a link to it,
    /// then those that a step has just named, or through whom something came from it.
    pub fn ways(&self, now: Now, peer: &PeerId) -> Vec<PeerId> {
        let mut ways = self.roster.reporters(peer, now.tick);
        for told in self.routes.get(peer).into_iter().flat_map(|book| book.told(now.tick)) {
            if !ways.contains(&told) {
                ways.push(told);
            }
        }
        ways.retain(|p| self.by_peer.contains_key(p));
        // the one that carried something lately keeps its place
        let carrier = self.roster.carrier(peer, now.tick);
        ways.sort_by_key(|p| Some(*p) != carrier);
        ways
    }

    /// Whether signals of a device may reach our transports.
    pub fn admits(&self, user: &UserId, peer: &PeerId) -> bool {
        let device = self.record(peer).map(VerifiedRecord::member);
        let (trust, by) = device.map_or((byway_api::Trust::Unverified, None), |m| (m.trust, m.authorized_by));
        !self.roster.is_blocked(user) && self.roster.fits(user, peer, trust, by.as_ref())
    }

    /// State of the link to a device.
    pub fn link(&self, peer: &PeerId) -> LinkState {
        self.links.get(&LinkKey::Device(*peer))
    }

    /// Where a message stands, on each device.
    pub fn deliveries(&self, message: &MessageId) -> Vec<DeviceDelivery> {
        self.outbox.deliveries(message)
    }

    /// States of all links that are on their way or up.
    pub fn links(&self) -> impl Iterator<Item = (&LinkKey, LinkState)> {
        self.links.iter()
    }

    /// Devices that are connected.
    pub fn linked(&self) -> impl ExactSizeIterator<Item = &PeerId> {
        self.by_peer.keys()
    }

    /// Whether a device is connected.
    pub fn is_linked(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }
}

/// Better ways first.
const fn reach_rank(reach: &Reach) -> (u8, Evidence) {
    match reach {
        Reach::Direct { .. } => (0, Evidence::Link),
        Reach::Via { .. } => (1, Evidence::RelayAck),
        Reach::Online { evidence, .. } => (2, *evidence),
        Reach::Offline { .. } => (3, Evidence::Cache),
    }
}
