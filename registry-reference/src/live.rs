//! The active peers, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use byway_api::{NetworkId, PeerId, UserId, WallTime};
use byway_socket::Device;

use crate::backend::{Cursor, Page, Peer, Standing};

/// Active peers and coordinators of all networks.
#[derive(Debug, Default)]
pub(crate) struct Live {
    networks: BTreeMap<NetworkId, Network>,
    /// Rises with every change of any network, so that a network that was empty for a while does not
    /// get an old revision again.
    changes: u64,
}

#[derive(Debug, Default)]
struct Network {
    revision: u64,
    peers: BTreeMap<(UserId, PeerId), Peer>,
    users: BTreeMap<PeerId, UserId>,
    /// Until when each counts as alive.
    coordinators: BTreeMap<PeerId, WallTime>,
}

impl Live {
    fn changed(&mut self, network: &NetworkId) -> &mut Network {
        self.changes += 1;
        let entry = self.networks.entry(network.clone()).or_default();
        entry.revision = self.changes;
        entry
    }

    /// Adds or replaces. Of two records the newer one stays: commits may be seen out of order.
    pub(crate) fn insert(&mut self, peer: Peer) {
        if self.get(&peer.device).is_some_and(|known| known.seq > peer.seq) {
            return;
        }
        self.remove(&peer.device);
        let network = self.changed(&peer.device.network);
        network.users.insert(peer.device.peer, peer.user.clone());
        network.peers.insert((peer.user.clone(), peer.device.peer), peer);
    }

    pub(crate) fn remove(&mut self, device: &Device) -> Option<Peer> {
        self.get(device)?;
        let network = self.changed(&device.network);
        let user = network.users.remove(&device.peer)?;
        network.peers.remove(&(user, device.peer))
    }

    pub(crate) fn get(&self, device: &Device) -> Option<&Peer> {
        let network = self.networks.get(&device.network)?;
        let user = network.users.get(&device.peer)?;
        network.peers.get(&(user.clone(), device.peer))
    }

    /// False if the device is not active.
    pub(crate) fn touch(&mut self, device: &Device, now: WallTime) -> bool {
        if self.get(device).is_none() {
            return false;
        }
        let network = self.changed(&device.network);
        let Some(user) = network.users.get(&device.peer) else { return false };
        let Some(peer) = network.peers.get_mut(&(user.clone(), device.peer)) else { return false };
        peer.last_seen = peer.last_seen.max(now);
        true
    }

    pub(crate) fn revision(&self, network: &NetworkId) -> u64 {
        self.networks.get(network).map_or(0, |n| n.revision)
    }

    pub(crate) fn coordinate(&mut self, device: &Device, until: WallTime) {
        self.changed(&device.network).coordinators.insert(device.peer, until);
    }

