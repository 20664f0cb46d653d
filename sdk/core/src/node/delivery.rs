//! Messages out, messages in, receipts.

use byway_api::{Load, PeerId, PinRow, Row, StoreErrorKind, UserId, Write};
use byway_wire::{Direct, Frame, Receipts};

use super::{Loading, NodeCore, Phase, Stored};
use crate::inbox;
use crate::io::{Answer, Event, Out, Refusal, SendCommand};
use crate::machine::{ConnId, Now, OpId};
use crate::outbox::{self, Moved};
use crate::status::Delivery;

/// Bodies that are read from the store at a time for one device.
const FETCH_AHEAD: usize = 16;

impl NodeCore {
    pub(super) fn send(&mut self, now: Now, command: SendCommand, out: &mut Vec<Out>) {
        let (op, id, user) = (command.op, command.message, command.to.clone());
        let refuse = |refusal| Out::Answer { op, answer: Answer::Refused(refusal) };
        if matches!(self.phase, Phase::Stopping | Phase::Loading) {
            out.push(refuse(Refusal::Stopping));
            return;
        }
        if self.roster.is_blocked(&user) {
            out.push(refuse(Refusal::Blocked));
            return;
        }
        let devices = self.roster.devices_of(&user);
        match self.outbox.accept(now, &mut self.rng, &self.tuning, command, &devices) {
            Ok(Some(batch)) => self.store(Stored::Append(id), batch, out),
            // the same id twice at once: the first one decides, this one must not claim durability
            Ok(None) if self.outbox.accepting(&id) => out.push(refuse(Refusal::Store(StoreErrorKind::Busy))),
            Ok(None) => out.push(Out::Answer { op, answer: Answer::Queued { existing: true } }),
            Err(refusal) => out.push(refuse(refusal)),
        }
    }

    pub(super) fn appended(&mut self, now: Now, id: &byway_api::MessageId, out: &mut Vec<Out>) {
        let Some((op, user, peers)) = self.outbox.stored(id) else { return };
        self.metrics.sent += 1;
        out.push(Out::Answer { op, answer: Answer::Queued { existing: false } });
        if peers.is_empty() {
            // a device may have become known while the store was at work
            self.bind(now, &user, out);
        }
        let mut linked = false;
        for peer in peers {
            self.flush(now, peer, out);
            linked |= self.by_peer.contains_key(&peer) || self.courier.carries(&peer);
        }
        if !linked && !self.sought_lately(now, &user) {
            self.seek(now, &user, out);
        }
    }

    /// Messages to a user without a known device get its devices.
    pub(super) fn bind(&mut self, now: Now, user: &UserId, out: &mut Vec<Out>) {
        if !self.outbox.is_unbound(user) {
            return;
        }
        let devices = self.roster.devices_of(user);
        let batches = self.outbox.bind(now, &mut self.rng, &self.tuning, user, &devices);
        if batches.is_empty() {
            return;
        }
        for peer in devices {
            let by = self.record(&peer).and_then(|r| r.member().authorized_by);
            self.pin(now, user, peer, by, out);
        }
        for (id, batch) in batches {
            self.store(Stored::Bind(id), batch, out);
        }
    }

    /// First use pins a device to its user, and with it the device that vouched for it: whoever met
    /// the second device first must not take the first one for an impostor.
    pub(super) fn pin(&mut self, now: Now, user: &UserId, peer: PeerId, by: Option<PeerId>, out: &mut Vec<Out>) {
        let pinned = self.roster.pin(user, peer);
        let vouched = by.is_some_and(|by| self.roster.pin(user, by));
        if pinned || vouched {
            // both or none: the one alone would make an impostor of the other after a restart
            let row = |peer| Write::Pin(PinRow { user: user.clone(), peer, since: now.wall });
            let pins = [Some(peer), by].into_iter().flatten().map(row).collect();
            self.store(Stored::Relaxed, pins, out);
        }
    }

