//! A conversation that goes through neighbours gets a connection of its own, behind its back.

use byway_api::PeerId;

use super::NodeCore;
use crate::io::{Event, Out};
use crate::link::{LinkKey, LinkState};
use crate::machine::Now;

impl NodeCore {
    /// Dials the devices whose turn it is.
    pub(super) fn upgrades_due(&mut self, now: Now, out: &mut Vec<Out>) {
        for peer in self.upgrades.over(now.tick, &self.tuning) {
            if !self.by_peer.contains_key(&peer) && !self.outbox.has_open(&peer) {
                self.links.go(&LinkKey::Device(peer), LinkState::Disconnected);
            }
        }
        for peer in self.upgrades.due(now.tick) {
            let addresses = self.addresses(now, &peer);
            let blocked = self.roster.user(&peer).is_none_or(|user| self.roster.is_blocked(user));
            if self.by_peer.contains_key(&peer) || blocked {
                self.upgrades.connected(&peer);
            } else if addresses.is_empty() {
                self.upgrade_failed(now, &peer, out);
            } else {
                self.dial(peer, addresses, None, out);
            }
        }
    }

    /// An attempt has come to nothing: when there will be another one.
    pub(super) fn upgrade_failed(&mut self, now: Now, peer: &PeerId, out: &mut Vec<Out>) {
        let jitter = |wait| self.rng.jittered(wait, self.tuning.jitter);
        let Some(next_try) = self.upgrades.failed(peer, now.tick, &self.tuning, jitter) else { return };
        if let Some(user) = self.roster.user(peer).cloned() {
            out.push(Out::Tell(Event::UpgradeFailed { peer: *peer, user, next_try }));
        }
    }

    /// A device is connected: what went through neighbours goes there from now on. Those that carried it
    /// are left as they are, so nothing is lost if this does not last.
    pub(super) fn upgraded(&mut self, peer: PeerId, transport: &'static str, out: &mut Vec<Out>) {
        self.courier.drop_messages(&peer);
        self.courier.introduced(peer, self.me.record.seq());
        if self.upgrades.connected(&peer)
            && let Some(user) = self.roster.user(&peer).cloned()
        {
            self.metrics.upgrades += 1;
            out.push(Out::Tell(Event::Upgraded { peer, user, transport }));
        }
    }
}
