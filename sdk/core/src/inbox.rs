//! What was seen before, and in which order the app sees it.
//!
//! Received means: the row and its mark are durable. Only then is a receipt due. One batch is with
//! the store at a time, so a mark never covers a message whose own write may still fail, and what
//! arrives meanwhile shares the next commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use byway_api::{Applied, InboxRow, InboxState, MessageId, PeerId, SeenRow, UserId, WallTime, Write};
use byway_wire::Direct;
use byway_wire::ReceiptKind;
use byway_wire::limits;

use crate::io::{InboxItem, InboxKey};
use crate::machine::{Now, Tick};
use crate::tuning::Tuning;

/// Epochs remembered per sending device.
pub const EPOCHS: usize = 4;
/// Receipts that wait for one device; what is beyond is asked for again by its sender.
pub const RECEIPTS_WAITING: usize = 4_096;
/// Writes in one batch.
const BATCH: usize = 1_024;

/// What was seen of one epoch, and what of it the app was shown.
#[derive(Clone, Debug)]
struct Epoch {
    epoch: u64,
    floor: u64,
    above: BTreeSet<u64>,
    used: WallTime,
    /// Everything below was shown or given up as a gap.
    shown: u64,
    gap_since: Option<Tick>,
    /// The lowest number that was refused for want of room and has not come again.
    refused: Option<u64>,
}

impl Epoch {
    const fn new(epoch: u64, floor: u64, used: WallTime) -> Self {
        Self { epoch, floor, above: BTreeSet::new(), used, shown: floor, gap_since: None, refused: None }
    }

    fn has(&self, seq: u64) -> bool {
        seq < self.floor || self.above.contains(&seq)
    }

    fn add(&mut self, seq: u64) {
        if !self.has(seq) {
            self.above.insert(seq);
        }
        self.settle();
    }

    /// The sender says that everything below was delivered or given up.
    fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.above = self.above.split_off(&floor);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.above.remove(&self.floor) {
            self.floor += 1;
        }
        self.shown = self.shown.max(self.floor);
    }

    fn row(&self, from: PeerId) -> SeenRow {
        SeenRow {
            from_peer: from,
            epoch: self.epoch,
            floor: self.floor,
            above: self.above.iter().copied().collect(),
            used_at: self.used,
        }
    }
}

#[derive(Debug)]
struct Item {
    message: MessageId,
    user: UserId,
    body: Option<Bytes>,
    size: usize,
    reply_to: Option<MessageId>,
    sent_at: WallTime,
    received_at: WallTime,
    late: bool,
}

/// A message that waits for, or is with, the store.
#[derive(Debug)]
struct Arriving {
    key: InboxKey,
    user: UserId,
    floor: u64,
    direct: Direct,
}

/// What a frame of a sender led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the store with the next batch.
    Taken,
    /// It is there already; its receipt is due again.
    Duplicate,
    /// It is not taken and gets no receipt: the sender keeps it.
    Refused,
}

/// What the app gets next.
#[derive(Debug)]
pub enum Next {
    /// This message.
    Show(Box<InboxItem>),
    /// The body has to be read from the store first.
    Fetch(InboxKey),
    /// Nothing now.
    Nothing,
}

/// Messages on their way in.
#[derive(Debug, Default)]
pub struct Inbox {
    seen: BTreeMap<PeerId, Vec<Epoch>>,
    items: BTreeMap<InboxKey, Item>,
    /// Received, and behind a gap.
    held: BTreeSet<InboxKey>,
    ready: VecDeque<InboxKey>,
    arriving: VecDeque<Arriving>,
    storing: Vec<Arriving>,
    due: BTreeMap<PeerId, Vec<(ReceiptKind, MessageId)>>,
    room: u32,
    count: usize,
    bytes: usize,
    bodies: usize,
}

impl Inbox {
    /// A stored mark.
    pub fn load_seen(&mut self, row: &SeenRow) {
        let mut epoch = Epoch::new(row.epoch, row.floor, row.used_at);
        epoch.above = row.above.iter().copied().collect();
        epoch.settle();
        self.seen.entry(row.from_peer).or_default().push(epoch);
    }

    /// A stored header; the marks come first. The app sees it again.
    pub fn load(&mut self, row: &InboxRow, now: Tick) {
        let key = InboxKey { from: row.from_peer, epoch: row.epoch, seq: row.seq };
        self.count += 1;
        self.bytes += row.size as usize;
        self.items.insert(
            key,
            Item {
                message: row.message,
                user: row.from_user.clone(),
                body: None,
                size: row.size as usize,
                reply_to: row.reply_to,
                sent_at: row.sent_at,
                received_at: row.received_at,
                late: row.late,
            },
        );
        self.place(key, now);
    }

