//! When something is tried again: messages that wait, and neighbours that a node wants to have.

use std::collections::BTreeSet;
use std::time::Duration;

use byway_api::{PeerId, UserId, WallTime};

use super::{NodeCore, Phase};
use crate::io::Out;
use crate::machine::{Now, Tick};
use crate::rng::Rng;
use crate::score::Score;

/// A new sign of life starts a lookup at once, but not more often than this.
const NUDGE: Duration = Duration::from_secs(2);

/// Members that are looked at more closely before some are dialled.
const CANDIDATES: usize = 32;
/// Seems online, score, when it was seen, our own order, who.
type Candidate = (bool, f64, Option<WallTime>, u64, PeerId);

/// Messages to a user wait for another try.
#[derive(Debug)]
pub(super) struct Retry {
    since: Tick,
    last: Tick,
    pub(super) next: Tick,
}

impl NodeCore {
    /// Something says that a device is there now: what waits for it need not wait.
    pub(super) fn sign_of_life(&mut self, now: Now, peer: PeerId, user: &UserId) {
        if let Some(book) = self.routes.get_mut(&peer) {
            book.forgive();
        }
        if let Some(retry) = self.retries.get_mut(user) {
            retry.next = retry.next.min(retry.last.plus(NUDGE).max(now.tick));
        }
    }

    /// The peer ended a connection on purpose. One that never wants us to stay (it has blocked us, is
    /// suspended or full) connects well each time; without a growing wait we would dial it for ever.
    pub(super) fn turned_away(&mut self, now: Now, peer: PeerId, lived: Duration) -> Tick {
        let book = self.routes.entry(peer).or_default();
        book.turned_away = if lived < self.tuning.dead_after { book.turned_away + 1 } else { 1 };
        let wait = self.tuning.anchor_retry * 2u32.saturating_pow(book.turned_away.min(16) - 1);
        let wait = self.rng.jittered(wait.min(self.tuning.anchor_retry_max), self.tuning.jitter);
        let next = now.tick.plus(wait);
        book.not_before = Some(next);
        next
    }

    pub(super) fn retry_later(&mut self, now: Now, user: &UserId) {
        let (fast, slow, jitter) = (self.tuning.retry, self.tuning.retry_slow, self.tuning.jitter);
        let retry =
            self.retries.entry(user.clone()).or_insert(Retry { since: now.tick, last: now.tick, next: now.tick });
        let wait = if now.tick - retry.since < self.tuning.retry_fast_for { fast } else { slow };
        retry.last = now.tick;
        retry.next = now.tick.plus(self.rng.jittered(wait, jitter));
    }

    /// A link with unacknowledged messages is lost.
    pub(super) fn retry_soon(&mut self, now: Now, user: &UserId) {
        let next = now.tick.plus(self.rng.jittered(self.tuning.anchor_retry / 4, self.tuning.jitter));
        self.retry_at(now, user, next);
    }

    /// What waits for a user is tried again at `next` at the latest.
    pub(super) fn retry_at(&mut self, now: Now, user: &UserId, next: Tick) {
        let retry = self.retries.entry(user.clone()).or_insert(Retry { since: now.tick, last: now.tick, next });
        retry.next = retry.next.min(next);
    }

    pub(super) fn retry_due(&mut self, now: Now, out: &mut Vec<Out>) {
        let due: Vec<_> = self.retries.iter().filter(|(_, r)| r.next <= now.tick).map(|(u, _)| u.clone()).collect();
        for user in due {
            let served = self.is_user_linked(&user) && self.left_out(&user).is_empty();
            if served || self.outbox.waiting_for(&user) == 0 {
                self.retries.remove(&user);
                continue;
            }
            self.retry_later(now, &user);
            self.seek(now, &user, out);
        }
    }

    /// Devices of a user that messages wait for and that are not connected, although another one may be.
    pub(super) fn left_out(&self, user: &UserId) -> Vec<PeerId> {
        if self.outbox.waiting_for(user) == 0 {
            return Vec::new();
        }
        let mut devices = self.roster.devices_of(user);
        devices.retain(|p| !self.by_peer.contains_key(p) && self.outbox.has_open(p));
        devices
    }

    /// A connection to one device of a user ends the search for the user, and serves only that device:
    /// what is bound to another one needs a dial of its own.
    pub(super) fn dial_left_out(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        let devices = self.left_out(user);
        if !devices.is_empty() && !self.retries.contains_key(user) {
            self.retry_later(now, user);
        }
        for peer in devices {
            let addresses = self.addresses(now, &peer);
            if !addresses.is_empty() {
                self.dial(peer, addresses, None, out);
            }
        }
    }

    /// A search for the user has just failed: another message to it waits for the next try instead of
    /// costing a search of its own.
    pub(super) fn sought_lately(&self, now: Now, user: &UserId) -> bool {
        self.retries.get(user).is_some_and(|r| now.tick - r.last < self.tuning.retry)
    }