    /// Writes what waits for a device, as far as its connection has room; without one it goes through
    /// neighbours.
    pub(super) fn flush(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        let Some(conn) = self.writer(&peer) else {
            self.relay_flush(now, peer, out);
            return;
        };
        let mut wrote = false;
        loop {
            let Some(credit) = self.conns.get(&conn).map(|c| c.credit) else { return };
            if credit.data == 0 {
                break;
            }
            match self.outbox.next(now, &self.tuning, &peer, credit.bytes) {
                outbox::Next::Write(direct) => {
                    let _room_was_checked = self.write(conn, Frame::Direct(direct), out);
                    debug_assert!(_room_was_checked);
                    wrote = true;
                }
                outbox::Next::Fetch => {
                    self.fetch_bodies(&peer, out);
                    break;
                }
                outbox::Next::Nothing => break,
            }
        }
        if wrote {
            self.liveness.wrote(conn, now.tick);
            self.pool.used(&self.tuning, &peer, now.tick);
        }
    }

    /// Reads the bodies of the next messages for a device from the store.
    pub(super) fn fetch_bodies(&mut self, peer: &PeerId, out: &mut Vec<Out>) {
        for id in self.outbox.missing(peer, FETCH_AHEAD) {
            if self.fetching.insert(id) {
                self.fetch(Load::OutboxContent(id), Loading::Outbox(id), out);
            }
        }
    }

    pub(super) fn direct(&mut self, now: Now, conn: ConnId, direct: Direct) {
        let Some(c) = self.conns.get(&conn) else { return };
        let (peer, user) = (c.peer, c.user.clone());
        if self.inbox.arrived(now, &self.tuning, peer, &user, direct) == inbox::Verdict::Duplicate {
            self.metrics.duplicates += 1;
        }
    }

    pub(super) fn receipts(&mut self, now: Now, peer: PeerId, receipts: &Receipts, out: &mut Vec<Out>) {
        let mut batch = Vec::new();
        let moved = self.outbox.receipt(now, &peer, receipts.kind, &receipts.messages, &mut batch);
        self.courier.acknowledged(&peer, &receipts.messages);
        self.tell_moved(moved, out);
        self.store(Stored::Relaxed, batch, out);
        self.flush(now, peer, out);
    }

    fn tell_moved(&mut self, moved: Vec<Moved>, out: &mut Vec<Out>) {
        for m in moved {
            match m.delivery {
                Delivery::Delivered | Delivery::Read if m.first => {
                    self.metrics.delivered += 1;
                    if m.took <= crate::view::DELIVERY_TARGET {
                        self.metrics.delivered_within_5s += 1;
                    }
                }
                Delivery::Expired => self.metrics.expired += 1,
                _ => {}
            }
            if m.delivery >= Delivery::Delivered && self.outbox.waiting() == 0 {
                self.retries.remove(&m.user);
            }
            let Moved { message, user, peer, delivery, .. } = m;
            out.push(Out::Tell(Event::Delivery { message, user, peer, delivery, via: None }));
        }
    }

    /// While two connections to a peer live, a receipt goes out on both: one of them is about to end, or
    /// dead already, and nobody sends a receipt again unasked. The second one changes nothing.
    pub(super) fn send_receipts(&mut self, now: Now, out: &mut Vec<Out>) {
        for peer in self.inbox.receipts_due() {
            let Some(conns) = self.by_peer.get(&peer).cloned() else {
                self.relay_receipts(now, peer, out);
                continue;
            };
            let room = |core: &Self| conns.iter().all(|id| core.conns.get(id).is_some_and(|c| c.credit.control > 0));
            while room(self) {
                let Some((kind, messages)) = self.inbox.receipts(&peer) else { break };
                for conn in &conns {
                    let receipts = Receipts { kind, messages: messages.clone(), at: now.wall };
                    self.write(*conn, Frame::Receipts(receipts), out);
                }
            }
        }
    }

