//! Envelopes on our connections: handed over by us, passed on for others, and for us.

use byway_api::{PeerId, Sealed, WallTime};
use byway_wire::{Frame, Relay, RelayAck, RelayStatus, limits, peek};

use super::NodeCore;
use crate::io::{Answer, AskError, Out};
use crate::machine::{ConnId, Now, OpId};
use crate::relay::Admitting;

impl NodeCore {
    /// Writes an envelope to a neighbour, for its relay or for itself.
    pub(super) fn forward(&mut self, now: Now, op: OpId, hop: PeerId, mail: Sealed, out: &mut Vec<Out>) {
        let refuse = |error| Out::Answer { op, answer: Answer::Forwarded(Err(error)) };
        let Some(conn) = self.writer(&hop) else {
            out.push(refuse(AskError::NotConnected));
            return;
        };
        let to = mail.to;
        let id = self.relay.hand_over(op, hop, to, now.tick.plus(self.tuning.forward_timeout));
        let relay = Relay { mail, request_id: id.clone().into() };
        if self.write(conn, Frame::Relay(relay), out) {
            self.liveness.wrote(conn, now.tick);
        } else {
            self.relay.acknowledged(hop, &id);
            out.push(refuse(AskError::Busy));
        }
    }

    /// An envelope arrived: ours, or to be passed on one hop to a live neighbour. It goes nowhere else,
    /// so it cannot go round in circles.
    pub(super) fn relay(&mut self, now: Now, conn: ConnId, from: PeerId, frame: Relay, out: &mut Vec<Out>) {
        let to = frame.mail.to;
        if to == self.me.peer {
            self.mail(now, conn, from, frame, out);
            return;
        }
        let bytes = frame.mail.envelope.len();
        let blocked = |p: &PeerId| self.roster.user(p).is_some_and(|u| self.roster.is_blocked(u));
        let refusal = if to == from || !self.by_peer.contains_key(&to) || blocked(&to) || blocked(&from) {
            Some(RelayStatus::NotConnected)
        } else if peek(&frame.mail.envelope).is_ok_and(|head| expired(head.expires_at, now)) {
            Some(RelayStatus::Refused)
        } else if !self.relay.admit(now.tick, from, bytes) {
            Some(RelayStatus::Quota)
        } else {
            None
        };
        if let Some(status) = refusal {
            self.acknowledge(conn, RelayAck { request_id: frame.request_id, status }, out);
            return;
        }
        let op = self.op();
        out.push(Out::Admit { op, from, mail: frame.mail.clone() });
        self.relay.ask(op, Admitting { conn, from, frame });
    }

    /// The relay's policy has decided.
    pub(super) fn admitted(&mut self, now: Now, op: OpId, admitted: bool, out: &mut Vec<Out>) {
        let Some(Admitting { conn, from, frame }) = self.relay.answered(op) else { return };
        let Relay { mail, request_id } = frame;
        let status = match self.writer(&mail.to) {
            _ if !admitted => RelayStatus::Refused,
            None => RelayStatus::NotConnected,
            Some(onward) => self.pass_on(now, onward, from, mail, out),
        };
        self.acknowledge(conn, RelayAck { request_id, status }, out);
    }

    fn pass_on(&mut self, now: Now, onward: ConnId, from: PeerId, mail: Sealed, out: &mut Vec<Out>) -> RelayStatus {
        let bytes = mail.envelope.len();
        let frame = Relay { mail, request_id: self.relay.forwarding() };
        if !self.write(onward, Frame::Relay(frame), out) {
            return RelayStatus::Quota;
        }
        let place = self.conns.get(&onward).map_or(0, |c| c.data_given);
        self.relay.queued(onward, place, from, bytes);
        self.liveness.wrote(onward, now.tick);
        self.metrics.relayed += 1;
        RelayStatus::Forwarded
    }

    /// An envelope for us.
    fn mail(&mut self, now: Now, conn: ConnId, hop: PeerId, frame: Relay, out: &mut Vec<Out>) {
        let Relay { mail, request_id } = frame;
        let op = self.op();
        let status = if self.relay.open(now.tick, op, hop, mail.envelope.len()) {
            out.push(Out::Mail { op, hop, mail });
            RelayStatus::Forwarded
        } else {
            RelayStatus::Quota
        };
        self.acknowledge(conn, RelayAck { request_id, status }, out);
    }

    /// Whoever hands something over gets an answer, if need be as soon as there is room for it.
    fn acknowledge(&mut self, conn: ConnId, answer: RelayAck, out: &mut Vec<Out>) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        if self.conns.get(&conn).is_some_and(|c| c.credit.control == 0) {
            self.relay.owe(conn, answer);
        } else {
            self.write(conn, Frame::RelayAck(answer), out);
        }
    }

    /// A connection has written some of what it was given.
    pub(super) fn relays_written(&mut self, conn: ConnId, out: &mut Vec<Out>) {
        if let Some(written) = self.conns.get(&conn).map(|c| c.data_written) {
            self.relay.written(conn, written);
        }
        while self.conns.get(&conn).is_some_and(|c| c.credit.control > 0)
            && let Some(answer) = self.relay.owed(conn)
        {
            self.write(conn, Frame::RelayAck(answer), out);
        }
    }

    pub(super) fn relay_ack(&mut self, now: Now, from: PeerId, ack: &RelayAck, out: &mut Vec<Out>) {
        let Some((op, to)) = self.relay.acknowledged(from, &ack.request_id) else { return };
        match ack.status {
            RelayStatus::Forwarded if to != from => self.roster.relayed(&to, from, now.tick),
            RelayStatus::NotConnected | RelayStatus::Refused => self.no_way(now, &to, &from),
            _ => {}
        }
        self.roster_changed = true;
        out.push(Out::Answer { op, answer: Answer::Forwarded(Ok(ack.status)) });
    }

    /// By its own word a neighbour is no way to a device: none for a while.
    pub(super) fn no_way(&mut self, now: Now, to: &PeerId, through: &PeerId) {
        self.roster.not_relayed(to, through, now.tick);
        if let Some(book) = self.routes.get_mut(to) {
            book.not_through(through);
        }
    }
}

/// Clocks differ: only what is certainly over is not worth the way.
fn expired(at: WallTime, now: Now) -> bool {
    limits::clamp_time(at, now.wall).plus(limits::CREDENTIAL_SKEW) <= now.wall
}
