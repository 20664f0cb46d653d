use std::ops::AddAssign;

use byway_core::view::CoreMetrics;

/// What one or more runs counted.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Virtual milliseconds of all devices together.
    pub member_ms: u64,
    /// Events of all nodes.
    pub events: u64,
    /// Faults of the plans that happened.
    pub faults: u64,
    /// Connections that broke by chance.
    pub breaks: u64,
    /// Messages that the apps wanted to send.
    pub messages: u64,
    /// Of those, durably queued.
    pub accepted: u64,
    /// Of those, durably at the recipient.
    pub delivered: u64,
    /// Of those that are not: given up at their expiry.
    pub expired: u64,
    /// Lookups that ended with a connection.
    pub connected: u64,
    /// Of those, within 2 s.
    pub connected_within_2s: u64,
    /// Messages acknowledged within 5 s of `send`.
    pub acknowledged_within_5s: u64,
    /// Calls to the registry.
    pub registry_calls: u64,
    /// Most calls of one node in ten minutes.
    pub registry_most_in_10_min: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Envelopes that nodes forwarded for others.
    pub relayed: u64,
    /// Messages that a neighbour of their sender has passed on, each time.
    pub sent_relayed: u64,
    /// Messages that arrived through a neighbour.
    pub received_relayed: u64,
    /// Conversations through a neighbour that became direct.
    pub upgrades: u64,
    /// Relays that were killed under a conversation of two that cannot connect.
    pub failovers: u64,
    /// Milliseconds from `send` right after that until the message arrived, the longest.
    pub failover_ms: u64,
    /// Messages that arrived again and were recognised.
    pub duplicates: u64,
    /// Two connections to one peer at once, how often.
    pub glares: u64,
    /// Milliseconds from the healing until everything had settled, the longest.
    pub settled_after_ms: u64,
    /// Times that a core asked to be woken.
    pub wakes: u64,
    /// Frames that cores wrote.
    pub frames: u64,
    /// Batches of frames that writers gave to the transport.
    pub packets: u64,
    /// Bytes of presence in those frames.
    pub presence_bytes: u64,
    /// Milliseconds from the healing until every member list showed everybody, the longest.
    pub presence_right_after_ms: u64,
    /// Links of all devices at the end.
    pub links: u64,
    /// Requests of one node that waited for their answer at once, at most.
    pub most_open_requests: u64,
}

impl Stats {
    pub(super) fn add_core(&mut self, m: &CoreMetrics) {
        self.connected += m.lookups_connected;
        self.connected_within_2s += m.lookups_connected_within_2s;
        self.acknowledged_within_5s += m.delivered_within_5s;
        self.connects += m.connects;
        self.relayed += m.relayed;
        self.sent_relayed += m.sent_relayed;
        self.received_relayed += m.received_relayed;
        self.upgrades += m.upgrades;
        self.duplicates += m.duplicates;
    }
}

impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, o: &Self) {
        self.virtual_ms += o.virtual_ms;
        self.member_ms += o.member_ms;
        self.events += o.events;
        self.faults += o.faults;
        self.breaks += o.breaks;
        self.messages += o.messages;
        self.accepted += o.accepted;
        self.delivered += o.delivered;
        self.expired += o.expired;
        self.connected += o.connected;
        self.connected_within_2s += o.connected_within_2s;
        self.acknowledged_within_5s += o.acknowledged_within_5s;
        self.registry_calls += o.registry_calls;
        self.registry_most_in_10_min = self.registry_most_in_10_min.max(o.registry_most_in_10_min);
        self.connects += o.connects;
        self.relayed += o.relayed;
        self.sent_relayed += o.sent_relayed;
        self.received_relayed += o.received_relayed;
        self.upgrades += o.upgrades;
        self.failovers += o.failovers;
        self.failover_ms = self.failover_ms.max(o.failover_ms);
        self.duplicates += o.duplicates;
        self.glares += o.glares;
        self.settled_after_ms = self.settled_after_ms.max(o.settled_after_ms);
        self.wakes += o.wakes;
        self.frames += o.frames;
        self.packets += o.packets;
        self.presence_bytes += o.presence_bytes;
        self.presence_right_after_ms = self.presence_right_after_ms.max(o.presence_right_after_ms);
        self.links += o.links;
        self.most_open_requests = self.most_open_requests.max(o.most_open_requests);
    }
}
