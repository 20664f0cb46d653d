//! Connections: reliable and ordered while they live, with bounded queues and credits.

use std::collections::VecDeque;

use byway_api::{CloseCode, PathKind, Retry};
use byway_core::io::{Credit, DialError, In, Up};
use byway_core::{ConnId, OpId};
use byway_wire::{Frame, Lane, PeerHello, limits};

use super::world::{Do, Event, World};

/// The queue of a connection, as the driver makes it.
const CREDIT: Credit = Credit { control: 64, data: 256, bytes: 1 << 20 };
/// What a writer gives to the transport at once.
const BATCH: usize = 64 << 10;
/// Bytes in a millisecond.
const BANDWIDTH: u64 = 4_000;
/// What was written before a close has this long to go out.
const FLUSH_MS: u64 = 2_000;

#[derive(Debug)]
enum Parcel {
    Frame(Frame),
    End(CloseCode),
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: usize,
    life: u32,
    conn: ConnId,
    /// The dial that it answers.
    pub(super) dial: Option<OpId>,
    pub(super) up: bool,
    /// Its process has ended, or was told.
    pub(super) gone: bool,
    control: VecDeque<Frame>,
    data: VecDeque<(Frame, usize)>,
    /// What the core may write, by what it was told.
    granted: Credit,
    returned: Credit,
    credit_due: bool,
    pump_due: bool,
    closing: Option<CloseCode>,
    down_code: CloseCode,
    /// On its way to this end.
    wire: VecDeque<(u64, Parcel)>,
    last_arrival: u64,
}

impl End {
    const fn new(node: usize, life: u32, dial: Option<OpId>) -> Self {
        Self {
            node,
            life,
            conn: ConnId(0),
            dial,
            up: false,
            gone: false,
            control: VecDeque::new(),
            data: VecDeque::new(),
            granted: CREDIT,
            returned: Credit { control: 0, data: 0, bytes: 0 },
            credit_due: false,
            pump_due: false,
            closing: None,
            down_code: CloseCode::LOST,
            wire: VecDeque::new(),
            last_arrival: 0,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) ends: [End; 2],
    pub(super) broken: bool,
    pub(super) stalled: bool,
    latency: u64,
    /// Since when it has carried everything at once.
    pub(super) stable_since: u64,
}

impl Pipe {
    /// Both sides hold it, and it works.
    pub(super) fn lives(&self) -> bool {
        !self.broken && self.ends.iter().all(|e| e.up && !e.gone && e.closing.is_none())
    }
}

impl World {
    /// The data path of two nodes: milliseconds one way.
    pub(super) fn latency(&self, a: usize, b: usize) -> u64 {
        let (a, b) = (a.min(b) as u64, a.max(b) as u64);
        2 + (self.seed ^ (a * 31 + b).wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(17) % 90
    }

    /// A channel is open between two processes: Hello is over on both sides a little later.
    pub(super) fn open_pipe(&mut self, from: usize, to: usize, dial: OpId) {
        let id = self.next_pipe;
        self.next_pipe += 1;
        let latency = self.latency(from, to);
        let (here, there) = (self.nodes[from].life, self.nodes[to].life);
        let ends = [End::new(from, here, Some(dial)), End::new(to, there, None)];
        let pipe = Pipe { ends, broken: false, stalled: false, latency, stable_since: self.now };
        self.pipes.insert(id, pipe);
        let first = self.random.index(2);
        for side in [first, 1 - first] {
            let wait = if side == first { 1 } else { 1 + self.random.between(1, latency * 2) };
            let node = [from, to][side];
            self.at_node(node, wait, Do::Up { pipe: id, side });
        }
    }

    pub(super) fn pipe_up(&mut self, id: u64, side: usize) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let far = &pipe.ends[1 - side];
        let lost = pipe.broken || far.gone && !far.up;
        let (node, far, dial) = (pipe.ends[side].node, far.node, pipe.ends[side].dial);
        let cancelled = dial.is_some_and(|op| self.nodes[node].dialing.remove(&op).is_none());
        if lost || cancelled {
            pipe.ends[side].gone = true;
            if let Some(op) = dial.filter(|_| !cancelled) {
                let error = DialError { retry: Retry::Later, superseded: false, text: "hello failed".into() };
                self.feed(node, In::Dialed { op, result: Err(error) });
            }
            self.vanish(id, side, CloseCode::LOST);
            return;
        }
        let conn = ConnId(self.nodes[node].next_conn);
        self.nodes[node].next_conn += 1;
        let end = &mut pipe.ends[side];
        end.up = true;
        end.conn = conn;
        let other = &self.nodes[far];
        let record = self.records.get(&(other.peer, other.record_seq()));
        let member = record.map_or_else(|| unreachable!("every node has a record"), |r| r.member().clone());
        let hello = PeerHello {
            peer: other.peer,
            member,
            instance: other.instance,
            record_seq: other.record_seq(),
            revocation_seq: 0,
            capabilities: vec!["relay".into()],
            max_frame: limits::FRAME_MAX,
            time: self.clock(far).wall,
        };
        let peer = hello.peer;
        self.nodes[node].ends.insert(conn, (id, side));
        self.nodes[node].approached.remove(&peer);
        let up = Up {
            conn,
            hello,
            dialed: dial,
            rank: 0,
            transport: "sim",
            kind: PathKind::Direct,
            path: String::new(),
            credit: CREDIT,
        };
        self.feed(node, In::Up(Box::new(up)));
        if let Some(op) = dial {
            self.feed(node, In::Dialed { op, result: Ok(()) });
        }
    }