    /// When messages to a user are tried again.
    pub(super) fn next_try(&self, user: &UserId, now: Tick) -> Option<Duration> {
        self.retries.get(user).map(|r| r.next - now)
    }

    pub(super) fn anchors_soon(&mut self, now: Now) {
        if self.phase == Phase::Running && self.pool.len() < self.anchors() {
            let soon = now.tick.plus(self.rng.jittered(self.tuning.anchor_retry / 8, self.tuning.jitter));
            self.anchors_at = Some(self.anchors_at.map_or(soon, |t| t.min(soon)));
        }
    }

    /// Neighbours that we try to have now.
    fn anchors(&self) -> usize {
        let wider = if self.retries.is_empty() { 0 } else { self.wider };
        self.tuning.anchors + wider.min(self.tuning.max_standby.saturating_sub(self.tuning.anchors))
    }

    /// Somebody who seems online could not be reached: none of our neighbours is a way, and without a
    /// server another member may be one.
    pub(super) fn widen(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        if self.retries.len() == 1 && self.retries.values().all(|r| r.since == now.tick) {
            self.wider = 0;
        }
        if self.roster.devices_of(user).iter().any(|p| self.roster.seems_online(p, now, &self.tuning)) {
            self.wider = (self.wider + 1).min(self.tuning.max_standby);
            self.anchors_soon(now);
            self.dial_stepping_stone(now, out);
        }
    }

    /// One more member, whoever it is, also in exchange for a neighbour that is not used.
    fn dial_stepping_stone(&mut self, now: Now, out: &mut Vec<Out>) {
        let dialled: BTreeSet<_> = self.dials.values().map(|d| d.peer).collect();
        let online = self.roster.devices().map(|(peer, _)| peer).filter(|peer| {
            let blocked = self.roster.user(peer).is_none_or(|u| self.roster.is_blocked(u));
            let waits = self.routes.get(peer).and_then(|b| b.not_before).is_some_and(|t| t > now.tick);
            let fits = !blocked && !waits && !dialled.contains(peer) && !self.by_peer.contains_key(peer);
            fits && self.roster.seems_online(peer, now, &self.tuning) && !self.addresses(now, peer).is_empty()
        });
        let online: Vec<_> = online.collect();
        let Some(at) = self.rng.next_u64().checked_rem(online.len() as u64) else { return };
        if let Some(peer) = usize::try_from(at).ok().and_then(|at| online.get(at)).copied() {
            let addresses = self.addresses(now, &peer);
            self.dial(peer, addresses, None, out);
        }
    }

    /// An order of devices that is another one for each of us, and the same each time.
    fn turn(&self, peer: &PeerId) -> u64 {
        let half = |p: &PeerId| p.as_bytes().first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        Rng::new(half(peer) ^ half(&self.me.peer).rotate_left(32)).next_u64()
    }

    /// A node with few neighbours dials members that it knows, also with nothing to send: that is
    /// what keeps the network together when everything else is gone.
    pub(super) fn dial_anchors(&mut self, now: Now, out: &mut Vec<Out>) {
        let have = self.pool.len() + self.dials.len();
        let Some(missing) = self.anchors().checked_sub(have).filter(|n| *n > 0) else { return };
        let mut candidates = Vec::new();
        let mut wake: Option<Tick> = None;
        for (slot, peer, user, device) in self.roster.all() {
            let peer = &peer;
            if self.roster.is_blocked(user)
                || self.by_peer.contains_key(peer)
                || self.dials.values().any(|d| d.peer == *peer)
            {
                continue;
            }
            let book = self.routes.get(peer);
            if let Some(at) = book.and_then(|b| b.not_before).filter(|t| *t > now.tick) {
                wake = Some(wake.map_or(at, |w| w.min(at)));
                continue;
            }
            let online = self.roster.seems_online_at(slot, now, &self.tuning);
            let score = book.map_or(Score::default(), |b| b.score).rate();
            // of those who are there, everybody would choose the same: they would be full, and turn each other out
            let seen = device.last_seen().filter(|_| !online);
            candidates.push((online, score, seen, self.turn(peer), *peer));
        }
        let order = |a: &Candidate, b: &Candidate| {
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(b.2.cmp(&a.2)).then((a.3, a.4).cmp(&(b.3, b.4)))
        };
        if candidates.len() > CANDIDATES {
            candidates.select_nth_unstable_by(CANDIDATES, order);
            candidates.truncate(CANDIDATES);
        }
        candidates.sort_by(order);
        let mut dialled = 0;
        for (.., peer) in candidates {
            if dialled == missing {
                break;
            }
            let addresses = self.addresses(now, &peer);
            if !addresses.is_empty() {
                self.dial(peer, addresses, None, out);
                dialled += 1;
            }
        }
        self.anchors_at = wake;
    }
}
