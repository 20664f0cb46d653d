//! Frames of neighbours: presence and questions.

use byway_api::{PeerId, SignalAddress, UserId, WallTime};
use byway_wire::{Frame, Goodbye, NetworkState, PeerFound, PeerQuery, Presence, VerifiedRecord, limits};

use super::NodeCore;
use crate::io::{Answer, AskError, FoundRoute, Out, RouteSource};
use crate::machine::{ConnId, Now, OpId};
use crate::query::{Answered, Heard};

impl NodeCore {
    pub(super) fn frame(&mut self, now: Now, conn: ConnId, frame: Frame, out: &mut Vec<Out>) {
        let Some(peer) = self.conns.get(&conn).map(|c| c.peer) else { return };
        self.liveness.heard(conn, now.tick);
        match frame {
            Frame::Direct(direct) => self.direct(now, conn, direct),
            Frame::Receipts(receipts) => self.receipts(now, peer, &receipts, out),
            Frame::Ping(number) => {
                self.write(conn, Frame::Pong(number), out);
            }
            Frame::Pong(number) => self.pong(now, conn, number, out),
            Frame::State(state) => self.state(now, peer, &state, out),
            Frame::Query(query) => self.query(now, peer, &query, out),
            Frame::Found(found) => self.answer(now, peer, &found, out),
            Frame::Relay(relay) => self.relay(now, conn, peer, relay, out),
            Frame::RelayAck(ack) => self.relay_ack(now, peer, &ack, out),
            Frame::Goodbye(goodbye) => self.goodbye(now, &goodbye, out),
            // a sign of life, or of a newer version
            _ => {}
        }
    }

    fn send_to(&mut self, peer: &PeerId, frame: Frame, out: &mut Vec<Out>) -> bool {
        self.writer(peer).is_some_and(|conn| self.write(conn, frame, out))
    }

    fn state(&mut self, now: Now, from: PeerId, state: &NetworkState, out: &mut Vec<Out>) {
        // clocks are set while links live: Hello's word on them grows old
        self.clock(now, from, state.timestamp);
        let Some(received) = self.presence.receive(&from, state, now.tick, &self.tuning) else { return };
        for record in &state.records {
            let peer = record.peer();
            let known = self.roster.slot(&peer).is_some();
            if peer != self.me.peer && (known || self.presence.may_introduce(&from, now.tick)) {
                self.learn(now, record, out);
            }
        }
        for entry in &state.presence {
            self.believe(now, from, entry, out);
        }
        if received.full {
            let links = state.presence.iter().filter(|e| e.link).map(|e| e.peer).collect();
            self.roster_changed |= self.roster.only_links(&from, &links);
            self.browse.at = None;
        }
        self.gossip(now, out);
    }

    /// What a neighbour says of one device.
    pub(super) fn believe(&mut self, now: Now, from: PeerId, entry: &Presence, out: &mut Vec<Out>) {
        if entry.peer == self.me.peer {
            return;
        }
        let slot = self.roster.slot(&entry.peer);
        let seq = slot.and_then(|s| self.roster.device_at(s)?.record()).map_or(0, VerifiedRecord::seq);
        if entry.record_seq > seq {
            self.presence.stranger(from, entry, now.tick, &self.tuning);
        }
        let Some(slot) = slot else { return };
        let heard = self.roster.hear(from, slot, entry, now, &self.tuning);
        self.presence.heard(&from, slot, heard, entry.record_seq >= seq, now.tick, &self.tuning);
        self.roster_changed |= heard.turned || heard.link;
        if heard.turned
            && self.roster.seems_online(&entry.peer, now, &self.tuning)
            && let Some(user) = self.roster.user(&entry.peer).cloned()
        {
            self.sign_of_life(now, entry.peer, &user);
            self.bind(now, &user, out);
        }
        if heard.link && entry.link {
            self.way_found(now, entry.peer, out);
        }
    }

    /// The record of a device is new: neighbours may have spoken of it before.
    pub(super) fn introduced(&mut self, now: Now, peer: &PeerId, out: &mut Vec<Out>) {
        let Some(slot) = self.roster.slot(peer) else { return };
        for (from, entry) in self.presence.met(peer, slot, now.tick, &self.tuning) {
            self.believe(now, from, &entry, out);
        }
    }

    /// Once in a while: who has not been heard of any more, and what could wait until now.
    pub(super) fn presence_tick(&mut self, now: Now) {
        if let Some(last) = self.presence.tick(now.tick, &self.tuning) {
            self.roster_changed |= self.roster.lapsed(last, now.tick);
        }
    }

    /// Tells neighbours what is due.
    pub(super) fn gossip(&mut self, now: Now, out: &mut Vec<Out>) {
        for peer in self.presence.due(now.tick) {
            self.tell(now, &peer, out);
        }
    }

    /// Tells a neighbour all that it does not know.
    pub(super) fn tell(&mut self, now: Now, peer: &PeerId, out: &mut Vec<Out>) {
        let Some(conn) = self.writer(peer) else { return };
        while self.conns.get(&conn).is_some_and(|c| c.credit.control > 0)
            && let Some(state) = self.presence.next(peer, &self.roster, &self.me.record, now, &self.tuning)
        {
            self.write(conn, Frame::State(state), out);
        }
        if self.conns.get(&conn).is_some_and(|c| c.credit.control == 0) {
            self.presence.postpone(peer, now.tick.plus(self.tuning.presence_delay));
        }
    }