    pub(crate) fn coordinators(&self, network: &NetworkId, now: WallTime) -> Vec<PeerId> {
        let all = self.networks.get(network).into_iter().flat_map(|n| &n.coordinators);
        all.filter(|(_, until)| **until > now).map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn page(&self, network: &NetworkId, after: Option<&Cursor>, limit: usize, now: WallTime) -> Page {
        let Some(network) = self.networks.get(network) else { return Page::default() };
        let from = after.map_or(Bound::Unbounded, |c| Bound::Excluded((c.user.clone(), c.peer)));
        let mut rest = network.peers.range((from, Bound::Unbounded)).filter(|(_, peer)| peer.expires_at > now);
        let peers: Vec<_> = rest
            .by_ref()
            .take(limit)
            .map(|(_, peer)| (peer.clone(), network.is_coordinator(&peer.device.peer, now)))
            .collect();
        let more = rest.next().is_some();
        let last = peers.last().filter(|_| more);
        let next = last.map(|(peer, _)| Cursor { user: peer.user.clone(), peer: peer.device.peer });
        Page { peers, next }
    }

    pub(crate) fn standing(&self, network: &NetworkId, now: WallTime) -> Standing {
        let Some(n) = self.networks.get(network) else { return Standing::default() };
        let volunteers = n.peers.values().filter_map(|p| Some((p.device.peer, p.capacity?))).collect();
        Standing { members: n.peers.len(), coordinators: self.coordinators(network, now), volunteers }
    }

    pub(crate) fn networks(&self) -> Vec<(NetworkId, usize)> {
        self.networks.iter().filter(|(_, n)| !n.peers.is_empty()).map(|(id, n)| (id.clone(), n.peers.len())).collect()
    }

    /// Removes who was last seen before `silent_since`, records that have ended and coordinators that
    /// are not alive any more.
    pub(crate) fn sweep(&mut self, silent_since: WallTime, now: WallTime) -> Vec<Device> {
        let gone = |peer: &&Peer| peer.last_seen < silent_since || peer.expires_at <= now;
        let gone: Vec<Device> =
            self.networks.values().flat_map(|n| n.peers.values()).filter(gone).map(|p| p.device.clone()).collect();
        for device in &gone {
            self.remove(device);
        }
        let mut ended = Vec::new();
        for (id, network) in &mut self.networks {
            let before = network.coordinators.len();
            network.coordinators.retain(|_, until| *until > now);
            if network.coordinators.len() < before {
                ended.push(id.clone());
            }
        }
        for id in &ended {
            self.changed(id);
        }
        self.networks.retain(|_, n| !(n.peers.is_empty() && n.coordinators.is_empty()));
        gone
    }
}

impl Network {
    fn is_coordinator(&self, peer: &PeerId, now: WallTime) -> bool {
        self.coordinators.get(peer).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use byway_api::SignalAddress;

    use super::*;

    const T: WallTime = WallTime::from_millis(1_000_000);

    fn peer(user: &str, n: u8, seq: u64) -> Peer {
        let device = Device::new(NetworkId::new("net").unwrap(), PeerId::from_bytes([n; 32]));
        Peer {
            signal_address: SignalAddress::socket("ws://h:1", device.peer).unwrap(),
            device,
            user: UserId::new(user).unwrap(),
            seq,
            record: Bytes::from_static(b"r"),
            expires_at: T.plus(Duration::from_secs(3600)),
            coordinators: Vec::new(),
            capacity: None,
            last_seen: T,
            announced_at: T,
        }
    }

    fn net() -> NetworkId {
        NetworkId::new("net").unwrap()
    }

    #[test]
    fn pages_cover_everybody_once() {
        let mut live = Live::default();
        for n in 0..7 {
            live.insert(peer(["a", "b", "c"][usize::from(n) % 3], n, 1));
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = live.page(&net(), after.as_ref(), 3, T);
            assert!(page.peers.len() <= 3);
            seen.extend(page.peers.iter().map(|(p, _)| p.device.peer));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, (0..7).map(|n| PeerId::from_bytes([n; 32])).collect::<Vec<_>>());
    }

    #[test]
    fn an_exact_last_page_has_no_next() {
        let mut live = Live::default();
        live.insert(peer("a", 1, 1));
        live.insert(peer("b", 2, 1));
        assert_eq!(live.page(&net(), None, 2, T).next, None);
    }

    #[test]
    fn an_older_record_does_not_replace_a_newer_one() {
        let mut live = Live::default();
        live.insert(peer("a", 1, 5));
        live.insert(peer("a", 1, 4));
        assert_eq!(live.get(&peer("a", 1, 0).device).unwrap().seq, 5);
    }

    #[test]
    fn a_device_that_changes_its_user_is_listed_once() {
        let mut live = Live::default();
        live.insert(peer("a", 1, 1));
        live.insert(peer("b", 1, 2));
        let page = live.page(&net(), None, 10, T);
        assert_eq!(page.peers.len(), 1);
        assert_eq!(page.peers[0].0.user.as_str(), "b");
    }

    #[test]
    fn the_silent_and_the_expired_are_swept_and_the_revision_moves() {
        let mut live = Live::default();
        live.insert(peer("a", 1, 1));
        live.insert(Peer { last_seen: T.minus(Duration::from_secs(10)), ..peer("b", 2, 1) });
        live.insert(Peer { expires_at: T, ..peer("c", 3, 1) });
        let before = live.revision(&net());
        let gone = live.sweep(T.minus(Duration::from_secs(5)), T);
        assert_eq!(gone.len(), 2);
        assert!(live.revision(&net()) > before);
        assert_eq!(live.page(&net(), None, 10, T).peers.len(), 1);
    }

    #[test]
    fn a_network_that_was_empty_does_not_get_an_old_revision_again() {
        let mut live = Live::default();
        live.insert(peer("a", 1, 1));
        let first = live.revision(&net());
        live.remove(&peer("a", 1, 1).device);
        live.sweep(T, T);
        live.insert(peer("b", 2, 1));
        assert!(live.revision(&net()) > first);
    }

    #[test]
    fn a_coordinator_is_one_until_its_time_is_up() {
        let mut live = Live::default();
        let p = peer("a", 1, 1);
        live.insert(p.clone());
        live.coordinate(&p.device, T.plus(Duration::from_secs(10)));
        assert_eq!(live.coordinators(&net(), T), [p.device.peer]);
        assert!(live.coordinators(&net(), T.plus(Duration::from_secs(10))).is_empty());
    }
}
