//! Connections: admission, the two-connections rule, liveness, loss.

use std::time::Duration;

use byway_api::{CloseCode, ConnectionRow, PathKind, PeerId, Retry, WallTime, Write};
use byway_wire::{Frame, Goodbye, limits};

use super::{BAN, NodeCore, Phase, Stored};
use crate::io::{Answer, Event, Out, Up};
use crate::limiter::TokenBucket;
use crate::link::{Arbitration, Conn, LinkKey, LinkState, arbitrate};
use crate::liveness::Verdict;
use crate::machine::{ConnId, Now, Tick};
use crate::pool::Admission;

/// Takeovers of one identity within [`TAKEOVER_WINDOW`] that mean: the key was copied.
const TAKEOVERS: usize = 3;
const TAKEOVER_WINDOW: Duration = Duration::from_secs(600);
/// That many links lost within [`FAULT_WINDOW`], and none left: it is our own network.
const FAULT_LINKS: usize = 3;
const FAULT_WINDOW: Duration = Duration::from_secs(3);

/// A choice between two connections that waits for the winner's Pong.
#[derive(Debug)]
pub(super) struct Decision {
    winner: ConnId,
    losers: Vec<ConnId>,
    ping: u64,
}

impl NodeCore {
    /// The connection that is written: the decided winner, else the oldest.
    pub(super) fn writer(&self, peer: &PeerId) -> Option<ConnId> {
        self.by_peer.get(peer)?.first().copied()
    }

    pub(super) fn up(&mut self, now: Now, up: &Up, out: &mut Vec<Out>) {
        let peer = up.hello.peer;
        if let Some(code) = self.refusal(now, up, out) {
            if code == CloseCode::FULL {
                self.say_full(up, out);
            }
            out.push(Out::Close { conn: up.conn, code });
            self.links.withdrawn(&LinkKey::Device(peer));
            return;
        }
        if let Admission::Evict(other) = self.pool.admit(&self.tuning, &peer, |p| self.is_needed(p)) {
            self.close_peer(now, &other, CloseCode::FULL, out);
        }
        self.conns.insert(up.conn, Conn::new(up, now.tick));
        self.by_peer.entry(peer).or_default().push(up.conn);
        self.liveness.up(up.conn, now.tick);
        let per_minute = limits::PROTOCOL_ERROR_WINDOW / limits::PROTOCOL_ERRORS;
        self.faults.insert(up.conn, TokenBucket::new(limits::PROTOCOL_ERRORS, per_minute));
        self.clock(now, peer, up.hello.time);

        let conns: Vec<&Conn> = self.by_peer[&peer].iter().filter_map(|id| self.conns.get(id)).collect();
        match arbitrate(&self.me.peer, &conns) {
            Arbitration::Only => self.peer_up(now, up, out),
            Arbitration::Restarted(stale) => {
                self.decisions.remove(&peer);
                for conn in stale {
                    self.close(now, conn, CloseCode::SUPERSEDED, out);
                }
                self.took_over(now, peer, out);
                self.presence_up(now, peer, out);
                self.new_path(now, peer, out);
            }
            Arbitration::Decide { winner, losers } => {
                let ping = self.liveness.ping(winner, now.tick);
                self.decisions.insert(peer, Decision { winner, losers, ping });
                self.write(winner, Frame::Ping(ping), out);
            }
            Arbitration::PeerDecides => {}
        }
        self.metrics.connects += 1;
        self.remember_connection(now, up, out);
    }

    /// A connection that something of ours depends on is not given up for another one.
    fn is_needed(&self, peer: &PeerId) -> bool {
        self.outbox.has_open(peer) || self.courier.uses(peer)
    }

    /// Why a connection is refused, if it is.
    fn refusal(&mut self, now: Now, up: &Up, out: &mut Vec<Out>) -> Option<CloseCode> {
        let (peer, member) = (up.hello.peer, &up.hello.member);
        if peer == self.me.peer {
            out.push(Out::Tell(Event::IdentityInUse { peer }));
            return Some(CloseCode::REFUSED);
        }
        if self.phase != Phase::Running {
            return Some(CloseCode::LEAVING);
        }
        if self.roster.is_blocked(&member.user) {
            return Some(CloseCode::BLOCKED);
        }
        if self.banned.get(&peer).is_some_and(|until| *until > now.tick) {
            return Some(CloseCode::PROTOCOL);
        }
        if !self.roster.fits(&member.user, &peer, member.trust, member.authorized_by.as_ref()) {
            out.push(Out::Tell(Event::IdentityConflict { user: member.user.clone(), newcomer: peer }));
            return Some(CloseCode::REFUSED);
        }
        let full = self.pool.admit(&self.tuning, &peer, |p| self.is_needed(p)) == Admission::Full;
        full.then_some(CloseCode::FULL)
    }

