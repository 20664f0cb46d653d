//! What is sent, sent again, and given up.
//!
//! A message is durable before the network sees a byte of it. It has one row per device of the
//! recipient, or one unbound row while none is known. Each device has a lane: a random epoch and
//! consecutive numbers, so that the recipient can order and deduplicate without clocks.

mod binding;
mod bodies;
mod relaying;
mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use byway_api::{Durability, MessageId, OutboxRow, OutboxState, PeerId, UserId, WallTime, Write};
use byway_wire::Direct;
use byway_wire::ReceiptKind;
use byway_wire::limits;

use self::rows::{Lane, Message, Row, delivery};
use crate::META_PREFIX;
use crate::io::{Refusal, SendCommand};
use crate::machine::{Now, OpId, Tick};
use crate::rng::Rng;
use crate::status::{Delivery, DeviceDelivery};
use crate::tuning::Tuning;

/// What a message costs in a connection's queue besides its body, at most.
pub const FRAME_OVERHEAD: usize = 128;
/// Numbers that are reserved in the store at a time, so that not every message writes the counter.
const RESERVED: u64 = 1_024;
/// Delivered messages that still wait for their READ receipt; beyond that the oldest are forgotten.
pub const AWAITING_READ: usize = 10_000;

/// What an acknowledgement or an expiry changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The message.
    pub message: MessageId,
    /// To whom.
    pub user: UserId,
    /// To which device.
    pub peer: Option<PeerId>,
    /// Where it stands there.
    pub delivery: Delivery,
    /// No device had it before.
    pub first: bool,
    /// From `send` to this moment.
    pub took: Duration,
}

/// The next thing to do for a lane.
#[derive(Debug)]
pub enum Next {
    /// Write this.
    Write(Direct),
    /// Bodies have to be read from the store first: those of [`Outbox::missing`].
    Fetch,
    /// Nothing to write now.
    Nothing,
}

/// Messages on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: BTreeMap<MessageId, Message>,
    lanes: BTreeMap<PeerId, Lane>,
    unbound: BTreeMap<UserId, BTreeSet<(WallTime, MessageId)>>,
    /// By the clock on the wall, which may be set while they wait.
    expiries: BTreeSet<(WallTime, MessageId)>,
    /// The time as it was last told.
    now: Now,
    delivered: VecDeque<MessageId>,
    /// The latest `queued_at` that was given out.
    last_queued: WallTime,
    waiting: usize,
    bytes: usize,
    held: usize,
}

impl Outbox {
    /// Messages that wait for their acknowledgement.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Messages to a user that wait.
    pub fn waiting_for(&self, user: &UserId) -> usize {
        self.messages.values().filter(|m| m.user == *user && m.waits()).count()
    }

    /// Users with messages that are durable and wait.
    pub fn waiting_users(&self) -> BTreeSet<UserId> {
        let waiting = self.messages.values().filter(|m| m.waits());
        waiting.map(|m| m.user.clone()).collect()
    }

    /// Where a message stands on each device.
    pub fn deliveries(&self, message: &MessageId) -> Vec<DeviceDelivery> {
        let rows = self.messages.get(message).map_or(&[][..], |m| &m.rows);
        rows.iter().map(|r| DeviceDelivery { peer: r.peer, delivery: r.delivery(), via: r.via }).collect()
    }

