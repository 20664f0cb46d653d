//! What of ours goes through neighbours.
//!
//! A parcel is sealed once and handed to one neighbour after the other until one has passed it on. A
//! message then stays here until its recipient acknowledges it, and goes again, rather through another
//! neighbour, if that takes too long or the neighbour is lost. Receipts end when they were passed on.

mod parcel;

use std::collections::{BTreeMap, BTreeSet};

use byway_api::{MessageId, PeerId, Sealed};

pub use self::parcel::Cargo;
use self::parcel::{Parcel, Stage};
use crate::machine::{OpId, Tick};
use crate::tuning::Tuning;

/// Parcels in all.
const PARCELS: usize = 1_024;

/// Names one parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParcelId(u64);

/// What is to be done with a parcel now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hand this to that neighbour; then call [`Courier::handing`].
    Hand(PeerId, Sealed),
    /// Nothing; it waits for its time.
    Wait,
    /// Nothing; no neighbour is a way. It waits for one.
    NoWay,
}

/// Everything of ours that is on its way through neighbours.
#[derive(Debug, Default)]
pub struct Courier {
    parcels: BTreeMap<ParcelId, Parcel>,
    ops: BTreeMap<OpId, ParcelId>,
    /// Neighbours that are left alone for a while.
    resting: BTreeMap<PeerId, Tick>,
    /// Devices to which nothing can be sealed for a while.
    paused: BTreeMap<PeerId, Tick>,
    /// Devices that have shown that they hold our record of this number.
    introduced: BTreeMap<PeerId, u64>,
    /// Devices for which there was no room.
    denied: BTreeSet<PeerId>,
    bytes: usize,
    next: u64,
}

impl Courier {
    /// Whether one more message to a device has room.
    pub fn has_room(&mut self, to: &PeerId, tuning: &Tuning) -> bool {
        if self.parcels.len() >= PARCELS || self.bytes >= tuning.relay_bytes {
            self.denied.insert(*to);
            return false;
        }
        let messages = self.parcels.values().filter(|p| p.to == *to && p.cargo.message().is_some());
        messages.count() < tuning.relay_window
    }

    /// Devices that had no room and may have it now.
    pub fn denied(&mut self, tuning: &Tuning) -> BTreeSet<PeerId> {
        if self.parcels.len() >= PARCELS || self.bytes >= tuning.relay_bytes {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.denied)
    }

    /// A parcel begins: `op` seals it.
    pub fn begin(&mut self, op: OpId, to: PeerId, cargo: Cargo, bytes: usize) {
        self.next += 1;
        let id = ParcelId(self.next);
        self.bytes += bytes;
        self.ops.insert(op, id);
        self.parcels.insert(id, Parcel::new(to, cargo, bytes));
    }

    /// Whether a receipt to a device is on its way: the next ones share the next envelope.
    pub fn has_receipts(&self, to: &PeerId) -> bool {
        self.parcels.values().any(|p| p.to == *to && p.cargo.message().is_none())
    }

    /// Whether a message to a device is on its way.
    pub fn carries(&self, to: &PeerId) -> bool {
        self.parcels.values().any(|p| p.to == *to && p.cargo.message().is_some())
    }

    /// Whether a neighbour carries something of ours.
    pub fn uses(&self, hop: &PeerId) -> bool {
        self.parcels.values().any(|p| p.stage.hop() == Some(hop))
    }

    /// The envelope of a parcel is ready. `None` if nobody waits for it any more.
    pub fn sealed(&mut self, op: OpId, mail: Sealed) -> Option<ParcelId> {
        let id = self.ops.remove(&op)?;
        let parcel = self.parcels.get_mut(&id)?;
        parcel.mail = Some(mail);
        parcel.stage = Stage::Waiting(None);
        Some(id)
    }

    /// A parcel could not be sealed, and is no more: whom for, and what it was.
    pub fn not_sealed(&mut self, op: OpId) -> Option<(PeerId, Cargo)> {
        let id = self.ops.remove(&op)?;
        self.take(id)
    }

