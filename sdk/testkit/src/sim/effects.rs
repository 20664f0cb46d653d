//! Carrying out what a core wants done, in this world.

use byway_api::{Applied, StoreErrorKind, Write};
use byway_core::OpId;
use byway_core::io::{Answer, Event, In, Out};
use byway_wire::{Beacon, Frame};

use super::node::Asked;
use super::registry::Call;
use super::world::{Do, World};

/// Name and ids of an input, for the trace.
pub(super) fn label(input: &In) -> (&'static str, [u64; 2]) {
    match input {
        In::Loaded(_) => ("loaded", [0, 0]),
        In::Start => ("start", [0, 0]),
        In::Me(r) => ("me", [r.seq(), 0]),
        In::Beacon(b) => ("beacon", [b.at.as_millis().unsigned_abs(), 0]),
        In::Wake => ("wake", [0, 0]),
        In::Send(c) => ("send", [c.op.0, c.body.len() as u64]),
        In::Seek(_) => ("seek", [0, 0]),
        In::Read { op, key } => ("read", [op.0, key.seq]),
        In::Done { op, key } => ("done", [op.0, key.seq]),
        In::InboxRoom(n) => ("room", [u64::from(*n), 0]),
        In::Block { op, .. } => ("block", [op.0, 0]),
        In::Trust { op, .. } => ("trust", [op.0, 0]),
        In::Suspend => ("suspend", [0, 0]),
        In::Resume => ("resume", [0, 0]),
        In::NetworkChanged => ("network", [0, 0]),
        In::Shutdown => ("shutdown", [0, 0]),
        In::Up(up) => ("up", [up.conn.0, up.dialed.map_or(0, |op| op.0)]),
        In::Down { conn, code } => ("down", [conn.0, u64::from(code.0)]),
        In::Frame { conn, frame } => (frame_label(frame), [conn.0, 0]),
        In::Credit { conn, control, data, .. } => ("credit", [conn.0, u64::from(control + data)]),
        In::Protocol { conn } => ("protocol", [conn.0, 0]),
        In::Stored { op, result } => ("stored", [op.0, u64::from(result.is_ok())]),
        In::LoadedPage { op, .. } => ("page", [op.0, 0]),
        In::Found { op, .. } => ("found", [op.0, 0]),
        In::StepEnded { op, .. } => ("step ended", [op.0, 0]),
        In::Sighting(_) => ("sighting", [0, 0]),
        In::BrowseEnded { op, .. } => ("browse ended", [op.0, 0]),
        In::Announced { op, ok } => ("announced", [op.0, u64::from(*ok)]),
        In::Answering { op } => ("answering", [op.0, 0]),
        In::Dialed { op, result } => ("dialed", [op.0, u64::from(result.is_ok())]),
        In::Approached { .. } => ("approached", [0, 0]),
        In::Withdrawn { .. } => ("withdrawn", [0, 0]),
        In::Ask { op, .. } => ("ask", [op.0, 0]),
        In::Forward { op, .. } => ("forward", [op.0, 0]),
        In::Sealed { op, result } => ("sealed", [op.0, u64::from(result.is_ok())]),
        In::Relayed { op, result } => ("relayed", [op.0, u64::from(result.is_ok())]),
        In::Admitted { op, admitted } => ("admitted", [op.0, u64::from(*admitted)]),
        In::Opened { op, letter } => ("opened", [op.0, u64::from(letter.is_some())]),
        _ => ("other", [0, 0]),
    }
}

const fn frame_label(frame: &Frame) -> &'static str {
    match frame {
        Frame::Query(_) => "query",
        Frame::Found(_) => "answer",
        Frame::State(_) => "state",
        Frame::Direct(_) => "direct",
        Frame::Receipts(_) => "receipts",
        Frame::Relay(_) => "relay",
        Frame::RelayAck(_) => "relay ack",
        Frame::Ping(_) => "ping",
        Frame::Pong(_) => "pong",
        Frame::Goodbye(_) => "goodbye",
        _ => "frame",
    }
}

impl World {
    pub(super) fn effect(&mut self, place: usize, out: Out) {
        self.trace.say(self.now, place, || format!("-> {out:?}"));
        match out {
            Out::Write { conn, frame } => self.write(place, conn, frame),
            Out::Close { conn, code } => self.close(place, conn, code),
            Out::Dial { op, peer, addresses } => self.dial(place, op, peer, addresses),
            Out::CancelDial { op } => self.cancel_dial(place, op),
            Out::Run { op, step, user } => self.run_step(place, op, step, user),
            Out::CancelRun { op } => self.cancel_run(place, op),
            Out::Browse { op, step } => self.browse(place, op, step),
            Out::Announce { op, leaving } => self.call(place, Call::Announce(op, leaving)),
            Out::Store { op, batch } => {
                self.nodes[place].batches.push_back((op, batch));
                self.commit_soon(place);
            }
            Out::Load { op, what } => {
                let wait = self.read_wait(place);
                self.at_node(place, wait, Do::Read(op, what));
            }
            Out::SignBeacon { at } => {
                let beacon = Beacon { peer: self.nodes[place].peer, at, signature: [0; 64] };
                self.tell(place, 0, In::Beacon(beacon));
            }
            Out::Mail { op, hop, mail } => self.mail(place, op, hop, &mail),
            Out::Seal { op, to, letter, introduce } => self.seal_letter(place, op, to.peer(), letter, introduce),
            Out::Relay { op, hop, mail } => self.relay_letter(place, op, hop, mail),
            Out::Admit { op, .. } => self.tell(place, 0, In::Admitted { op, admitted: true }),
            Out::Answer { op, answer } => self.answer(place, op, answer),
            Out::Tell(event) => self.app_hears(place, event),
            other => unreachable!("an effect that the simulator does not know: {other:?}"),
        }
    }