    fn query(&mut self, now: Now, from: PeerId, query: &PeerQuery, out: &mut Vec<Out>) {
        if self.queries.heard(now.tick, from, query) == Heard::Ignore {
            return;
        }
        let (online, known) = self.known_devices(now, &query.user, &from);
        if online.is_empty() {
            let others: Vec<_> = self
                .by_peer
                .keys()
                .filter(|p| **p != from && self.writer(p).is_some())
                .take(limits::QUERY_FANOUT)
                .copied()
                .collect();
            if let Some(passed) = self.queries.pass_on(now.tick, from, query, others.clone()) {
                for peer in others {
                    if !self.send_to(&peer, Frame::Query(passed.clone()), out) {
                        let nothing = self.found_frame(&passed.user, &passed.request_id, Vec::new(), false, now);
                        self.pass_back(now, peer, &nothing, out);
                    }
                }
                return;
            }
        }
        let can_relay = !online.is_empty();
        let records = if can_relay { online } else { known };
        let answer = self.found_frame(&query.user, &query.request_id, records, can_relay, now);
        self.send_to(&from, Frame::Found(answer), out);
    }

    /// Records of a user's devices: those that are connected to us, and all that are known.
    fn known_devices(&self, now: Now, user: &UserId, asker: &PeerId) -> (Vec<VerifiedRecord>, Vec<VerifiedRecord>) {
        if *user == self.me.user {
            return (vec![self.me.record.clone()], Vec::new());
        }
        let devices = self.roster.devices_of(user);
        let record = |p: &PeerId| self.record(p).filter(|r| r.expires_at() > now.wall).cloned();
        let online = devices.iter().filter(|p| *p != asker && self.by_peer.contains_key(*p)).filter_map(record);
        let known = devices.iter().filter_map(record);
        (online.take(limits::FOUND_RECORDS).collect(), known.take(limits::FOUND_RECORDS).collect())
    }

    fn found_frame(
        &self,
        user: &UserId,
        id: &str,
        mut records: Vec<VerifiedRecord>,
        can_relay: bool,
        now: Now,
    ) -> PeerFound {
        let mut bytes = 0;
        records.retain(|r| {
            bytes += r.bytes().len();
            bytes <= limits::FOUND_BYTES
        });
        let address = records.first().and_then(|r| r.addresses().first().cloned());
        let seen = |r: &VerifiedRecord| self.roster.device(&r.peer()).and_then(|d| d.last_seen());
        let last_seen = if can_relay { now.wall } else { records.first().and_then(seen).unwrap_or_default() };
        PeerFound { user: user.clone(), request_id: id.to_owned(), address, last_seen, can_relay, records }
    }

    fn answer(&mut self, now: Now, from: PeerId, found: &PeerFound, out: &mut Vec<Out>) {
        match self.queries.answered(from, found) {
            Answered::Ours(op) => {
                let route = |r: &VerifiedRecord| FoundRoute {
                    peer: r.peer(),
                    address: self.way(found, from, r),
                    record: Some(r.clone()),
                    last_seen: (found.last_seen > WallTime::default()).then_some(found.last_seen),
                    source: RouteSource::Step,
                };
                let routes = found.records.iter().take(limits::FOUND_RECORDS).map(route).collect();
                out.push(Out::Answer { op, answer: Answer::Routes(Ok(routes)) });
            }
            Answered::PassBack(to, found) => self.pass_back_to(now, to, *found, out),
            Answered::Nobodys => {}
        }
    }

    /// The best way to a device that a neighbour told us of: through that neighbour if it can relay.
    fn way(&self, found: &PeerFound, from: PeerId, record: &VerifiedRecord) -> SignalAddress {
        match record.addresses().first() {
            Some(address) if !found.can_relay => address.clone(),
            _ => SignalAddress::through(from),
        }
    }

    fn pass_back(&mut self, now: Now, from: PeerId, found: &PeerFound, out: &mut Vec<Out>) {
        if let Answered::PassBack(to, found) = self.queries.answered(from, found) {
            self.pass_back_to(now, to, *found, out);
        }
    }

    /// Whoever is asked second-hand knows no way through us: the records are what counts. Where
    /// nobody knew anything, our own cache may.
    fn pass_back_to(&mut self, now: Now, to: PeerId, mut found: PeerFound, out: &mut Vec<Out>) {
        found.can_relay = false;
        if found.records.is_empty() {
            let (_, known) = self.known_devices(now, &found.user, &to);
            found = self.found_frame(&found.user.clone(), &found.request_id.clone(), known, false, now);
        }
        self.send_to(&to, Frame::Found(found), out);
    }

    pub(super) fn ask(&mut self, now: Now, op: OpId, neighbour: PeerId, user: UserId, out: &mut Vec<Out>) {
        let refuse = |error| Out::Answer { op, answer: Answer::Routes(Err(error)) };
        let Some(conn) = self.writer(&neighbour) else {
            out.push(refuse(AskError::NotConnected));
            return;
        };
        if self.conns.get(&conn).is_none_or(|c| c.credit.control == 0) {
            out.push(refuse(AskError::Busy));
            return;
        }
        let query = self.queries.ask(now.tick, op, neighbour, user, self.tuning.ask_timeout);
        self.write(conn, Frame::Query(query), out);
        self.liveness.wrote(conn, now.tick);
    }

    /// A neighbour leaves or has no room: those it names may have.
    fn goodbye(&mut self, now: Now, goodbye: &Goodbye, out: &mut Vec<Out>) {
        for record in goodbye.records.iter().take(limits::GOODBYE_RECORDS) {
            self.learn(now, record, out);
        }
    }
}