    /// Somebody we have no room for learns of others to try. The connection has credit that nobody
    /// else uses.
    fn say_full(&self, up: &Up, out: &mut Vec<Out>) {
        let records = self.by_peer.keys().filter_map(|p| self.record(p).cloned()).take(limits::GOODBYE_RECORDS);
        if up.credit.control > 0 {
            let goodbye = Goodbye { code: CloseCode::FULL, records: records.collect() };
            out.push(Out::Write { conn: up.conn, frame: Frame::Goodbye(goodbye) });
        }
    }

    /// The first connection to a peer.
    fn peer_up(&mut self, now: Now, up: &Up, out: &mut Vec<Out>) {
        let (peer, member) = (up.hello.peer, up.hello.member.clone());
        self.frozen = None;
        self.before = None;
        self.pool.up(&self.tuning, peer, now.tick);
        self.links.adopt(&member.user, peer);
        self.links.connected(&LinkKey::Device(peer));
        self.roster.linked(&member.user, peer, member.trust, true, now);
        self.pin(now, &member.user, peer, member.authorized_by, out);
        self.presence_up(now, peer, out);
        self.routes.entry(peer).or_default().succeeded();
        self.roster_changed = true;
        out.push(Out::Tell(Event::Connected { peer, user: member.user.clone(), transport: up.transport }));
        self.upgraded(peer, up.transport, out);
        self.bind(now, &member.user, out);
        self.new_path(now, peer, out);
        self.lookup_connected(now, &member.user, peer, up.transport, out);
        self.gossip(now, out);
    }

    /// Everything unacknowledged goes out again on the connection that is written now.
    fn new_path(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        if cfg!(not(sim_bug = "no_resend")) {
            self.outbox.new_path(&peer);
        }
        self.flush(now, peer, out);
    }

    fn took_over(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        let times = self.takeovers.entry(peer).or_default();
        times.retain(|t| now.tick - *t < TAKEOVER_WINDOW);
        times.push_back(now.tick);
        if times.len() >= TAKEOVERS {
            times.clear();
            out.push(Out::Tell(Event::IdentityInUse { peer }));
        }
    }

    fn remember_connection(&mut self, now: Now, up: &Up, out: &mut Vec<Out>) {
        let peer = up.hello.peer;
        let mut batch = vec![Write::Connection(ConnectionRow {
            peer,
            connection_state: "connected".into(),
            data_channel_state: "open".into(),
            connected_at: now.wall,
        })];
        batch.extend(self.route_rows(now, peer));
        self.store(Stored::Relaxed, batch, out);
    }

    /// Our clock against theirs: the median of at least three neighbours counts.
    pub(super) fn clock(&mut self, now: Now, peer: PeerId, theirs: WallTime) {
        let tick = i64::try_from(now.tick.0).unwrap_or(i64::MAX);
        self.epochs.insert(peer, theirs.as_millis().saturating_sub(tick));
        let mut epochs: Vec<_> = self.epochs.values().copied().collect();
        epochs.sort_unstable();
        self.roster.set_epoch((epochs.len() >= 3).then(|| epochs[epochs.len() / 2]));
    }

    /// Presence towards a peer begins, with all that it has to know.
    fn presence_up(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        let slot = self.roster.slot(&peer);
        self.presence.up(&self.me.peer, peer, slot, now.tick, &self.tuning);
        self.tell(now, &peer, out);
    }

    pub(super) fn pong(&mut self, now: Now, conn: ConnId, number: u64, out: &mut Vec<Out>) {
        let Some(peer) = self.conns.get(&conn).map(|c| c.peer) else { return };
        self.liveness.pong(conn, number, now.tick);
        let decided = self.decisions.get(&peer).is_some_and(|d| d.winner == conn && d.ping == number);
        if !decided {
            return;
        }
        let Some(Decision { winner, losers, .. }) = self.decisions.remove(&peer) else { return };
        let was_written = self.writer(&peer) == Some(winner);
        for loser in losers {
            self.close(now, loser, CloseCode::SUPERSEDED, out);
        }
        if !was_written {
            self.new_path(now, peer, out);
        }
    }