    /// A stored header. Its body is fetched when it is written.
    pub fn load(&mut self, now: Now, row: &OutboxRow) {
        self.last_queued = self.last_queued.max(row.queued_at);
        let message = self.messages.entry(row.message).or_insert_with(|| {
            self.expiries.insert((row.expires_at, row.message));
            Message {
                user: row.to_user.clone(),
                reply_to: row.reply_to,
                queued_at: row.queued_at,
                expires_at: row.expires_at,
                size: row.size,
                body: None,
                accepting: None,
                taken_at: now.tick,
                rows: Vec::new(),
            }
        });
        if row.state == OutboxState::Queued {
            if message.rows.iter().all(|r| r.state != OutboxState::Queued) {
                self.waiting += 1;
                self.bytes += row.size as usize;
            }
            match row.to_peer {
                Some(peer) => {
                    let lane = self.lanes.entry(peer).or_default();
                    if lane.epoch == 0 {
                        lane.epoch = row.epoch;
                    }
                    if lane.epoch == row.epoch {
                        lane.next = lane.next.max(row.seq + 1);
                        lane.reserved = lane.reserved.max(lane.next);
                        lane.resumed = lane.next;
                    }
                    lane.open.insert(row.seq, row.message);
                }
                None => {
                    self.unbound.entry(row.to_user.clone()).or_default().insert((row.queued_at, row.message));
                }
            }
        } else if row.state == OutboxState::Delivered {
            self.delivered.push_back(row.message);
        }
        message.rows.push(Row {
            peer: row.to_peer,
            epoch: row.epoch,
            seq: row.seq,
            reserves: 0,
            state: row.state,
            tries: row.retry_count,
            via: None,
        });
    }

    /// A stored counter of a lane: numbers below it may have been used.
    pub fn load_lane(&mut self, key: &str, value: &[u8]) {
        let Some(peer) = key.strip_prefix(META_PREFIX).and_then(|k| k.strip_prefix("lane/")) else { return };
        let (Ok(peer), Some((epoch, next))) = (peer.parse::<PeerId>(), value.split_at_checked(8)) else { return };
        let (Ok(epoch), Ok(next)) = (epoch.try_into(), next.try_into()) else { return };
        let (epoch, next) = (u64::from_be_bytes(epoch), u64::from_be_bytes(next));
        let lane = self.lanes.entry(peer).or_default();
        if lane.epoch == 0 || lane.epoch == epoch {
            lane.epoch = epoch;
            lane.next = lane.next.max(next);
            lane.reserved = lane.next;
            lane.resumed = lane.next;
        }
    }

    /// The next number of a lane. Every batch reserves what it uses until a reservation is durable: one
    /// that fails must not leave the numbers of the next ones to be used again.
    fn number(lanes: &mut BTreeMap<PeerId, Lane>, rng: &mut Rng, peer: PeerId, batch: &mut Vec<Write>) -> Row {
        let lane = lanes.entry(peer).or_default();
        if lane.epoch == 0 {
            // 63 bits: stores keep signed integers
            lane.epoch = (rng.next_u64() >> 1).max(1);
        }
        let seq = lane.next;
        lane.next += 1;
        let mut reserves = 0;
        if lane.next > lane.reserved {
            reserves = seq + RESERVED;
            let value = [lane.epoch.to_be_bytes(), reserves.to_be_bytes()].concat();
            batch.push(Write::Meta {
                key: format!("{META_PREFIX}lane/{peer}"),
                value: Some(value.into()),
                durability: Durability::Durable,
            });
        }
        Row { peer: Some(peer), epoch: lane.epoch, seq, reserves, state: OutboxState::Queued, tries: 0, via: None }
    }

    /// No two messages have the same time: the order in which they were sent, which those without a
    /// device have nowhere else, survives in it. A burst runs ahead of the clock, by no more than a
    /// full outbox can push it; a clock that has jumped back by more is believed.
    fn next_queued_at(&mut self, wall: WallTime, tuning: &Tuning) -> WallTime {
        let next = self.last_queued.plus(Duration::from_millis(1));
        let burst = Duration::from_millis(tuning.outbox_messages as u64);
        self.last_queued = if next.since(wall) <= burst { next.max(wall) } else { wall };
        self.last_queued
    }

