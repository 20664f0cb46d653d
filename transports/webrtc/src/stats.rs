//! What an endpoint holds.

/// A snapshot of an endpoint's tables, for tests and diagnostics. After
/// [`close`](byway_api::Endpoint::close) everything but the counters of dropped things is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// UDP sockets.
    pub sockets: usize,
    /// Tasks.
    pub tasks: usize,
    /// Open connections.
    pub connections: usize,
    /// Attempts that are not connections yet.
    pub attempts: usize,
    /// Signalling sessions that await something from the peer.
    pub sessions: usize,
    /// ICE user fragments that are answered.
    pub ufrags: usize,
    /// STUN requests in flight.
    pub transactions: usize,
    /// Remote addresses that are listened to.
    pub remotes: usize,
    /// Armed timers.
    pub timers: usize,
    /// Accepted connections that wait for `next`.
    pub accept_queue: usize,
    /// Datagrams that belonged to nobody, since the endpoint was bound.
    pub strays: u64,
    /// OFFERs refused by a limit, since the endpoint was bound.
    pub refused_offers: u64,
}
