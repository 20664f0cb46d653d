use std::collections::BTreeSet;

use byway_api::{MessageId, PeerId, Sealed};
use byway_wire::ReceiptKind;

use crate::machine::Tick;

/// What is in a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cargo {
    /// A message; it stays in the outbox meanwhile.
    Message(MessageId),
    /// What became of messages; nobody else keeps them.
    Receipts(ReceiptKind, Vec<MessageId>),
}

impl Cargo {
    pub(super) const fn message(&self) -> Option<MessageId> {
        match self {
            Self::Message(id) => Some(*id),
            Self::Receipts(..) => None,
        }
    }
}

/// Where a parcel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being sealed.
    Sealing,
    /// It waits for a neighbour, or until then.
    Waiting(Option<Tick>),
    /// A neighbour was asked.
    Handing(PeerId),
    /// A neighbour has passed it on; it goes again at `again`.
    PassedOn { hop: PeerId, again: Tick },
}

impl Stage {
    pub(super) const fn hop(&self) -> Option<&PeerId> {
        match self {
            Self::Handing(hop) | Self::PassedOn { hop, .. } => Some(hop),
            Self::Sealing | Self::Waiting(_) => None,
        }
    }

    pub(super) const fn due(&self) -> Option<Tick> {
        match self {
            Self::Waiting(at) => *at,
            Self::PassedOn { again, .. } => Some(*again),
            Self::Sealing | Self::Handing(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: PeerId,
    pub(super) cargo: Cargo,
    pub(super) bytes: usize,
    pub(super) mail: Option<Sealed>,
    /// Neighbours that had it and are not asked again yet.
    pub(super) tried: BTreeSet<PeerId>,
    pub(super) stage: Stage,
    /// How often it was passed on.
    pub(super) sends: u32,
}

impl Parcel {
    pub(super) const fn new(to: PeerId, cargo: Cargo, bytes: usize) -> Self {
        Self { to, cargo, bytes, mail: None, tried: BTreeSet::new(), stage: Stage::Sealing, sends: 0 }
    }

    /// It was passed on through this neighbour and not acknowledged: that may have been bad luck.
    pub(super) fn again_through(&self, hop: &PeerId) -> bool {
        matches!(self.stage, Stage::PassedOn { hop: h, .. } if h == *hop)
    }
}
