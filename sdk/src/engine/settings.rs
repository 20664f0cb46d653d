use std::time::Duration;

/// Every number of the engine, with its default.
///
/// Policy of the core is in `byway_core::Tuning`; what a peer can violate in `byway_wire::limits`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub(crate) struct Settings {
    /// Incoming messages that wait for the app to take them from memory; the rest waits in the store. 256.
    pub(crate) inbox_queue: usize,
    /// Commands of the app that wait. 1,024.
    pub(crate) command_queue: usize,
    /// Transport frames that wait for the driver, over all connections. 64.
    pub(crate) frame_queue: usize,
    /// Events that a slow listener may lag behind. 1,024.
    pub(crate) event_queue: usize,
    /// Commands and completions handled before effects are carried out. 256.
    pub(crate) turn: usize,
    /// Frames handled before effects are carried out, give or take one transport frame. 2,048.
    pub(crate) turn_frames: usize,
    /// Writes that wait for the store before no further input is taken. 16,384.
    pub(crate) store_queue: usize,
    /// Bytes in those writes. 32 MiB.
    pub(crate) store_queue_bytes: usize,
    /// Rows in one page at start. 1,024.
    pub(crate) page: usize,

    /// Opening a transport or carrier, or telling it of a change. 10 s.
    pub(crate) open_wait: Duration,
    /// One attempt of a transport to connect. 10 s.
    pub(crate) dial_wait: Duration,
    /// How long one way is tried before the next one is tried beside it. 300 ms.
    pub(crate) dial_head_start: Duration,
    /// What was written before a close has this long to go out. 2 s.
    pub(crate) flush_wait: Duration,
    /// One carrier has this long to take a signal. 2 s.
    pub(crate) carrier_wait: Duration,
    /// Answers of the driver and the core to a plugin. 5 s.
    pub(crate) answer_wait: Duration,
    /// A step's `find` that the core did not cancel. 30 s.
    pub(crate) find_wait: Duration,
    /// One step's `announce`. 10 s.
    pub(crate) announce_wait: Duration,
    /// One read or write of the store, after which it counts as failed. 30 s.
    pub(crate) store_wait: Duration,
    /// Each stage of a shutdown. 3 s.
    pub(crate) shutdown_wait: Duration,
    /// The roster is published at most this often. 50 ms.
    pub(crate) roster_every: Duration,

    /// Signals that wait for one transport. 64.
    pub(crate) signal_queue: usize,
    /// Carried envelopes that wait to be opened; at least as many as the core lets in at a time. 256.
    pub(crate) mail_queue: usize,
    /// Message ids of signals that are remembered, over all senders. 8,192.
    pub(crate) replay_ids: usize,
    /// Message ids of signals that are remembered of one sender; more are dropped. 512.
    pub(crate) replay_ids_per_sender: usize,

    /// Calls to servers that may be made at once. 5.
    pub(crate) call_burst: u32,
    /// One further call is earned in this time. 75 s.
    pub(crate) call_refill: Duration,

    /// Sightings of one `browse` that wait. 10,000, the members of a large network.
    pub(crate) sightings: usize,
    /// Routes that one `find` may report before they are looked at. 256.
    pub(crate) routes_per_run: usize,
    /// Verified records kept so that the same bytes are not verified again. 2,048.
    pub(crate) record_cache: usize,

    /// A new seal key is made after this. 24 h.
    pub(crate) seal_every: Duration,
    /// When making one failed, it is tried again after this. 10 min.
    pub(crate) rotation_retry: Duration,
    /// A seal key is good for this long. 14 d.
    pub(crate) seal_valid: Duration,
    /// A seal key's secret is erased after this. 28 d.
    pub(crate) seal_kept: Duration,
}

const DAY: u64 = 24 * 60 * 60;

impl Default for Settings {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            inbox_queue: 256,
            command_queue: 1_024,
            frame_queue: 64,
            event_queue: 1_024,
            turn: 256,
            turn_frames: 2_048,
            store_queue: 16_384,
            store_queue_bytes: 32 << 20,
            page: 1_024,
            open_wait: s(10),
            dial_wait: s(10),
            dial_head_start: Duration::from_millis(300),
            flush_wait: s(2),
            carrier_wait: s(2),
            answer_wait: s(5),
            find_wait: s(30),
            announce_wait: s(10),
            store_wait: s(30),
            shutdown_wait: s(3),
            roster_every: Duration::from_millis(50),
            signal_queue: 64,
            mail_queue: byway_core::relay::OPENING,
            replay_ids: 8_192,
            replay_ids_per_sender: 512,
            call_burst: 5,
            call_refill: s(75),
            sightings: 10_000,
            routes_per_run: 256,
            record_cache: 2_048,
            seal_every: s(DAY),
            rotation_retry: s(600),
            seal_valid: s(14 * DAY),
            seal_kept: s(28 * DAY),
        }
    }
}