    /// For whom a parcel is.
    pub fn to(&self, id: ParcelId) -> Option<PeerId> {
        self.parcels.get(&id).map(|p| p.to)
    }

    /// The message in a parcel.
    pub fn message(&self, id: ParcelId) -> Option<MessageId> {
        self.parcels.get(&id)?.cargo.message()
    }

    /// What to do with a parcel that is sealed and with no neighbour. `ways` are neighbours, best first.
    pub fn next(&mut self, now: Tick, tuning: &Tuning, id: ParcelId, ways: &[PeerId]) -> Next {
        let resting = |hop: &PeerId, at: Tick| self.resting.get(hop).is_some_and(|until| *until > at);
        let Some(parcel) = self.parcels.get_mut(&id) else { return Next::Wait };
        let Some(mail) = parcel.mail.clone() else { return Next::Wait };
        if ways.is_empty() {
            parcel.stage = Stage::Waiting(None);
            parcel.tried.clear();
            return Next::NoWay;
        }
        let free = ways.iter().find(|hop| !parcel.tried.contains(*hop) && !resting(hop, now));
        // the one that was tried before is better than none, if it has had its rest
        let again = || ways.iter().find(|hop| !resting(hop, now) && parcel.again_through(hop));
        if let Some(hop) = free.or_else(again) {
            return Next::Hand(*hop, mail);
        }
        let rested = ways.iter().filter_map(|hop| self.resting.get(hop)).min();
        let wait = rested.copied().filter(|until| *until > now).unwrap_or_else(|| now.plus(tuning.relay_rest));
        parcel.tried.clear();
        parcel.stage = Stage::Waiting(Some(wait));
        Next::Wait
    }

    /// A parcel is being handed over by request `op`.
    pub fn handing(&mut self, op: OpId, id: ParcelId, hop: PeerId) {
        if let Some(parcel) = self.parcels.get_mut(&id) {
            parcel.stage = Stage::Handing(hop);
            self.ops.insert(op, id);
        }
    }

    /// A hand-over has ended: which parcel, and who had it. `None` if nobody waits for it any more.
    pub fn handed(&mut self, op: OpId) -> Option<(ParcelId, PeerId)> {
        let id = self.ops.remove(&op)?;
        match self.parcels.get(&id)?.stage {
            Stage::Handing(hop) => Some((id, hop)),
            _ => None,
        }
    }

    /// A neighbour has passed a parcel on: the message in it, which now waits for its recipient. A
    /// receipt is done.
    pub fn passed_on(&mut self, now: Tick, tuning: &Tuning, id: ParcelId, hop: PeerId) -> Option<MessageId> {
        let parcel = self.parcels.get_mut(&id)?;
        let Some(message) = parcel.cargo.message() else {
            self.take(id);
            return None;
        };
        let wait = tuning.relay_again * 2u32.saturating_pow(parcel.sends.min(16));
        parcel.sends += 1;
        parcel.tried = BTreeSet::from([hop]);
        parcel.stage = Stage::PassedOn { hop, again: now.plus(wait.min(tuning.retry)) };
        Some(message)
    }

    /// A neighbour did not pass a parcel on: another one is asked.
    pub fn refused(&mut self, id: ParcelId, hop: PeerId) {
        if let Some(parcel) = self.parcels.get_mut(&id) {
            parcel.tried.insert(hop);
            parcel.stage = Stage::Waiting(None);
        }
    }

    /// A neighbour is left alone until `until`.
    pub fn rest(&mut self, hop: PeerId, until: Tick) {
        self.resting.insert(hop, until);
    }

    /// Nothing can be sealed for a device until `until`.
    pub fn pause(&mut self, to: PeerId, until: Tick) {
        self.paused.insert(to, until);
    }

    /// Whether nothing can be sealed for a device now.
    pub fn is_paused(&self, to: &PeerId, now: Tick) -> bool {
        self.paused.get(to).is_some_and(|until| *until > now)
    }