    /// How long a commit takes.
    fn store_wait(&mut self, place: usize) -> u64 {
        if self.nodes[place].slow_store == 0 && self.random.chance(self.weather.slow_store) {
            self.random.between(100, 1_500)
        } else {
            self.read_wait(place)
        }
    }

    /// How long the store takes to read something.
    pub(super) fn read_wait(&mut self, place: usize) -> u64 {
        match self.nodes[place].slow_store {
            0 => self.random.between(1, 12),
            slow => self.random.between(1, slow),
        }
    }

    fn commit_soon(&mut self, place: usize) {
        if self.nodes[place].committing == 0 && !self.nodes[place].batches.is_empty() {
            let wait = self.store_wait(place);
            self.nodes[place].committing = self.nodes[place].batches.len();
            self.at_node(place, wait, Do::Commit);
        }
    }

    /// What waited when the store began is committed as a whole, or not at all.
    pub(super) fn commit(&mut self, place: usize) {
        let n = &mut self.nodes[place];
        let group: Vec<_> = n.batches.drain(..std::mem::take(&mut n.committing)).collect();
        let full = n.disk_full;
        if n.batches.capacity() > 64 && n.batches.is_empty() {
            n.batches.shrink_to(16);
        }
        let fails = full > 0 && self.random.chance(full);
        if fails {
            self.nodes[place].unwritten_at = Some(self.now);
        }
        let mut answers = Vec::with_capacity(group.len());
        for (op, batch) in group {
            let result = if fails { Err(StoreErrorKind::DiskFull) } else { Ok(self.apply(place, batch)) };
            answers.push(In::Stored { op, result });
        }
        for answer in answers {
            self.feed(place, answer);
        }
        self.commit_soon(place);
    }

    pub(super) fn apply(&mut self, place: usize, batch: Vec<Write>) -> Vec<Applied> {
        let receives: Vec<_> = batch
            .iter()
            .map(|w| match w {
                Write::Receive { row, .. } => Some(row.message),
                _ => None,
            })
            .collect();
        let binds: Vec<_> = batch.iter().map(|w| matches!(w, Write::Bind { .. })).collect();
        let applied = self.nodes[place].store.apply(self.now, batch);
        for ((message, bind), applied) in receives.into_iter().zip(binds).zip(&applied) {
            match (message, applied) {
                (Some(message), Applied::Done) => self.stored_at(place, &message),
                (Some(_), _) => self.violation(place, "a message that was stored before arrived at the store again"),
                (None, Applied::Missing) if bind => self.violation(place, "a message to be bound is not in the store"),
                _ => {}
            }
        }
        applied
    }

    pub(super) fn read_store(&mut self, place: usize, op: OpId, load: &byway_api::Load) {
        let full = self.nodes[place].disk_full;
        let fails = full > 0 && self.random.chance(full / 4);
        if fails {
            self.nodes[place].unwritten_at = Some(self.now);
        }
        let result = if fails { Err(StoreErrorKind::Io) } else { Ok(self.nodes[place].store.load(load)) };
        self.feed(place, In::LoadedPage { op, result });
    }

    fn answer(&mut self, place: usize, op: OpId, answer: Answer) {
        let Some((asked, _)) = self.nodes[place].asked.remove(&op) else {
            self.violation(place, &format!("{op:?} is answered without having been asked, or twice: {answer:?}"));
            return;
        };
        match (asked, answer) {
            (Asked::Send(message), Answer::Queued { existing }) => self.queued(place, &message, existing),
            (Asked::Send(message), Answer::Refused(refusal)) => self.refused(place, &message, refusal),
            (Asked::Handed(relay), Answer::Forwarded(answer)) => self.handed(place, relay, answer),
            (Asked::Done, Answer::Done) | (Asked::Forwarded, Answer::Forwarded(_)) => {}
            (Asked::Routes { run, neighbour }, Answer::Routes(routes)) => self.routes(place, run, neighbour, routes),
            (asked, answer) => self.violation(place, &format!("{asked:?} is answered with {answer:?}")),
        }
    }

    fn app_hears(&mut self, place: usize, event: Event) {
        match event {
            Event::Message(item) => self.shown(place, *item),
            Event::Delivery { message, peer, delivery, .. } => self.moved(place, &message, peer, delivery),
            Event::IdentityConflict { user, newcomer } => {
                self.violation(place, &format!("took {newcomer:?} for an impostor of {user:?}"));
            }
            _ => {}
        }
    }
}