    /// Takes a message from the app: what has to be stored, or why not, or `None` if the same id is
    /// there already.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was changed.
    pub(crate) fn accept(
        &mut self,
        now: Now,
        rng: &mut Rng,
        tuning: &Tuning,
        command: SendCommand,
        devices: &[PeerId],
    ) -> Result<Option<Vec<Write>>, Refusal> {
        let SendCommand { op, to, message: id, body, reply_to, expires_at } = command;
        if self.messages.contains_key(&id) {
            return Ok(None);
        }
        if body.len() > limits::BODY_MAX {
            return Err(Refusal::TooLarge);
        }
        if self.waiting >= tuning.outbox_messages || self.bytes + body.len() > tuning.outbox_bytes {
            return Err(Refusal::QueueFull);
        }
        let queued_at = self.next_queued_at(now.wall, tuning);
        let mut batch = Vec::with_capacity(devices.len().max(1));
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let row = |peer: Option<PeerId>, epoch, seq| OutboxRow {
            message: id,
            to_user: to.clone(),
            to_peer: peer,
            epoch,
            seq,
            content: Some(body.clone()),
            size,
            reply_to,
            queued_at,
            expires_at,
            retry_count: 0,
            next_try: now.wall.plus(tuning.retry),
            state: OutboxState::Queued,
        };
        let mut rows = Vec::with_capacity(devices.len().max(1));
        for peer in devices {
            let numbered = Self::number(&mut self.lanes, rng, *peer, &mut batch);
            batch.push(Write::Append(row(Some(*peer), numbered.epoch, numbered.seq)));
            rows.push(numbered);
        }
        if rows.is_empty() {
            batch.push(Write::Append(row(None, 0, 0)));
            rows.push(Row::UNBOUND);
        }
        self.waiting += 1;
        self.bytes += body.len();
        let keep = self.held + body.len() <= tuning.bodies_in_memory;
        if keep {
            self.held += body.len();
        }
        self.expiries.insert((expires_at, id));
        self.messages.insert(
            id,
            Message {
                user: to,
                reply_to,
                queued_at,
                expires_at,
                size,
                body: keep.then_some(body),
                accepting: Some(op),
                taken_at: now.tick,
                rows,
            },
        );
        Ok(Some(batch))
    }

    /// The message is durable: the command to answer, and the devices whose lanes it entered.
    pub fn stored(&mut self, id: &MessageId) -> Option<(OpId, UserId, Vec<PeerId>)> {
        let message = self.messages.get_mut(id)?;
        let op = message.accepting.take()?;
        let mut peers = Vec::new();
        for row in &message.rows {
            match row.peer {
                Some(peer) => {
                    self.lanes.entry(peer).or_default().enter(row, *id);
                    peers.push(peer);
                }
                None => {
                    self.unbound.entry(message.user.clone()).or_default().insert((message.queued_at, *id));
                }
            }
        }
        Some((op, message.user.clone(), peers))
    }

    /// The message could not be stored: the command to answer. Nothing of it stays.
    pub fn not_stored(&mut self, id: &MessageId) -> Option<OpId> {
        let op = self.messages.get_mut(id)?.accepting.take()?;
        self.settle(id);
        self.remove(id);
        Some(op)
    }

    /// The command of the message with this id, if it is not durable yet.
    pub fn accepting(&self, id: &MessageId) -> bool {
        self.messages.get(id).is_some_and(|m| m.accepting.is_some())
    }

    /// A new path to a device: everything unacknowledged is written again, in order.
    pub fn new_path(&mut self, peer: &PeerId) {
        if let Some(lane) = self.lanes.get_mut(peer) {
            lane.cursor = 0;
            lane.in_flight = 0;
            lane.written_at = None;
        }
    }