    /// Ends one connection of ours. What it still delivers is not heard any more.
    fn close(&mut self, _now: Now, conn: ConnId, code: CloseCode, out: &mut Vec<Out>) {
        if let Some(c) = self.conns.remove(&conn) {
            self.detach(&c);
            out.push(Out::Close { conn, code });
        }
    }

    fn detach(&mut self, conn: &Conn) {
        self.liveness.down(conn.id);
        self.faults.remove(&conn.id);
        self.relay.down(conn.id);
        if let Some(list) = self.by_peer.get_mut(&conn.peer) {
            list.retain(|id| *id != conn.id);
            if list.is_empty() {
                self.by_peer.remove(&conn.peer);
            }
        }
        if self.decisions.get(&conn.peer).is_some_and(|d| d.winner == conn.id || d.losers.contains(&conn.id)) {
            self.decisions.remove(&conn.peer);
        }
    }

    /// Ends all connections to a peer, with a goodbye.
    pub(super) fn close_peer(&mut self, now: Now, peer: &PeerId, code: CloseCode, out: &mut Vec<Out>) {
        let conns = self.by_peer.get(peer).cloned().unwrap_or_default();
        let Some(last) = conns.last().and_then(|id| self.conns.get(id)).cloned() else { return };
        for conn in conns {
            let records = Vec::new();
            self.write(conn, Frame::Goodbye(Goodbye { code, records }), out);
            self.close(now, conn, code, out);
        }
        self.peer_down(now, &last, code, None, out);
    }

    pub(super) fn close_all(&mut self, now: Now, code: CloseCode, out: &mut Vec<Out>) {
        let peers: Vec<_> = self.by_peer.keys().copied().collect();
        for peer in peers {
            self.close_peer(now, &peer, code, out);
        }
    }

    pub(super) fn down(&mut self, now: Now, conn: ConnId, code: CloseCode, out: &mut Vec<Out>) {
        let Some(peer) = self.conns.get(&conn).map(|c| c.peer) else { return };
        let lost = matches!(code, CloseCode::LOST | CloseCode::TIMEOUT);
        if lost && self.by_peer.get(&peer).is_some_and(|conns| conns.len() == 1) {
            self.remember_roster(now);
        }
        let was_written = self.writer(&peer) == Some(conn);
        let heard = if lost { self.liveness.last_heard(conn) } else { None };
        let Some(c) = self.conns.remove(&conn) else { return };
        self.detach(&c);
        if self.by_peer.contains_key(&c.peer) {
            if was_written {
                self.new_path(now, c.peer, out);
            }
        } else {
            let said = matches!(code, CloseCode::LEAVING | CloseCode::NORMAL).then_some(now.tick);
            self.peer_down(now, &c, code, heard.or(said), out);
        }
    }

    /// The last connection to a peer has ended. If the peer itself may be gone, and not just has no room
    /// for us, until when it was there.
    fn peer_down(&mut self, now: Now, last: &Conn, code: CloseCode, there: Option<Tick>, out: &mut Vec<Out>) {
        let peer = last.peer;
        self.pool.down(&peer);
        self.links.go(&LinkKey::Device(peer), LinkState::Disconnected);
        let trust = self.roster.trust(&last.user);
        self.roster.linked(&last.user, peer, trust, false, now);
        if let Some(there) = there {
            self.roster.parted(&peer, there, code == CloseCode::LEAVING, now.tick, &self.tuning);
        }
        self.presence.down(&peer, now.tick, &self.tuning);
        self.outbox.new_path(&peer);
        self.epochs.remove(&peer);
        self.roster_changed = true;
        for (op, error) in self.queries.gone(peer) {
            out.push(Out::Answer { op, answer: Answer::Routes(Err(error)) });
        }
        for (op, error) in self.relay.gone(peer) {
            out.push(Out::Answer { op, answer: Answer::Forwarded(Err(error)) });
        }
        self.store(Stored::Relaxed, vec![Write::Disconnected { peer }], out);
        out.push(Out::Tell(Event::Disconnected { peer, user: last.user.clone(), code }));
        if self.phase != Phase::Running {
            return;
        }
        if matches!(code, CloseCode::LOST | CloseCode::TIMEOUT) {
            // who lost us may believe that we are gone
            self.presence.speak_up();
            self.lost(now, peer, out);
        }
        let unwanted =
            [CloseCode::LEAVING, CloseCode::FULL, CloseCode::REFUSED, CloseCode::PROTOCOL, CloseCode::BLOCKED];
        let welcome = unwanted.contains(&code).then(|| self.turned_away(now, peer, now.tick - last.since));
        self.carrier_gone(now, &peer, out);
        self.relay_flush(now, peer, out);
        if self.outbox.has_open(&peer) && !self.courier.carries(&peer) {
            match welcome {
                Some(next) => self.retry_at(now, &last.user, next),
                None => self.retry_soon(now, &last.user),
            }
        }
        self.anchors_soon(now);
    }

