use std::time::Duration;

use byway_socket::ClientConfig;

use crate::Tls;

/// The numbers of a [`SocketCarrier`](crate::SocketCarrier).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CarrierConfig {
    /// From the first packet until the server has taken our proof (3 s).
    pub connect_timeout: Duration,
    /// How long a socket to a member's listener stays open unused (30 s).
    pub idle: Duration,
    /// Such sockets at once, those being opened included (8). When there are that many, the one that
    /// was not used for longest gives way, if nothing was sent or received on it for `evictable`.
    pub sockets: usize,
    /// How long a socket is safe after it was used (5 s), so that an answer still finds its way back.
    pub evictable: Duration,
    /// The ceiling of the first wait before a home is connected again (1 s). It doubles with every
    /// failure; the wait itself is random below it.
    pub backoff: Duration,
    /// The highest ceiling (60 s). A socket that was up for this long resets the ceiling.
    pub backoff_max: Duration,
    /// How long to wait before asking for a token again when there was none (15 s).
    pub meter_wait: Duration,
    /// Received envelopes that wait for `recv` (128, at most 60 KiB each). While there are that many,
    /// nothing more is read.
    pub inbox: usize,
    /// The socket protocol's own numbers.
    pub socket: ClientConfig,
    /// How `wss:` servers are recognised; `None` is [`Tls::native_roots`]. A home made by a
    /// `RegistryClient` uses that client's.
    pub tls: Option<Tls>,
}

impl Default for CarrierConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            idle: Duration::from_secs(30),
            sockets: 8,
            evictable: Duration::from_secs(5),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            meter_wait: Duration::from_secs(15),
            inbox: 128,
            socket: ClientConfig::default(),
            tls: None,
        }
    }
}