    /// The next message for a device that is connected. Call again after writing.
    pub fn next(&mut self, now: Now, tuning: &Tuning, peer: &PeerId, room: usize) -> Next {
        let Some(lane) = self.lanes.get_mut(peer) else { return Next::Nothing };
        if lane.in_flight >= tuning.in_flight {
            return Next::Nothing;
        }
        loop {
            let Some((seq, id)) = lane.open.range(lane.cursor..).next().map(|(s, i)| (*s, *i)) else {
                return Next::Nothing;
            };
            let Some(message) = self.messages.get_mut(&id) else {
                lane.open.remove(&seq);
                continue;
            };
            if message.expires_at <= now.wall {
                // the sweep gives it up
                lane.cursor = seq + 1;
                continue;
            }
            if seq >= lane.resumed && lane.open.first_key_value().is_some_and(|(first, _)| *first < lane.resumed) {
                // The numbers between were never used. Only a floor above them tells the recipient not
                // to wait for them, and it rises when what is older is acknowledged.
                return Next::Nothing;
            }
            let Some(body) = &message.body else { return Next::Fetch };
            if body.len() + FRAME_OVERHEAD > room {
                return Next::Nothing;
            }
            let body = body.clone();
            let floor = lane.open.first_key_value().map_or(seq, |(s, _)| *s);
            lane.cursor = seq + 1;
            lane.in_flight += 1;
            lane.written_at.get_or_insert(now.tick);
            if let Some(row) = message.row(peer) {
                row.tries = row.tries.saturating_add(1);
            }
            return Next::Write(Direct {
                message: id,
                epoch: lane.epoch,
                seq,
                floor,
                sent_at: message.queued_at,
                expires_at: message.expires_at,
                reply_to: message.reply_to,
                body,
            });
        }
    }

    /// Lanes whose oldest write was not acknowledged in `tuning.retry`: they start over.
    pub fn stale(&mut self, now: Tick, tuning: &Tuning) -> Vec<PeerId> {
        let mut stale = Vec::new();
        for (peer, lane) in &mut self.lanes {
            if lane.written_at.is_some_and(|t| now - t >= tuning.retry) {
                lane.cursor = 0;
                lane.in_flight = 0;
                lane.written_at = None;
                // what the recipient does not take must not hold back the new messages for ever
                lane.resumed = 0;
                stale.push(*peer);
            }
        }
        stale
    }

    /// A receipt of a device: what it moved, and what to store.
    pub fn receipt(
        &mut self,
        now: Now,
        peer: &PeerId,
        kind: ReceiptKind,
        messages: &[MessageId],
        batch: &mut Vec<Write>,
    ) -> Vec<Moved> {
        let state = match kind {
            ReceiptKind::Delivered => OutboxState::Delivered,
            ReceiptKind::Read => OutboxState::Read,
            _ => return Vec::new(),
        };
        let mut moved = Vec::with_capacity(messages.len());
        for id in messages {
            let Some(message) = self.messages.get_mut(id) else { continue };
            let was_waiting = message.rows.iter().all(|r| r.state == OutboxState::Queued);
            let Some(row) = message.rows.iter_mut().find(|r| r.peer.as_ref() == Some(peer)) else { continue };
            if row.state >= state || row.state == OutboxState::Expired {
                continue;
            }
            let was_queued = row.state == OutboxState::Queued;
            row.state = state;
            let (seq, tries) = (row.seq, row.tries);
            if was_queued && let Some(lane) = self.lanes.get_mut(peer) {
                let oldest = lane.open.first_key_value().is_none_or(|(first, _)| *first >= seq);
                lane.open.remove(&seq);
                lane.in_flight = lane.in_flight.saturating_sub(1);
                if lane.in_flight == 0 {
                    lane.written_at = None;
                } else if oldest {
                    // only that brings the rest forward: newer ones must not keep an old one waiting
                    lane.written_at = Some(now.tick);
                }
            }
            let all_final = message.rows.iter().all(|r| r.state >= OutboxState::Read);
            let any_queued = message.rows.iter().any(|r| r.state == OutboxState::Queued);
            moved.push(Moved {
                message: *id,
                user: message.user.clone(),
                peer: Some(*peer),
                first: was_waiting,
                delivery: delivery(state),
                took: now.tick - message.taken_at,
            });
            if all_final {
                for row in &message.rows {
                    batch.push(Write::Forget { message: *id, to_peer: row.peer });
                }
            } else {
                batch.push(Write::Progress {
                    message: *id,
                    to_peer: Some(*peer),
                    state,
                    retry_count: tries,
                    next_try: now.wall,
                });
            }
            if was_waiting {
                self.waiting = self.waiting.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(message.size as usize);
                self.delivered.push_back(*id);
            }
            if !any_queued && let Some(body) = message.body.take() {
                self.held = self.held.saturating_sub(body.len());
            }
            if all_final {
                self.remove(id);
            }
        }
        while self.delivered.len() > AWAITING_READ
            && let Some(id) = self.delivered.pop_front()
        {
            if let Some(message) = self.messages.get(&id)
                && message.rows.iter().all(|r| r.state != OutboxState::Queued)
            {
                for row in &message.rows {
                    batch.push(Write::Forget { message: id, to_peer: row.peer });
                }
                self.remove(&id);
            }
        }
        moved
    }