    /// Everything is loaded: each sender's messages in the order of their numbers.
    pub fn loaded(&mut self) {
        let mut by_epoch: BTreeMap<(PeerId, u64), Vec<usize>> = BTreeMap::new();
        for (place, key) in self.ready.iter().enumerate() {
            by_epoch.entry((key.from, key.epoch)).or_default().push(place);
        }
        for places in by_epoch.values() {
            let mut keys: Vec<_> = places.iter().map(|p| self.ready[*p]).collect();
            keys.sort_unstable();
            for (place, key) in places.iter().zip(keys) {
                self.ready[*place] = key;
            }
        }
    }

    /// The app has room for `n` more messages.
    pub const fn room(&mut self, n: u32) {
        self.room = self.room.saturating_add(n);
    }

    fn epoch(&mut self, key: &InboxKey) -> Option<&mut Epoch> {
        self.seen.get_mut(&key.from)?.iter_mut().find(|e| e.epoch == key.epoch)
    }

    /// A message arrived from a device that Hello proved.
    pub fn arrived(&mut self, now: Now, tuning: &Tuning, from: PeerId, user: &UserId, direct: Direct) -> Verdict {
        let key = InboxKey { from, epoch: direct.epoch, seq: direct.seq };
        let floor = direct.floor.min(direct.seq);
        if let Some(epoch) = self.epoch(&key) {
            if cfg!(not(sim_bug = "dedup_lost")) && epoch.has(direct.seq) {
                self.receipt(from, ReceiptKind::Delivered, direct.message);
                return Verdict::Duplicate;
            }
            // Behind a message that was refused, everything is: else our own want of room would make a
            // gap, and the app would see that message late.
            epoch.refused = epoch.refused.filter(|refused| floor <= *refused);
            if epoch.refused.is_some_and(|refused| direct.seq > refused) {
                return Verdict::Refused;
            }
            // The lowest number that is missing is always welcome: it makes the others fewer.
            if epoch.above.len() >= limits::SEEN_MARKS_PER_SENDER && direct.seq != epoch.floor {
                return Verdict::Refused;
            }
        }
        let waits = |a: &Arriving| a.key == key;
        if self.arriving.iter().rev().take(BATCH).any(waits) || self.storing.iter().any(waits) {
            return Verdict::Taken;
        }
        let pending = self.arriving.len() + self.storing.len();
        if direct.expires_at <= now.wall {
            return Verdict::Refused;
        }
        if self.count + pending >= tuning.inbox_messages || self.bytes + direct.body.len() > tuning.inbox_bytes {
            if let Some(epoch) = self.epoch(&key) {
                epoch.refused = Some(direct.seq);
            }
            return Verdict::Refused;
        }
        if let Some(epoch) = self.epoch(&key) {
            epoch.refused = None;
        }
        if cfg!(sim_bug = "receipt_before_durable") {
            self.receipt(from, ReceiptKind::Delivered, direct.message);
        }
        self.bytes += direct.body.len();
        self.arriving.push_back(Arriving { key, user: user.clone(), floor, direct });
        Verdict::Taken
    }

    /// The next batch for the store, if it is idle.
    pub fn batch(&mut self, now: Now) -> Option<Vec<Write>> {
        if !self.storing.is_empty() || self.arriving.is_empty() {
            return None;
        }
        let n = self.arriving.len().min(BATCH);
        self.storing = self.arriving.drain(..n).collect();
        // marks as they will be after each write of this batch; ours change when it is durable
        let mut marks: BTreeMap<(PeerId, u64), Epoch> = BTreeMap::new();
        let mut batch = Vec::with_capacity(n);
        for a in &self.storing {
            let mark = marks.entry((a.key.from, a.key.epoch)).or_insert_with(|| {
                let known = self.seen.get(&a.key.from).and_then(|v| v.iter().find(|e| e.epoch == a.key.epoch));
                known.cloned().unwrap_or_else(|| Epoch::new(a.key.epoch, a.floor, now.wall))
            });
            mark.raise(a.floor);
            let late = a.key.seq < mark.shown;
            mark.add(a.key.seq);
            mark.used = now.wall;
            batch.push(Write::Receive {
                row: InboxRow {
                    from_peer: a.key.from,
                    epoch: a.key.epoch,
                    seq: a.key.seq,
                    message: a.direct.message,
                    from_user: a.user.clone(),
                    content: Some(a.direct.body.clone()),
                    size: u32::try_from(a.direct.body.len()).unwrap_or(u32::MAX),
                    reply_to: a.direct.reply_to,
                    sent_at: a.direct.sent_at,
                    received_at: now.wall,
                    expires_at: a.direct.expires_at,
                    late,
                    state: InboxState::New,
                },
                seen: mark.row(a.key.from),
            });
        }
        Some(batch)
    }