    /// A newer record of a device is known.
    pub fn resume(&mut self, to: &PeerId) {
        self.paused.remove(to);
    }

    /// A device holds our record number `seq`.
    pub fn introduced(&mut self, to: PeerId, seq: u64) {
        self.introduced.insert(to, seq);
    }

    /// Whether a device may not know our record number `seq`.
    pub fn is_stranger(&self, to: &PeerId, seq: u64) -> bool {
        self.introduced.get(to).is_none_or(|known| *known < seq)
    }

    /// A device does not answer: it may have forgotten us.
    pub fn forget_introduction(&mut self, to: &PeerId) {
        self.introduced.remove(to);
    }

    /// A device has acknowledged messages.
    pub fn acknowledged(&mut self, to: &PeerId, messages: &[MessageId]) {
        let done = |p: &Parcel| p.to == *to && p.cargo.message().is_some_and(|m| messages.contains(&m));
        self.drop_where(done);
    }

    /// Messages to a device go another way from now on.
    pub fn drop_messages(&mut self, to: &PeerId) {
        self.drop_where(|p| p.to == *to && p.cargo.message().is_some());
    }

    /// Nothing goes to a device any more.
    pub fn drop_device(&mut self, to: &PeerId) {
        self.drop_where(|p| p.to == *to);
        self.denied.remove(to);
        self.paused.remove(to);
    }

    /// One parcel is no more: what it was.
    pub fn take(&mut self, id: ParcelId) -> Option<(PeerId, Cargo)> {
        let parcel = self.parcels.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(parcel.bytes);
        Some((parcel.to, parcel.cargo))
    }

    fn drop_where(&mut self, which: impl Fn(&Parcel) -> bool) {
        let ids: Vec<_> = self.parcels.iter().filter(|(_, p)| which(p)).map(|(id, _)| *id).collect();
        for id in ids {
            self.take(id);
        }
    }

    /// Everything stops: the devices that messages were on their way to.
    pub fn clear(&mut self) -> BTreeSet<PeerId> {
        let devices = self.parcels.values().map(|p| p.to).collect();
        *self = Self { next: self.next, ..Self::default() };
        devices
    }

    /// A neighbour is gone. What it has passed on and nobody has acknowledged goes again now: these.
    pub fn gone(&mut self, hop: &PeerId) -> Vec<ParcelId> {
        self.resting.remove(hop);
        let lost = |p: &Parcel| matches!(p.stage, Stage::PassedOn { hop: h, .. } if h == *hop);
        let ids: Vec<_> = self.parcels.iter().filter(|(_, p)| lost(p)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.refused(*id, *hop);
        }
        ids
    }

    /// Parcels to a device that wait for a neighbour.
    pub fn waiting(&self, to: &PeerId) -> Vec<ParcelId> {
        let waits = |p: &Parcel| p.to == *to && matches!(p.stage, Stage::Waiting(_)) && p.mail.is_some();
        self.parcels.iter().filter(|(_, p)| waits(p)).map(|(id, _)| *id).collect()
    }

    /// Parcels whose time has come, and devices for which sealing may work again.
    pub fn due(&mut self, now: Tick) -> (Vec<ParcelId>, Vec<PeerId>) {
        self.resting.retain(|_, until| *until > now);
        let over: Vec<_> = self.paused.iter().filter(|(_, until)| **until <= now).map(|(p, _)| *p).collect();
        for peer in &over {
            self.paused.remove(peer);
        }
        let due = |p: &Parcel| p.stage.due().is_some_and(|at| at <= now);
        (self.parcels.iter().filter(|(_, p)| due(p)).map(|(id, _)| *id).collect(), over)
    }

    /// When [`Self::due`] is due.
    pub fn deadline(&self) -> Option<Tick> {
        let parcels = self.parcels.values().filter_map(|p| p.stage.due());
        parcels.chain(self.paused.values().copied()).min()
    }
}

#[cfg(test)]
mod tests;