    /// What time it is. Expiries follow the clock on the wall also when it is set.
    pub const fn clock(&mut self, now: Now) {
        self.now = now;
    }

    /// Gives up what has expired: what that moved, and what to store.
    pub fn expire(&mut self, now: Now, batch: &mut Vec<Write>) -> Vec<Moved> {
        let mut moved = Vec::new();
        while let Some(&(due, id)) = self.expiries.first()
            && due <= now.wall
        {
            self.expiries.pop_first();
            let Some(message) = self.messages.get(&id) else { continue };
            if message.accepting.is_some() {
                // the store is still at work
                self.expiries.insert((now.wall.plus(Duration::from_millis(100)), id));
                continue;
            }
            if message.waits() {
                moved.push(Moved {
                    message: id,
                    user: message.user.clone(),
                    peer: None,
                    first: true,
                    delivery: Delivery::Expired,
                    took: now.tick - message.taken_at,
                });
                self.settle(&id);
            }
            if let Some(message) = self.messages.get(&id) {
                for row in &message.rows {
                    batch.push(Write::Forget { message: id, to_peer: row.peer });
                }
            }
            self.remove(&id);
        }
        moved
    }

    /// The message does not wait any more.
    fn settle(&mut self, id: &MessageId) {
        if let Some(message) = self.messages.get(id) {
            self.waiting = self.waiting.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(message.size as usize);
        }
    }

    fn remove(&mut self, id: &MessageId) {
        let Some(message) = self.messages.remove(id) else { return };
        self.expiries.remove(&(message.expires_at, *id));
        if let Some(body) = &message.body {
            self.held = self.held.saturating_sub(body.len());
        }
        for row in &message.rows {
            match row.peer {
                Some(peer) => {
                    if let Some(lane) = self.lanes.get_mut(&peer)
                        && lane.open.get(&row.seq) == Some(id)
                        && lane.epoch == row.epoch
                    {
                        lane.open.remove(&row.seq);
                        // its in-flight slot, if it had one, is freed by the next path or by staleness
                    }
                }
                None => {
                    if let Some(set) = self.unbound.get_mut(&message.user) {
                        set.remove(&(message.queued_at, *id));
                        if set.is_empty() {
                            self.unbound.remove(&message.user);
                        }
                    }
                }
            }
        }
    }

    /// Whether something for the device is durable and not acknowledged.
    pub fn has_open(&self, peer: &PeerId) -> bool {
        self.lanes.get(peer).is_some_and(|l| !l.open.is_empty())
    }

    /// When [`Self::expire`] or [`Self::stale`] is due.
    pub fn deadline(&self, tuning: &Tuning) -> Option<Tick> {
        let expiry = self.expiries.first().map(|(at, _)| self.now.tick.plus(at.since(self.now.wall)));
        let stale = self.lanes.values().filter_map(|l| l.written_at).min().map(|t| t.plus(tuning.retry));
        [expiry, stale].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