    pub(super) fn show_messages(&mut self, out: &mut Vec<Out>) {
        loop {
            match self.inbox.next_for_app() {
                inbox::Next::Show(item) => out.push(Out::Tell(Event::Message(item))),
                inbox::Next::Fetch(key) => {
                    if !self.fetching_inbox {
                        self.fetching_inbox = true;
                        let what = Load::InboxContent { from_peer: key.from, epoch: key.epoch, seq: key.seq };
                        self.fetch(what, Loading::Inbox(key), out);
                    }
                    return;
                }
                inbox::Next::Nothing => return,
            }
        }
    }

    pub(super) fn loaded_page(
        &mut self,
        now: Now,
        op: OpId,
        result: Result<Vec<Row>, StoreErrorKind>,
        out: &mut Vec<Out>,
    ) {
        let Some(loading) = self.loads.remove(&op) else { return };
        if let Err(kind) = result {
            out.push(Out::Tell(Event::StoreFailed(kind)));
        }
        match loading {
            Loading::Outbox(id) => {
                self.fetching.remove(&id);
                let Ok(rows) = result else {
                    self.outbox.unread(&id, now.tick);
                    return;
                };
                let body = rows.into_iter().find_map(|r| if let Row::Outbox(r) = r { r.content } else { None });
                let found = body.is_some();
                self.outbox.fetched(&id, body);
                if found {
                    let peers: Vec<_> = self.outbox.deliveries(&id).into_iter().filter_map(|d| d.peer).collect();
                    for peer in peers {
                        self.flush(now, peer, out);
                    }
                }
            }
            Loading::Inbox(key) => {
                self.fetching_inbox = false;
                let Ok(rows) = result else { return };
                let body = rows.into_iter().find_map(|r| if let Row::Inbox(r) = r { r.content } else { None });
                self.inbox.fetched(&key, body);
            }
        }
    }

    /// Gives up what has expired, and starts stale lanes over.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<Out>) {
        let mut batch = Vec::new();
        let moved = self.outbox.expire(now, &mut batch);
        self.tell_moved(moved, out);
        self.store(Stored::Relaxed, batch, out);
        for peer in self.outbox.stale(now.tick, &self.tuning) {
            if !self.by_peer.contains_key(&peer) {
                self.unanswered(now, &peer);
            }
            self.flush(now, peer, out);
        }
    }

    pub(super) fn block(&mut self, now: Now, op: OpId, user: UserId, blocked: bool, out: &mut Vec<Out>) {
        self.roster.block(user.clone(), blocked);
        self.roster_changed = true;
        if blocked {
            for peer in self.roster.devices_of(&user) {
                self.close_peer(now, &peer, byway_api::CloseCode::BLOCKED, out);
                self.courier.drop_device(&peer);
                self.outbox.new_path(&peer);
                self.upgrades.connected(&peer);
            }
            self.drop_lookup(&user, out);
            self.retries.remove(&user);
        }
        self.store(Stored::Command(op), vec![Write::Block { user, blocked }], out);
    }

    pub(super) fn trust(&mut self, now: Now, op: OpId, user: &UserId, peer: PeerId, out: &mut Vec<Out>) {
        for old in self.roster.devices_of(user) {
            if old != peer {
                self.close_peer(now, &old, byway_api::CloseCode::REFUSED, out);
                self.courier.drop_device(&old);
            }
        }
        for slot in self.roster.devices_of(user).iter().filter(|p| **p != peer).filter_map(|p| self.roster.slot(p)) {
            self.presence.forget(slot);
        }
        self.roster.repin(user, peer);
        self.roster_changed = true;
        let pin = PinRow { user: user.clone(), peer, since: now.wall };
        self.store(Stored::Command(op), vec![Write::Unpin { user: user.clone() }, Write::Pin(pin)], out);
    }
}
