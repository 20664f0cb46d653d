//! Finding a device by its key: small, and kind to caches.

use byway_api::PeerId;

/// Where a device stands in the roster, for as long as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Slots by the first eight bytes of a key. Keys that share them are told apart by the caller.
#[derive(Debug, Default)]
pub(super) struct Index(Vec<(u64, Slot)>);

fn prefix(peer: &PeerId) -> u64 {
    peer.as_bytes().first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}

impl Index {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Slots that may be the device's.
    pub(super) fn candidates(&self, peer: &PeerId) -> impl Iterator<Item = Slot> {
        let key = prefix(peer);
        let from = self.0.partition_point(|(k, _)| *k < key);
        self.0[from..].iter().take_while(move |(k, _)| *k == key).map(|(_, slot)| *slot)
    }

    pub(super) fn insert(&mut self, peer: &PeerId, slot: Slot) {
        let entry = (prefix(peer), slot);
        let at = self.0.partition_point(|e| *e < entry);
        self.0.insert(at, entry);
    }

    pub(super) fn remove(&mut self, peer: &PeerId, slot: Slot) {
        let entry = (prefix(peer), slot);
        if let Ok(at) = self.0.binary_search(&entry) {
            self.0.remove(at);
        }
    }
}
