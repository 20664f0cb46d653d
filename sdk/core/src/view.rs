//! Plain data that the core shows: roster, explanation, numbers.

use std::time::Duration;

use byway_api::{PeerId, Trust, UserId, WallTime};

use crate::link::LinkState;

/// A connection within this time counts as a success (the mission's metric).
pub const CONNECT_TARGET: Duration = Duration::from_secs(2);
/// A delivery within this time counts as a success (the mission's metric).
pub const DELIVERY_TARGET: Duration = Duration::from_secs(5);

/// The member list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// Members by name; without ourselves.
    pub members: Vec<MemberView>,
    /// Our own network is down: the list is frozen as it was.
    pub frozen: bool,
}

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// The user.
    pub user: UserId,
    /// How it can be reached: the best over its devices.
    pub reach: Reach,
    /// How sure it is that the devices are the user's.
    pub trust: Trust,
    /// State of the best link to it.
    pub link: LinkState,
    /// Its devices.
    pub devices: Vec<PeerId>,
    /// It is blocked.
    pub blocked: bool,
}

/// How a member can be reached.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reach {
    /// 🟢 Connected to us.
    Direct {
        /// Over which transport.
        transport: &'static str,
        /// Last measured round trip.
        rtt: Option<Duration>,
    },
    /// 🟡 Connected to a neighbour of ours, with evidence.
    Via {
        /// The neighbour's user.
        user: UserId,
        /// The neighbour.
        peer: PeerId,
        /// Age of the evidence.
        age: Duration,
    },
    /// 🟡 Online as far as we know, with no path through a neighbour.
    Online {
        /// Who says so.
        evidence: Evidence,
        /// Age of the evidence.
        age: Duration,
    },
    /// ⚫ Not online as far as we know.
    Offline {
        /// When it was last seen, if ever.
        last_seen: Option<WallTime>,
    },
}

/// The class of evidence behind a [`Reach`], strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// A live link of our own.
    Link,
    /// A neighbour forwarded something to it less than 30 s ago.
    RelayAck,
    /// Its signed presence, told by a neighbour.
    Presence,
    /// A registry's answer.
    Registry,
    /// Our own cache.
    Cache,
}

/// Why the last lookup of a user took the path it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The user.
    pub user: UserId,
    /// When the lookup began.
    pub started: WallTime,
    /// How long it took; `None` while it runs.
    pub took: Option<Duration>,
    /// How it ended.
    pub outcome: LookupOutcome,
    /// Each step, in the ladder's order.
    pub steps: Vec<StepTrace>,
    /// Each attempt to connect.
    pub dials: Vec<DialTrace>,
    /// Messages to the user that wait now.
    pub queued: usize,
    /// When they are tried again.
    pub next_try: Option<Duration>,
}

/// How a lookup ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupOutcome {
    /// It runs.
    Running,
    /// The user was connected before it began.
    AlreadyConnected,
    /// A device connected.
    Connected {
        /// Which.
        peer: PeerId,
        /// Over which transport.
        transport: &'static str,
    },
    /// No device connected; messages are queued and tried again.
    Queued,
}

/// What one step did in a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTrace {
    /// Its name.
    pub name: &'static str,
    /// When it began, from the start of the lookup.
    pub started: Option<Duration>,
    /// How long it took.
    pub took: Option<Duration>,
    /// Routes it reported.
    pub routes: usize,
    /// How it ended, or why it was not tried.
    pub outcome: String,
}

/// One attempt to connect.
#[derive(Clone, Debug, PartialEq)]
pub struct DialTrace {
    /// The device.
    pub peer: PeerId,
    /// The first way that was tried.
    pub address: String,
    /// The step that found it.
    pub step: &'static str,
    /// When it began, from the start of the lookup.
    pub started: Duration,
    /// How it ended.
    pub outcome: String,
}

/// What the core counts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CoreMetrics {
    /// Messages taken from the app.
    pub sent: u64,
    /// Of those, acknowledged by a device of the recipient.
    pub delivered: u64,
    /// Of those, within 5 s of `send`.
    pub delivered_within_5s: u64,
    /// Given up at their expiry.
    pub expired: u64,
    /// Messages received and durable.
    pub received: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Messages that wait in the outbox.
    pub queued: usize,
    /// Lookups that began.
    pub lookups: u64,
    /// Lookups that ended with a connection.
    pub lookups_connected: u64,
    /// Of those, within 2 s.
    pub lookups_connected_within_2s: u64,
    /// Lookups that reached a metered step.
    pub lookups_metered: u64,
    /// Connections now.
    pub links: usize,
    /// Of those, not through a TURN server.
    pub links_direct: usize,
    /// Connections made.
    pub connects: u64,
    /// Envelopes forwarded for others.
    pub relayed: u64,
    /// Messages of ours that a neighbour has passed on, each time it did.
    pub sent_relayed: u64,
    /// Messages received through a neighbour, duplicates included.
    pub received_relayed: u64,
    /// Conversations through a neighbour that became direct.
    pub upgrades: u64,
    /// Frames that were refused.
    pub protocol_errors: u64,
    /// Batches given to the store that had to be durable.
    pub durable_batches: u64,
}
