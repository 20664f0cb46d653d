use std::collections::BTreeSet;

use byway_api::PeerId;

use crate::MemoryNetwork;

/// Which devices cannot reach each other now.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// The smaller id first.
    pairs: BTreeSet<(PeerId, PeerId)>,
    isolated: BTreeSet<PeerId>,
}

impl Cuts {
    pub(crate) fn separate(&self, a: PeerId, b: PeerId) -> bool {
        self.isolated.contains(&a) || self.isolated.contains(&b) || self.pairs.contains(&pair(a, b))
    }
}

/// Faults on demand. A fault acts at once: connections it hits end with
/// [`LOST`](byway_api::CloseCode::LOST), frames on the way are gone, and dials across it fail with
/// [`Timeout`](byway_api::TransportErrorKind::Timeout), without a wait because there is no clock here.
/// Healing brings no connection back.
impl MemoryNetwork {
    /// Cuts the way between two devices.
    pub fn cut(&self, a: PeerId, b: PeerId) {
        let mut board = self.lock();
        board.cuts.pairs.insert(pair(a, b));
        board.channels().filter(|channel| channel.joins(a, b)).for_each(|channel| channel.lose());
    }

    /// Undoes [`cut`](Self::cut).
    pub fn heal(&self, a: PeerId, b: PeerId) {
        self.lock().cuts.pairs.remove(&pair(a, b));
    }

    /// Cuts a device off from everybody.
    pub fn isolate(&self, peer: PeerId) {
        let mut board = self.lock();
        board.cuts.isolated.insert(peer);
        board.channels().filter(|channel| channel.has(peer)).for_each(|channel| channel.lose());
    }

    /// Undoes [`isolate`](Self::isolate). Pairs that are cut stay cut.
    pub fn rejoin(&self, peer: PeerId) {
        self.lock().cuts.isolated.remove(&peer);
    }
}

fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a < b { (a, b) } else { (b, a) }
}
