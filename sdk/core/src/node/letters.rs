//! Messages and receipts that go through neighbours, because there is no connection.

use byway_api::{Handoff, MessageId, PeerId, RelayErrorKind, Sealed};
use byway_wire::{Frame, Receipts};

use super::{NodeCore, Phase};
use crate::courier::{Cargo, Next, ParcelId};
use crate::inbox;
use crate::io::{Event, Letter, OpenedLetter, Out, SealFailure};
use crate::link::{LinkKey, LinkState};
use crate::machine::{Now, OpId};
use crate::outbox;
use crate::status::Delivery;

/// What a letter says besides its body, at most.
const LETTER_OVERHEAD: usize = 1_024;

impl NodeCore {
    /// Sends what waits for a device through neighbours that are connected to it, as far as there is
    /// room.
    pub(super) fn relay_flush(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        let has_open = self.outbox.has_open(&peer);
        if self.phase != Phase::Running || !has_open || self.ways(now, &peer).is_empty() {
            return;
        }
        for id in self.courier.waiting(&peer) {
            self.hand(now, id, out);
        }
        let blocked = self.roster.user(&peer).is_none_or(|user| self.roster.is_blocked(user));
        if blocked || self.courier.is_paused(&peer, now.tick) {
            return;
        }
        let Some(record) = self.record(&peer).filter(|r| r.expires_at() > now.wall).cloned() else { return };
        let mut any = false;
        while self.courier.has_room(&peer, &self.tuning) {
            match self.outbox.next(now, &self.tuning, &peer, usize::MAX) {
                outbox::Next::Write(message) => {
                    if cfg!(sim_bug = "relay_plaintext")
                        && let Some(conn) = self.ways(now, &peer).first().and_then(|hop| self.writer(hop))
                    {
                        self.write(conn, Frame::Direct(message.clone()), out);
                    }
                    let op = self.op();
                    let introduce = self.courier.is_stranger(&peer, self.me.record.seq());
                    let bytes = message.body.len() + LETTER_OVERHEAD;
                    self.courier.begin(op, peer, Cargo::Message(message.message), bytes);
                    out.push(Out::Seal { op, to: record.clone(), letter: Letter::Message(message), introduce });
                    any = true;
                }
                outbox::Next::Fetch => {
                    self.fetch_bodies(&peer, out);
                    break;
                }
                outbox::Next::Nothing => break,
            }
        }
        if any {
            self.links.go(&LinkKey::Device(peer), LinkState::RelayMode);
            self.upgrades.used(peer, now.tick, &self.tuning, true);
        }
    }

    /// Sends receipts to a device through neighbours; what gathers meanwhile shares the next envelope.
    pub(super) fn relay_receipts(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        let ready = self.phase == Phase::Running && !self.courier.is_paused(&peer, now.tick);
        if !ready || self.courier.has_receipts(&peer) || self.ways(now, &peer).is_empty() {
            return;
        }
        let Some(record) = self.record(&peer).filter(|r| r.expires_at() > now.wall).cloned() else { return };
        let Some((kind, messages)) = self.inbox.receipts(&peer) else { return };
        let op = self.op();
        let introduce = self.courier.is_stranger(&peer, self.me.record.seq());
        let bytes = LETTER_OVERHEAD + messages.len() * size_of::<MessageId>();
        self.courier.begin(op, peer, Cargo::Receipts(kind, messages.clone()), bytes);
        let letter = Letter::Receipts(Receipts { kind, messages, at: now.wall });
        out.push(Out::Seal { op, to: record, letter, introduce });
    }

