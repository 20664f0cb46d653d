//! What the outbox keeps of a message and of a lane.

use std::collections::BTreeMap;

use bytes::Bytes;
use byway_api::{MessageId, OutboxState, PeerId, UserId, WallTime};

use crate::machine::{OpId, Tick};
use crate::status::Delivery;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) peer: Option<PeerId>,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// Numbers below this are reserved as soon as this row is durable.
    pub(super) reserves: u64,
    pub(super) state: OutboxState,
    pub(super) tries: u32,
    /// The neighbour that has passed it on last.
    pub(super) via: Option<PeerId>,
}

impl Row {
    /// The row of a message whose user has no known device.
    pub(super) const UNBOUND: Self =
        Self { peer: None, epoch: 0, seq: 0, reserves: 0, state: OutboxState::Queued, tries: 0, via: None };

    pub(super) const fn delivery(&self) -> Delivery {
        match self.state {
            OutboxState::Queued if self.via.is_some() => Delivery::Relayed,
            state => delivery(state),
        }
    }
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) user: UserId,
    pub(super) reply_to: Option<MessageId>,
    pub(super) queued_at: WallTime,
    pub(super) expires_at: WallTime,
    pub(super) size: u32,
    pub(super) body: Option<Bytes>,
    /// The command to answer once it is durable.
    pub(super) accepting: Option<OpId>,
    pub(super) taken_at: Tick,
    pub(super) rows: Vec<Row>,
}

impl Message {
    pub(super) fn best(&self) -> Delivery {
        self.rows.iter().map(Row::delivery).max().unwrap_or(Delivery::Sending)
    }

    /// No device has it, and it has not been given up.
    pub(super) fn waits(&self) -> bool {
        self.best() <= Delivery::Relayed
    }

    pub(super) fn row(&mut self, peer: &PeerId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|r| r.peer.as_ref() == Some(peer))
    }
}

pub(super) const fn delivery(state: OutboxState) -> Delivery {
    match state {
        OutboxState::Delivered => Delivery::Delivered,
        OutboxState::Read => Delivery::Read,
        OutboxState::Expired => Delivery::Expired,
        _ => Delivery::Sending,
    }
}

/// Messages to one device, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) epoch: u64,
    pub(super) next: u64,
    /// Numbers below this are reserved in the store: a restart does not use them again.
    pub(super) reserved: u64,
    /// The first number that this process gives out. Those below that are not open are delivered, given
    /// up or were never used.
    pub(super) resumed: u64,
    /// Durable and not acknowledged.
    pub(super) open: BTreeMap<u64, MessageId>,
    /// The next number to write on the present path.
    pub(super) cursor: u64,
    pub(super) in_flight: usize,
    /// When the oldest write on the present path was made.
    pub(super) written_at: Option<Tick>,
}

impl Lane {
    /// The row of a message is durable.
    pub(super) fn enter(&mut self, row: &Row, message: MessageId) {
        self.reserved = self.reserved.max(row.reserves);
        self.open.insert(row.seq, message);
    }
}
