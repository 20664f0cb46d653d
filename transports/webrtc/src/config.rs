//! Configuration: every number of the transport, with its default.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A TURN server and the long-term credential for it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnServer {
    /// `host:port`, also with the scheme `turn:`. Spoken to over UDP.
    pub server: String,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnServer({} as {})", self.server, self.user)
    }
}

/// The settings of a [`WebRtc`] transport. [`Config::default`] is made for a device on the internet
/// without any server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Addresses to bind, at most one per family. Empty: the wildcard address of both families,
    /// port 0. A family that this machine lacks is left out then.
    pub bind: Vec<SocketAddr>,
    /// STUN servers as `host:port`, also with the scheme `stun:`. None by default.
    pub stun: Vec<String>,
    /// The TURN server. None by default. One allocation serves all connections of an endpoint.
    pub turn: Option<TurnServer>,
    /// Whether loopback addresses are candidates. `None`: only if there is no other address.
    pub loopback: Option<bool>,
    /// Only the relayed address is a candidate, and nothing but relayed packets is answered: peers
    /// do not learn this device's address. Needs a TURN server. Default: false.
    pub relay_only: bool,
    /// Until a `dial` or an accepted OFFER must have led to an open channel. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long `bind` waits for STUN and TURN servers; what comes later is sent to the peers of
    /// running attempts as late candidates. Default: 500 ms.
    pub gather_timeout: Duration,
    /// How long direct pairs have before a relayed pair may be chosen. Zero with `relay_only`.
    /// Default: 300 ms.
    pub relay_wait: Duration,
    /// How long a closing connection waits for the far side to take what was sent. Default: 2 s.
    pub linger: Duration,
    /// Time between connectivity checks while connecting. Default: 10 ms.
    pub check_interval: Duration,
    /// Connectivity checks that one connecting attempt may send in a second. Default: 400.
    pub checks_per_second: u32,
    /// Time between consent checks on an idle connection (RFC 7675 allows 30 s). Default: 25 s.
    pub keepalive: Duration,
    /// A connection whose peer answered no check for this long is lost; noticed at the next
    /// keepalive. Default: 75 s.
    pub lost_after: Duration,
    /// After this long without traffic a connection's timers are rounded up to the next keepalive,
    /// so that it does not wake the device. Default: 2 s.
    pub quiet_after: Duration,
    /// Bytes that may be on their way before `send` waits; 64 bytes are charged for each frame on
    /// top of its own. Default: 1 MiB.
    pub send_window: usize,
    /// Bytes received and not yet taken by `recv` at which the connection stops acknowledging, so that
    /// the far side waits; as much again may be held unprocessed. Default: 1 MiB.
    pub receive_window: usize,
    /// Size of the sockets' kernel buffers; the system may grant less. Default: 4 MiB.
    pub socket_buffer: usize,
    /// Accepted connections that wait for `next`; the surplus is refused with `FULL`. Default: 64.
    pub accept_queue: usize,
    /// Connections and attempts of one endpoint; the surplus is refused. Default: 1,024.
    pub connections: usize,
    /// OFFERs of one device that may be pending. Default: 4.
    pub offers_per_peer: usize,
    /// OFFERs that may be pending in all; each costs about 150 KB. Default: 16.
    pub offers: usize,
    /// Time in which one device earns the right to one more OFFER. Default: 1 s.
    pub offer_interval: Duration,
    /// OFFERs that one device may send at once before `offer_interval` binds; what comes faster is
    /// dropped without an answer, since answers cost signals too. Default: 8.
    pub offer_burst: u32,
    /// Time between STUN requests that keep the server-reflexive address alive, if there is a STUN
    /// server. Default: 20 s.
    pub stun_refresh: Duration,
    /// Time until a STUN or TURN server that failed is asked again. Default: 30 s.
    pub server_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: Vec::new(),
            stun: Vec::new(),
            turn: None,
            loopback: None,
            relay_only: false,
            connect_timeout: Duration::from_secs(10),
            gather_timeout: Duration::from_millis(500),
            relay_wait: Duration::from_millis(300),
            linger: Duration::from_secs(2),
            check_interval: Duration::from_millis(10),
            checks_per_second: 400,
            keepalive: Duration::from_secs(25),
            lost_after: Duration::from_secs(75),
            quiet_after: Duration::from_secs(2),
            send_window: 1 << 20,
            receive_window: 1 << 20,
            socket_buffer: 4 << 20,
            accept_queue: 64,
            connections: 1024,
            offers_per_peer: 4,
            offers: 16,
            offer_interval: Duration::from_secs(1),
            offer_burst: 8,
            stun_refresh: Duration::from_secs(20),
            server_retry: Duration::from_secs(30),
        }
    }
}

/// The WebRTC transport: a configuration until it is bound.
///
/// The default binds one socket per address family to a free port and offers the addresses of this
/// machine's interfaces; no server is contacted unless one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebRtc {
    pub(crate) config: Config,
}

impl WebRtc {
    /// A transport with these settings.
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Binds this address instead of the wildcard; call it once per address family.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.config.bind.retain(|known| known.is_ipv4() != address.is_ipv4());
        self.config.bind.push(address);
        self
    }

    /// Learns the server-reflexive address from this STUN server (`host:port`).
    #[must_use]
    pub fn stun(mut self, server: impl Into<String>) -> Self {
        self.config.stun.push(server.into());
        self
    }

    /// Relays through this TURN server (`host:port`) where nothing direct works.
    #[must_use]
    pub fn turn(mut self, server: impl Into<String>, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.turn = Some(TurnServer { server: server.into(), user: user.into(), password: password.into() });
        self
    }

    /// Offers loopback addresses, or never does. See [`Config::loopback`].
    #[must_use]
    pub const fn loopback(mut self, loopback: bool) -> Self {
        self.config.loopback = Some(loopback);
        self
    }

    /// Hides this device's addresses behind the TURN server. See [`Config::relay_only`].
    #[must_use]
    pub const fn relay_only(mut self, relay_only: bool) -> Self {
        self.config.relay_only = relay_only;
        self
    }
}
