//! One neighbour, as far as presence goes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use byway_api::PeerId;
use byway_wire::{NetworkState, VerifiedRecord, limits};

use super::states;
use crate::limiter::TokenBucket;
use crate::machine::{Now, Tick};
use crate::roster::{Roster, Slot};

/// Neighbours that are told: as many as a mark has bits.
pub(super) const MAX_SIDES: usize = 64;

/// The mark of a side.
pub(super) const fn bit(number: usize) -> u64 {
    1 << number
}

#[derive(Debug)]
pub(super) struct Side {
    /// Where the neighbour itself stands.
    pub(super) slot: Option<Slot>,
    /// Digest of what we told, and of what we heard.
    pub(super) told: [u8; 16],
    pub(super) heard: [u8; 16],
    pub(super) sends: TokenBucket,
    pub(super) receives: TokenBucket,
    pub(super) newcomers: TokenBucket,
    /// The next frame begins anew.
    pub(super) opening: bool,
    pub(super) ask_full: bool,
    /// It has told us who is there.
    pub(super) told_us: bool,
    /// It has our newest record.
    pub(super) has_ours: bool,
    /// From when on it is told more than our own links.
    pub(super) rest_at: Tick,
    /// It was told something a moment ago.
    pub(super) pause_until: Tick,
    /// Records that we ask it for.
    pub(super) wants: Vec<PeerId>,
    /// Records that it asks us for.
    pub(super) wanted: BTreeSet<PeerId>,
}

impl Side {
    pub(super) fn new(slot: Option<Slot>, rest_at: Tick) -> Self {
        let hour = Duration::from_secs(3_600);
        let newcomers = u32::try_from(limits::NEW_MEMBERS_PER_HOUR).unwrap_or(u32::MAX);
        Self {
            slot,
            told: [0; 16],
            heard: [0; 16],
            // fewer than the far side admits, so that what we send is never dropped
            sends: states(limits::STATE_BURST - 2),
            receives: states(limits::STATE_BURST),
            newcomers: TokenBucket::new(newcomers, hour / newcomers),
            opening: true,
            ask_full: false,
            told_us: false,
            has_ours: false,
            rest_at,
            pause_until: Tick(0),
            wants: Vec::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// Puts records that the neighbour asked for into a frame.
    pub(super) fn answer(
        &mut self,
        state: &mut NetworkState,
        room: &mut usize,
        roster: &Roster,
        ours: &VerifiedRecord,
        now: Now,
    ) {
        let mut later = VecDeque::new();
        for peer in std::mem::take(&mut self.wanted) {
            let known = if peer == ours.peer() { Some(ours) } else { roster.device(&peer).and_then(|d| d.record()) };
            let Some(record) = known.filter(|r| r.expires_at() > now.wall) else { continue };
            let bytes = record.bytes().len() + super::ENTRY_BYTES;
            if state.records.len() + 1 >= limits::STATE_RECORDS || *room < bytes {
                later.push_back(peer);
                continue;
            }
            *room -= bytes;
            state.records.push(record.clone());
        }
        self.wanted.extend(later);
    }
}