    /// The core writes: it must have the credit.
    pub(super) fn write(&mut self, node: usize, conn: ConnId, frame: Frame) {
        let Some(&(id, side)) = self.nodes[node].ends.get(&conn) else {
            self.violation(node, &format!("wrote to {conn:?}, which has ended: {frame:?}"));
            return;
        };
        if let Some(far) = self.pipes.get(&id).map(|p| p.ends[1 - side].node) {
            self.check_written(node, far, &frame);
        }
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let end = &mut pipe.ends[side];
        let closed = end.closing.is_some();
        let bytes = frame.encoded_len();
        self.stats.frames += 1;
        if matches!(frame, Frame::State(_)) {
            self.stats.presence_bytes += bytes as u64;
        }
        let granted = match frame.lane() {
            Lane::Control => {
                let ok = end.granted.control > 0;
                end.granted.control = end.granted.control.saturating_sub(1);
                end.control.push_back(frame);
                ok && end.control.len() <= CREDIT.control as usize
            }
            Lane::Data => {
                let ok = end.granted.data > 0 && end.granted.bytes >= bytes;
                end.granted.data = end.granted.data.saturating_sub(1);
                end.granted.bytes = end.granted.bytes.saturating_sub(bytes);
                end.data.push_back((frame, bytes));
                ok && end.data.len() <= CREDIT.data as usize
            }
        };
        if bytes > limits::FRAME_MAX {
            self.violation(node, &format!("a frame of {bytes} bytes"));
        }
        if !granted {
            self.violation(node, &format!("wrote to {conn:?} without credit"));
        }
        if closed {
            self.violation(node, &format!("wrote to {conn:?} after closing it"));
        }
        self.pump_soon(id, side, 0);
    }

    fn pump_soon(&mut self, id: u64, side: usize, wait: u64) {
        if let Some(pipe) = self.pipes.get_mut(&id)
            && !std::mem::replace(&mut pipe.ends[side].pump_due, true)
        {
            self.after(wait, Event::Pump { pipe: id, side });
        }
    }

