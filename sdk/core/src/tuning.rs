use std::time::Duration;

/// Every policy number of the core, with its default.
///
/// What a *peer* can violate is not here but in `byway_wire::limits`; what a plugin decides is in
/// that plugin's own configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tuning {
    /// Connections that carry chat. 5, as the mission asks.
    pub max_active: usize,
    /// Connections that carry only keep-alive and presence from us. 10.
    pub max_standby: usize,
    /// Devices remembered as information only. 50.
    pub max_cached: usize,
    /// Neighbours that a node tries to have even when it has nothing to send. 3.
    pub anchors: usize,
    /// First wait before an anchor is dialled again; doubles up to [`Self::anchor_retry_max`]. 2 s.
    pub anchor_retry: Duration,
    /// Longest wait between two attempts at anchors. 5 min.
    pub anchor_retry_max: Duration,

    /// Run the ladder's steps one after the other instead of hedged. `false`.
    pub strict: bool,
    /// Budget of "neighbours" and "cache". 600 ms.
    pub step_wait: Duration,
    /// Head start of the free steps before "coordinators". 150 ms.
    pub coordinators_after: Duration,
    /// Budget of "coordinators". 700 ms.
    pub coordinators_wait: Duration,
    /// When metered steps start at the latest. 700 ms.
    pub metered_after: Duration,
    /// Budget of a metered step. 1,200 ms.
    pub metered_wait: Duration,
    /// Dials of one lookup at a time. 4.
    pub parallel_dials: usize,

    /// First wait before a queued message is tried again. 30 s.
    pub retry: Duration,
    /// For how long [`Self::retry`] applies. 10 min.
    pub retry_fast_for: Duration,
    /// Wait afterwards. 5 min.
    pub retry_slow: Duration,
    /// Messages in the outbox; one more is refused. 10,000.
    pub outbox_messages: usize,
    /// Bytes in the outbox. 64 MiB.
    pub outbox_bytes: usize,
    /// Messages in the inbox; a full one answers nothing and the sender keeps the message. 10,000.
    pub inbox_messages: usize,
    /// Bytes in the inbox. 64 MiB.
    pub inbox_bytes: usize,
    /// Bodies of outgoing, and of incoming, messages held in memory; the rest is read when needed. 4 MiB.
    pub bodies_in_memory: usize,
    /// Messages written to one link and not yet acknowledged. 512.
    pub in_flight: usize,
    /// For how long an incoming message waits for the ones before it. 30 s.
    pub gap_wait: Duration,
    /// READ receipts are sent. `true`.
    pub read_receipts: bool,

    /// Changes of presence are collected for this long. 1 s.
    pub presence_delay: Duration,
    /// A beacon is renewed after this. 5 min.
    pub beacon_period: Duration,
    /// A beacon is good for this long. 10 min.
    pub beacon_life: Duration,
    /// How long a node waits for a neighbour's member list before it reads a server's. 3 s.
    pub browse_after: Duration,

    /// A write is suspect when unanswered for this long. 2 s.
    pub suspect_after: Duration,
    /// Probes of a suspect link are this far apart; there are three. 2 s.
    pub probe_every: Duration,
    /// A suspect link is dead at this age of its oldest unanswered write. 8 s.
    pub dead_after: Duration,
    /// All links are told on this shared tick what could wait, or a digest: the network state of every
    /// 30 s, and the sign of life of an idle link. 25 s.
    pub idle_tick: Duration,

    /// How long a neighbour has to answer a PeerQuery. 600 ms.
    pub ask_timeout: Duration,
    /// How long a neighbour has to acknowledge a forwarded envelope. 1 s.
    pub forward_timeout: Duration,
    /// Messages to one device that are with neighbours and not acknowledged by it. 32.
    pub relay_window: usize,
    /// Sealed bytes of ours on their way through neighbours, over all devices. 4 MiB.
    pub relay_bytes: usize,
    /// A message that was passed on and not acknowledged by its recipient goes again, through another
    /// neighbour if there is one, after this; doubles up to [`Self::retry`]. 2 s.
    pub relay_again: Duration,
    /// A neighbour that did not answer, or had no room, is left alone for this long. 1 s.
    pub relay_rest: Duration,
    /// Waits before the attempts to replace the way through a neighbour by a connection; the last one
    /// repeats. 0, 2, 3, 10, 45, 60 s: attempts that fail at once come at 0, 2, 5, 15 and 60 s, and then
    /// every 60 s.
    pub upgrade_waits: [Duration; 6],
    /// For how long after the last message through a neighbour that is attempted. 10 min.
    pub upgrade_for: Duration,
    /// A failed announcement is repeated after this, growing to [`Self::announce_retry_max`]. 30 s.
    pub announce_retry: Duration,
    /// Longest wait between two announcements that fail. 10 min.
    pub announce_retry_max: Duration,
    /// Periodic waits vary by up to this share, so that nodes do not march in step. 0.1.
    pub jitter: f64,
}

impl Default for Tuning {
    fn default() -> Self {
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        Self {
            max_active: 5,
            max_standby: 10,
            max_cached: 50,
            anchors: 3,
            anchor_retry: s(2),
            anchor_retry_max: s(300),
            strict: false,
            step_wait: ms(600),
            coordinators_after: ms(150),
            coordinators_wait: ms(700),
            metered_after: ms(700),
            metered_wait: ms(1_200),
            parallel_dials: 4,
            retry: s(30),
            retry_fast_for: s(600),
            retry_slow: s(300),
            outbox_messages: 10_000,
            outbox_bytes: 64 << 20,
            inbox_messages: 10_000,
            inbox_bytes: 64 << 20,
            bodies_in_memory: 4 << 20,
            in_flight: 512,
            gap_wait: s(30),
            read_receipts: true,
            presence_delay: s(1),
            beacon_period: s(300),
            beacon_life: s(600),
            browse_after: s(3),
            suspect_after: s(2),
            probe_every: s(2),
            dead_after: s(8),
            idle_tick: s(25),
            ask_timeout: ms(600),
            forward_timeout: s(1),
            relay_window: 32,
            relay_bytes: 4 << 20,
            relay_again: s(2),
            relay_rest: s(1),
            upgrade_waits: [s(0), s(2), s(3), s(10), s(45), s(60)],
            upgrade_for: s(600),
            announce_retry: s(30),
            announce_retry_max: s(600),
            jitter: 0.1,
        }
    }
}

impl Tuning {
    /// Connections at most: active and standby together, and never more than 64.
    pub const fn max_links(&self) -> usize {
        let links = self.max_active + self.max_standby;
        if links < MAX_LINKS { links } else { MAX_LINKS }
    }
}

/// A coordinator's connections: nobody has more.
const MAX_LINKS: usize = 64;