    /// The batch is durable. Answers how many were new and how many were there already, and what
    /// else to store.
    pub fn stored(&mut self, now: Now, tuning: &Tuning, applied: &[Applied], batch: &mut Vec<Write>) -> (u64, u64) {
        let (mut new, mut old) = (0, 0);
        for (a, applied) in std::mem::take(&mut self.storing).into_iter().zip(applied) {
            let late = self.mark(now, &a, batch);
            self.receipt(a.key.from, ReceiptKind::Delivered, a.direct.message);
            if *applied != Applied::Done {
                old += 1;
                self.bytes = self.bytes.saturating_sub(a.direct.body.len());
                continue;
            }
            new += 1;
            self.count += 1;
            let size = a.direct.body.len();
            let keep = self.bodies + size <= tuning.bodies_in_memory;
            if keep {
                self.bodies += size;
            }
            self.items.insert(
                a.key,
                Item {
                    message: a.direct.message,
                    user: a.user,
                    body: keep.then_some(a.direct.body),
                    size,
                    reply_to: a.direct.reply_to,
                    sent_at: a.direct.sent_at,
                    received_at: now.wall,
                    late,
                },
            );
            self.place(a.key, now.tick);
        }
        (new, old)
    }

    /// The batch could not be stored: nothing was received, no receipt is due.
    pub fn not_stored(&mut self) {
        for a in self.storing.drain(..) {
            self.bytes = self.bytes.saturating_sub(a.direct.body.len());
        }
    }

    /// Marks a durable message as seen. Whether a gap was given up before it came.
    fn mark(&mut self, now: Now, a: &Arriving, batch: &mut Vec<Write>) -> bool {
        let epochs = self.seen.entry(a.key.from).or_default();
        if !epochs.iter().any(|e| e.epoch == a.key.epoch) {
            epochs.push(Epoch::new(a.key.epoch, a.floor, now.wall));
            if epochs.len() > EPOCHS
                && let Some(oldest) = epochs.iter().enumerate().min_by_key(|(_, e)| e.used).map(|(i, _)| i)
            {
                let gone = epochs.swap_remove(oldest);
                batch.push(Write::Unsee { from_peer: a.key.from, epoch: gone.epoch });
            }
        }
        let Some(epoch) = epochs.iter_mut().find(|e| e.epoch == a.key.epoch) else { return false };
        epoch.raise(a.floor);
        let late = a.key.seq < epoch.shown;
        epoch.add(a.key.seq);
        epoch.used = now.wall;
        late
    }

    /// Puts a received message where it belongs: to the app, or behind a gap.
    fn place(&mut self, key: InboxKey, now: Tick) {
        self.held.insert(key);
        self.release(key.from, key.epoch, now);
    }

    /// Lets go what no gap holds back any more.
    fn release(&mut self, from: PeerId, epoch_id: u64, now: Tick) {
        let range = InboxKey { from, epoch: epoch_id, seq: 0 }..=InboxKey { from, epoch: epoch_id, seq: u64::MAX };
        let keys: Vec<_> = self.held.range(range).copied().collect();
        let crowded = keys.len() > limits::REORDER_MESSAGES;
        let mut any_held = false;
        for key in keys {
            let Some(epoch) = self.epoch(&key) else { continue };
            if crowded {
                epoch.shown = epoch.shown.max(key.seq + 1);
            }
            if key.seq < epoch.shown {
                self.held.remove(&key);
                self.ready.push_back(key);
            } else if key.seq == epoch.shown {
                epoch.shown += 1;
                self.held.remove(&key);
                self.ready.push_back(key);
            } else {
                any_held = true;
            }
        }
        if let Some(epoch) = self.epoch(&InboxKey { from, epoch: epoch_id, seq: 0 }) {
            epoch.gap_since = if any_held { Some(epoch.gap_since.unwrap_or(now)) } else { None };
        }
    }