    pub(super) fn pump(&mut self, id: u64, side: usize) {
        let (now, late) = (self.now, self.random.between(0, 3));
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.ends[side].pump_due = false;
        if pipe.broken || pipe.stalled || pipe.ends[side].gone {
            return;
        }
        let asleep = self.nodes[pipe.ends[side].node].asleep_until;
        if asleep > now {
            self.pump_soon(id, side, asleep - now);
            return;
        }
        let [a, b] = &mut pipe.ends;
        let (end, far) = if side == 0 { (a, b) } else { (b, a) };
        let arrival = far.last_arrival.max(now + pipe.latency + late);
        far.last_arrival = arrival;
        let mut sent = 0;
        while sent < BATCH {
            let (frame, bytes) = if let Some(frame) = end.control.pop_front() {
                end.returned.control += 1;
                let bytes = frame.encoded_len();
                (frame, bytes)
            } else if let Some((frame, bytes)) = end.data.pop_front() {
                end.returned.data += 1;
                end.returned.bytes += bytes;
                (frame, bytes)
            } else {
                break;
            };
            sent += bytes;
            far.wire.push_back((arrival, Parcel::Frame(frame)));
        }
        if end.data.capacity() > 64 && end.data.is_empty() {
            end.data.shrink_to(8);
        }
        let (node, conn) = (end.node, end.conn);
        let more = !(end.control.is_empty() && end.data.is_empty());
        self.stats.packets += u64::from(sent > 0);
        let ends_now = end.closing.filter(|_| !more);
        if let Some(code) = ends_now {
            far.wire.push_back((arrival, Parcel::End(code)));
        }
        let credit = end.up && !std::mem::replace(&mut end.credit_due, true);
        self.at(arrival, Event::Arrive { pipe: id, side: 1 - side });
        if credit {
            self.at_node(node, 1, Do::Credit(conn));
        }
        if more {
            self.pump_soon(id, side, 1 + sent as u64 / BANDWIDTH);
        } else if let Some(code) = ends_now {
            self.down_soon(id, side, code);
        }
    }

    pub(super) fn give_credit(&mut self, node: usize, conn: ConnId) {
        let Some(&(id, side)) = self.nodes[node].ends.get(&conn) else { return };
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let end = &mut pipe.ends[side];
        end.credit_due = false;
        let Credit { control, data, bytes } = std::mem::take(&mut end.returned);
        end.granted.control += control;
        end.granted.data += data;
        end.granted.bytes += bytes;
        if control > 0 || data > 0 {
            self.feed(node, In::Credit { conn, control, data, bytes });
        }
    }

    pub(super) fn arrive(&mut self, id: u64, side: usize) {
        loop {
            let Some(pipe) = self.pipes.get_mut(&id) else { return };
            let end = &mut pipe.ends[side];
            if pipe.broken || pipe.stalled || end.gone || end.wire.front().is_none_or(|(at, _)| *at > self.now) {
                return;
            }
            let (node, conn) = (end.node, end.conn);
            let asleep = self.nodes[node].asleep_until;
            if !end.up || asleep > self.now {
                let at = asleep.max(self.now + 5);
                self.at(at, Event::Arrive { pipe: id, side });
                return;
            }
            if end.wire.len() == 1 && end.wire.capacity() > 64 {
                end.wire.shrink_to(8);
            }
            match end.wire.pop_front() {
                Some((_, Parcel::Frame(frame))) => {
                    if let Frame::Direct(message) = &frame {
                        let id = message.message;
                        self.arrived_at(node, &id);
                    }
                    self.feed(node, In::Frame { conn, frame });
                }
                Some((_, Parcel::End(code))) => {
                    end.down_code = code;
                    self.pipe_down(id, side);
                }
                None => return,
            }
        }
    }

    /// The core ends a connection: what it wrote goes out first.
    pub(super) fn close(&mut self, node: usize, conn: ConnId, code: CloseCode) {
        let Some(&(id, side)) = self.nodes[node].ends.get(&conn) else { return };
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        if pipe.ends[side].closing.replace(code).is_some() {
            self.violation(node, &format!("closed {conn:?} twice"));
        }
        self.pump_soon(id, side, 0);
        self.after(FLUSH_MS, Event::Down { pipe: id, side });
    }

    fn down_soon(&mut self, id: u64, side: usize, code: CloseCode) {
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.ends[side].down_code = code;
        }
        let wait = if self.random.chance(self.weather.late_down) {
            self.random.between(500, 8_000)
        } else {
            self.random.between(0, 30)
        };
        self.after(wait, Event::Down { pipe: id, side });
    }