    /// The member list is about to lose somebody: should it turn out to be our own fault, it stays.
    fn remember_roster(&mut self, now: Now) {
        if self.frozen.is_none() && self.before.as_ref().is_none_or(|(at, _)| now.tick - *at > FAULT_WINDOW) {
            self.before = Some((now.tick, Box::new(self.roster(now))));
        }
    }

    /// Somebody was lost, and others are still there.
    pub(super) fn forget_before(&mut self, now: Now) {
        if !self.pool.is_empty() && self.before.as_ref().is_some_and(|(at, _)| now.tick - *at > FAULT_WINDOW) {
            self.before = None;
        }
    }

    /// Several links lost at once, and none left: that is us, not them.
    fn lost(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        self.losses.retain(|(at, _)| now.tick - *at <= FAULT_WINDOW);
        self.losses.push_back((now.tick, peer));
        if self.pool.is_empty() && self.losses.len() >= FAULT_LINKS {
            self.freeze(out);
        }
    }

    /// Our own network is down: nobody else is to blame, and the member list stays as it was.
    pub(super) fn freeze(&mut self, out: &mut Vec<Out>) {
        if !self.pool.is_empty() || self.frozen.is_some() {
            return;
        }
        let Some((_, mut before)) = self.before.take() else { return };
        before.frozen = true;
        self.frozen = Some(before);
        for (_, peer) in std::mem::take(&mut self.losses) {
            self.roster.absolve(&peer);
        }
        out.push(Out::Tell(Event::LocalFault));
    }

    pub(super) fn check_links(&mut self, now: Now, out: &mut Vec<Out>) {
        let mut verdicts = Vec::new();
        self.liveness.advance(now.tick, &self.tuning, &mut verdicts);
        for verdict in verdicts {
            match verdict {
                Verdict::Ping(conn, number) => {
                    self.write(conn, Frame::Ping(number), out);
                }
                Verdict::Dead(conn) => {
                    out.push(Out::Close { conn, code: CloseCode::TIMEOUT });
                    self.down(now, conn, CloseCode::TIMEOUT, out);
                }
            }
        }
        self.banned.retain(|_, until| *until > now.tick);
    }

    /// Our network changed: every link has to prove itself.
    pub(super) fn probe_all(&mut self, now: Now, out: &mut Vec<Out>) {
        let conns: Vec<_> = self.conns.keys().copied().collect();
        for conn in conns {
            let number = self.liveness.ping(conn, now.tick);
            self.write(conn, Frame::Ping(number), out);
        }
    }

    pub(super) fn protocol_error(&mut self, now: Now, conn: ConnId, out: &mut Vec<Out>) {
        self.metrics.protocol_errors += 1;
        let over = self.faults.get_mut(&conn).is_some_and(|b| !b.take(now.tick));
        if over && let Some(peer) = self.conns.get(&conn).map(|c| c.peer) {
            self.banned.insert(peer, now.tick.plus(BAN));
            self.close_peer(now, &peer, CloseCode::PROTOCOL, out);
        }
    }

    pub(super) fn credit(&mut self, now: Now, conn: ConnId, control: u32, data: u32, bytes: usize, out: &mut Vec<Out>) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        c.credit.control += control;
        c.credit.data += data;
        c.credit.bytes += bytes;
        c.data_written += u64::from(data);
        let peer = c.peer;
        self.relays_written(conn, out);
        if data > 0 && self.writer(&peer) == Some(conn) {
            self.flush(now, peer, out);
        }
    }

    pub(super) fn approached(&mut self, peer: PeerId) {
        self.links.approached(&LinkKey::Device(peer));
    }

    pub(super) fn withdrawn(&mut self, peer: PeerId) {
        self.links.withdrawn(&LinkKey::Device(peer));
    }

    /// Connections that do not run through a TURN server.
    pub(super) fn direct_links(&self) -> usize {
        let direct =
            |p: &PeerId| self.writer(p).and_then(|c| self.conns.get(&c)).is_some_and(|c| c.kind != PathKind::Turn);
        self.by_peer.keys().filter(|p| direct(p)).count()
    }

    /// Whether an error says something about the peer.
    pub(super) fn blames(retry: Retry) -> bool {
        retry != Retry::LocalFault
    }
}