    pub(super) fn sealed(&mut self, now: Now, op: OpId, result: Result<Sealed, SealFailure>, out: &mut Vec<Out>) {
        match result {
            Ok(mail) => {
                if let Some(id) = self.courier.sealed(op, mail) {
                    self.hand(now, id, out);
                }
            }
            Err(_) => {
                let Some((peer, cargo)) = self.courier.not_sealed(op) else { return };
                self.courier.pause(peer, now.tick.plus(self.tuning.retry));
                match cargo {
                    Cargo::Receipts(kind, messages) => self.inbox.receipts_again(peer, kind, messages),
                    Cargo::Message(_) => {
                        self.unanswered(now, &peer);
                        self.outbox.new_path(&peer);
                    }
                }
            }
        }
    }

    /// Gives a sealed parcel to the best neighbour that is free.
    fn hand(&mut self, now: Now, id: ParcelId, out: &mut Vec<Out>) {
        let Some(to) = self.courier.to(id) else { return };
        let superseded = self.by_peer.contains_key(&to);
        if superseded || self.courier.message(id).is_some_and(|m| !self.outbox.is_open(&to, &m)) {
            // there is a connection, or nothing to say any more
            if let Some((peer, Cargo::Receipts(kind, messages))) = self.courier.take(id) {
                self.inbox.receipts_again(peer, kind, messages);
            }
            return;
        }
        let ways = self.ways(now, &to);
        match self.courier.next(now.tick, &self.tuning, id, &ways) {
            Next::Hand(hop, mail) => {
                let op = self.op();
                self.courier.handing(op, id, hop);
                out.push(Out::Relay { op, hop, mail });
            }
            Next::Wait => {}
            Next::NoWay => {
                self.links.go(&LinkKey::Device(to), LinkState::StoreForward);
                if self.courier.message(id).is_none() {
                    if let Some((peer, Cargo::Receipts(kind, messages))) = self.courier.take(id) {
                        self.inbox.receipts_again(peer, kind, messages);
                    }
                } else if let Some(user) = self.roster.user(&to).cloned() {
                    self.retry_soon(now, &user);
                }
            }
        }
    }

    /// The relay plugin has handed a parcel over, or not.
    pub(super) fn relayed(&mut self, now: Now, op: OpId, result: Result<Handoff, RelayErrorKind>, out: &mut Vec<Out>) {
        let Some((id, hop)) = self.courier.handed(op) else { return };
        let Some(to) = self.courier.to(id) else { return };
        match result {
            Ok(_) => {
                if let Some(message) = self.courier.passed_on(now.tick, &self.tuning, id, hop) {
                    self.passed_on(&to, message, hop, out);
                }
                return;
            }
            Err(RelayErrorKind::NotConnected | RelayErrorKind::Refused) => self.no_way(now, &to, &hop),
            Err(RelayErrorKind::NotNeighbour | RelayErrorKind::TooLarge | RelayErrorKind::Expired) => {}
            Err(_) => self.courier.rest(hop, now.tick.plus(self.tuning.relay_rest)),
        }
        if cfg!(sim_bug = "relay_silence_is_delivery")
            && result == Err(RelayErrorKind::Timeout)
            && let Some(message) = self.courier.message(id)
        {
            let kind = byway_wire::ReceiptKind::Delivered;
            self.receipts(now, to, &Receipts { kind, messages: vec![message], at: now.wall }, out);
            return;
        }
        self.courier.refused(id, hop);
        self.hand(now, id, out);
    }

    fn passed_on(&mut self, to: &PeerId, message: MessageId, hop: PeerId, out: &mut Vec<Out>) {
        self.metrics.sent_relayed += 1;
        if let Some(user) = self.outbox.relayed(to, &message, hop) {
            let via = self.roster.user(&hop).cloned();
            let (peer, delivery) = (Some(*to), Delivery::Relayed);
            out.push(Out::Tell(Event::Delivery { message, user, peer, delivery, via }));
        }
    }

    /// Parcels whose time has come.
    pub(super) fn letters_due(&mut self, now: Now, out: &mut Vec<Out>) {
        let (parcels, devices) = self.courier.due(now.tick);
        for id in parcels {
            self.hand(now, id, out);
        }
        for peer in devices {
            self.flush(now, peer, out);
        }
    }