    /// One end learns that it is over; the last thing that it hears of the connection.
    pub(super) fn pipe_down(&mut self, id: u64, side: usize) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let end = &mut pipe.ends[side];
        if end.gone {
            return;
        }
        let (node, life, conn, up, code) = (end.node, end.life, end.conn, end.up, end.down_code);
        let n = &self.nodes[node];
        if n.life == life && n.core.is_some() && n.asleep_until > self.now {
            let until = n.asleep_until;
            self.at(until, Event::Down { pipe: id, side });
            return;
        }
        end.gone = true;
        end.wire.clear();
        let dial = end.dial.filter(|_| !up);
        self.vanish(id, side, CloseCode::LOST);
        if let Some(op) = dial.filter(|_| self.nodes[node].life == life)
            && self.nodes[node].dialing.remove(&op).is_some()
        {
            let error = DialError { retry: Retry::Later, superseded: false, text: "hello failed".into() };
            self.feed(node, In::Dialed { op, result: Err(error) });
        }
        if up && self.nodes[node].life == life && self.nodes[node].ends.remove(&conn).is_some() {
            self.feed(node, In::Down { conn, code });
        }
    }

    /// The process of one end is no more, or has let go: the other end finds out.
    pub(super) fn vanish(&mut self, id: u64, side: usize, code: CloseCode) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.ends[side].gone = true;
        pipe.ends[side].wire.clear();
        let far = &pipe.ends[1 - side];
        if far.gone {
            self.pipes.remove(&id);
            return;
        }
        // an orderly end is on the wire already
        if !far.wire.iter().any(|(_, p)| matches!(p, Parcel::End(_))) {
            let wait = if self.random.chance(self.weather.late_end) {
                self.random.between(1_000, 20_000)
            } else {
                self.random.between(0, 500)
            };
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.ends[1 - side].down_code = code;
            }
            self.after(wait, Event::Down { pipe: id, side: 1 - side });
        }
    }

    /// Channels of a process that died before Hello was over.
    pub(super) fn vanish_unborn(&mut self, node: usize) {
        let unborn = |e: &End| e.node == node && !e.up && !e.gone;
        let ids: Vec<_> =
            self.pipes.iter().flat_map(|(id, p)| (0..2).filter(|s| unborn(&p.ends[*s])).map(|s| (*id, s))).collect();
        for (id, side) in ids {
            self.vanish(id, side, CloseCode::LOST);
        }
    }

    /// What is on the wire is lost, and both ends find out.
    pub(super) fn break_pipe(&mut self, id: u64) {
        let healed = self.healed.is_some();
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        if pipe.broken || (healed && !pipe.stalled) {
            return;
        }
        pipe.broken = true;
        for end in &mut pipe.ends {
            end.wire.clear();
        }
        let node = pipe.ends[0].node;
        self.trace.note(self.now, node, "break", [id, 0]);
        self.stats.breaks += 1;
        for side in 0..2 {
            self.down_soon(id, side, CloseCode::LOST);
        }
    }

    /// Whether two nodes never connect directly.
    pub(super) fn kept_apart(&self, a: usize, b: usize) -> bool {
        self.plan.apart.contains(&(a.min(b), a.max(b)))
    }

    /// Whether two places reach each other; the registry is beyond all of them.
    pub(super) fn reach(&self, a: usize, b: usize) -> bool {
        // the places of a cut are in order
        let beyond = |apart: &[usize], place| apart.binary_search(&place).is_ok();
        self.cuts.iter().all(|apart| beyond(apart, a) == beyond(apart, b))
    }

    /// After a partition has begun or ended.
    pub(super) fn restall(&mut self) {
        let ids: Vec<_> = self.pipes.keys().copied().collect();
        for id in ids {
            let Some(pipe) = self.pipes.get(&id) else { continue };
            let stalled = !self.reach(pipe.ends[0].node, pipe.ends[1].node);
            if stalled == pipe.stalled {
                continue;
            }
            let now = self.now;
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.stalled = stalled;
                pipe.stable_since = now;
            }
            if stalled {
                let wait = self.random.between(3_000, 20_000);
                self.after(wait, Event::Break(id));
            } else {
                for side in 0..2 {
                    self.after(0, Event::Arrive { pipe: id, side });
                    self.pump_soon(id, side, 0);
                }
            }
        }
    }
}