    /// Gaps that were waited for long enough are given up.
    pub fn expire(&mut self, now: Tick, tuning: &Tuning) {
        let mut over = Vec::new();
        for (from, epochs) in &mut self.seen {
            for epoch in epochs {
                if epoch.gap_since.is_some_and(|t| now - t >= tuning.gap_wait) {
                    over.push((*from, epoch.epoch));
                }
            }
        }
        for (from, epoch) in over {
            let first = InboxKey { from, epoch, seq: 0 };
            let next = self.held.range(first..).next().copied();
            if let (Some(key), Some(e)) = (next, self.epoch(&first)) {
                e.shown = e.shown.max(key.seq);
                e.gap_since = None;
            }
            self.release(from, epoch, now);
        }
    }

    /// When [`Self::expire`] is due.
    pub fn deadline(&self, tuning: &Tuning) -> Option<Tick> {
        if self.held.is_empty() {
            return None;
        }
        let gaps = self.seen.values().flatten().filter_map(|e| e.gap_since);
        gaps.min().map(|t| t.plus(tuning.gap_wait))
    }

    /// What the app gets next, if it has room. A message that was shown stays until [`Self::done`].
    pub fn next_for_app(&mut self) -> Next {
        if self.room == 0 {
            return Next::Nothing;
        }
        loop {
            let Some(key) = self.ready.front().copied() else { return Next::Nothing };
            let Some(item) = self.items.get_mut(&key) else {
                self.ready.pop_front();
                continue;
            };
            let Some(body) = item.body.take() else { return Next::Fetch(key) };
            self.bodies = self.bodies.saturating_sub(body.len());
            self.ready.pop_front();
            self.room -= 1;
            return Next::Show(Box::new(InboxItem {
                key,
                message: item.message,
                from_user: item.user.clone(),
                body,
                reply_to: item.reply_to,
                sent_at: item.sent_at,
                received_at: item.received_at,
                late: item.late,
            }));
        }
    }

    /// A body that was asked for by [`Next::Fetch`].
    pub fn fetched(&mut self, key: &InboxKey, body: Option<Bytes>) {
        match (self.items.get_mut(key), body) {
            (Some(item), Some(body)) => {
                self.bodies += body.len();
                item.body = Some(body);
            }
            // the row is gone: nothing to show
            _ => self.ready.retain(|k| k != key),
        }
    }

    /// The app has read a message: what to store, and its READ receipt is due.
    pub fn read(&mut self, key: &InboxKey, receipts: bool) -> Option<Write> {
        let message = self.items.get(key)?.message;
        if receipts {
            self.receipt(key.from, ReceiptKind::Read, message);
        }
        Some(Write::Mark { from_peer: key.from, epoch: key.epoch, seq: key.seq, state: InboxState::Read })
    }

    /// The app is done with a message: what to store.
    pub fn done(&mut self, key: &InboxKey) -> Option<Write> {
        let item = self.items.remove(key)?;
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(item.size);
        Some(Write::Take { from_peer: key.from, epoch: key.epoch, seq: key.seq })
    }

    fn receipt(&mut self, to: PeerId, kind: ReceiptKind, message: MessageId) {
        let due = self.due.entry(to).or_default();
        if due.len() < RECEIPTS_WAITING {
            due.push((kind, message));
        }
    }

    /// Receipts that could not be sent are due again, before the others.
    pub fn receipts_again(&mut self, to: PeerId, kind: ReceiptKind, messages: Vec<MessageId>) {
        let due = self.due.entry(to).or_default();
        due.splice(..0, messages.into_iter().map(|id| (kind, id)));
        due.truncate(RECEIPTS_WAITING);
    }

    /// Devices that receipts are due to.
    pub fn receipts_due(&self) -> Vec<PeerId> {
        self.due.keys().copied().collect()
    }

    /// At most 256 receipts of one kind for a device.
    pub fn receipts(&mut self, to: &PeerId) -> Option<(ReceiptKind, Vec<MessageId>)> {
        let due = self.due.get_mut(to)?;
        let kind = due.first()?.0;
        let n = due.iter().take(limits::RECEIPT_IDS).take_while(|(k, _)| *k == kind).count();
        let ids = due.drain(..n).map(|(_, id)| id).collect();
        if due.is_empty() {
            self.due.remove(to);
        }
        Some((kind, ids))
    }
}

#[cfg(test)]
mod tests;