    /// A device has not acknowledged anything for long, whoever carried it: everything to it is sealed
    /// anew, with our record, and it is sought.
    pub(super) fn unanswered(&mut self, now: Now, peer: &PeerId) {
        self.courier.drop_messages(peer);
        self.courier.forget_introduction(peer);
        if let Some(user) = self.roster.user(peer).cloned() {
            self.retry_soon(now, &user);
        }
    }

    /// Devices for which there was no room may have it now.
    pub(super) fn letters_denied(&mut self, now: Now, out: &mut Vec<Out>) {
        for peer in self.courier.denied(&self.tuning) {
            self.flush(now, peer, out);
        }
    }

    /// A neighbour is gone: what it carried goes through another one at once.
    pub(super) fn carrier_gone(&mut self, now: Now, hop: &PeerId, out: &mut Vec<Out>) {
        for id in self.courier.gone(hop) {
            self.hand(now, id, out);
        }
    }

    /// Nothing goes out any more; it waits in the outbox.
    pub(super) fn end_letters(&mut self) {
        for peer in self.courier.clear() {
            self.outbox.new_path(&peer);
        }
        self.upgrades.clear();
    }

    /// A neighbour is a way to a device, or its record is newer than what was known.
    pub(super) fn way_found(&mut self, now: Now, peer: PeerId, out: &mut Vec<Out>) {
        self.courier.resume(&peer);
        if !self.by_peer.contains_key(&peer) {
            self.relay_flush(now, peer, out);
        }
    }

    /// An envelope for us was opened: it is the word of the device that signed it.
    pub(super) fn opened(&mut self, now: Now, op: OpId, letter: Option<Box<OpenedLetter>>, out: &mut Vec<Out>) {
        let Some(hop) = self.relay.opened(op) else { return };
        let Some(letter) = letter.filter(|_| self.phase == Phase::Running) else { return };
        let OpenedLetter { sender, letter } = *letter;
        let (peer, user) = (sender.peer(), sender.user().clone());
        if peer == self.me.peer || self.roster.is_blocked(&user) || !self.learn(now, &sender, out) {
            return;
        }
        let banned = self.banned.get(&peer).is_some_and(|until| *until > now.tick);
        if banned {
            return;
        }
        self.pin(now, &user, peer, sender.member().authorized_by, out);
        if hop != peer {
            self.routes.entry(peer).or_default().add_told(hop, now.tick);
        }
        self.bind(now, &user, out);
        match letter {
            // numbers begin in an epoch; a message without one could not be told from its duplicate
            Letter::Message(message) if message.epoch == 0 => {}
            Letter::Message(mut message) => {
                self.metrics.received_relayed += 1;
                if cfg!(sim_bug = "relay_dedup_lost") {
                    message.epoch += self.metrics.received_relayed;
                }
                match self.inbox.arrived(now, &self.tuning, peer, &user, message) {
                    inbox::Verdict::Taken => self.came_through(now, peer, hop),
                    // a relay may show an old envelope again: no sign of life
                    inbox::Verdict::Duplicate => self.metrics.duplicates += 1,
                    inbox::Verdict::Refused => {}
                }
                if !self.by_peer.contains_key(&peer) {
                    self.upgrades.used(peer, now.tick, &self.tuning, false);
                }
            }
            Letter::Receipts(receipts) => {
                self.came_through(now, peer, hop);
                self.courier.introduced(peer, self.me.record.seq());
                self.receipts(now, peer, &receipts, out);
            }
        }
        self.flush(now, peer, out);
    }

    /// Something new came from a device: it is there, behind that neighbour.
    fn came_through(&mut self, now: Now, peer: PeerId, hop: PeerId) {
        if hop != peer {
            self.roster.relayed(&peer, hop, now.tick);
            self.roster_changed = true;
        }
    }
}
