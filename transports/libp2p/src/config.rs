//! Configuration: every number of the transport, with its default.

use std::time::Duration;

/// The settings of a [`Libp2p`] transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Multiaddresses to listen on: `/ip4/0.0.0.0/tcp/4001`, with the feature `quic` also
    /// `/ip4/0.0.0.0/udp/4001/quic-v1`. Empty: the wildcard address of both families over TCP, port 0; a
    /// family that this machine lacks is left out then.
    pub listen: Vec<String>,
    /// Multiaddresses at which others reach this device although it does not listen there, behind a port
    /// mapping for example. They stand before the addresses of the interfaces. None by default.
    pub advertise: Vec<String>,
    /// Whether the loopback addresses that a wildcard covers are given to others. `None`: only if there is no
    /// other address.
    pub loopback: Option<bool>,
    /// The most addresses of the endpoint; a record has room for eight of all transports. Default: 4.
    pub addresses: usize,
    /// How long `bind` waits for the addresses of the interfaces; what comes later is a change of addresses.
    /// Default: 500 ms.
    pub listen_timeout: Duration,
    /// Until a `dial` must have led to an open connection. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long an incoming connection has for the handshake of libp2p, and again for that of this transport.
    /// Default: 5 s.
    pub accept_timeout: Duration,
    /// How long a closing connection waits for the far side to take what was sent. Default: 2 s.
    pub linger: Duration,
    /// Bytes that wait to be written before `send` waits; as much again may be in the hands of the stream.
    /// Default: 64 KiB.
    pub send_buffer: usize,
    /// Bytes received and not taken by `recv` at which the connection stops reading, so that the far side
    /// waits; as much again may have been taken at once. 64 bytes are charged for each frame on top of its
    /// own. Default: 1 MiB.
    pub receive_buffer: usize,
    /// Accepted connections that wait for `next`; the surplus is refused with `FULL`. Default: 64.
    pub accept_queue: usize,
    /// Dials that wait for the endpoint's task; more fail with `Busy`. Default: 256.
    pub dial_queue: usize,
    /// Connections and attempts of one endpoint; more dials fail with `Busy`, more incoming connections are
    /// dropped. Default: 1,024.
    pub connections: usize,
    /// Connections of one device, however old; more are dropped. Default: 8.
    pub connections_per_peer: usize,
    /// Incoming connections that have not proven a device yet, and again those that have and are not open
    /// yet; more are dropped. Default: 64.
    pub pending: usize,
    /// The same, from one IP address; this machine's own are exempt. Default: 8.
    pub pending_per_ip: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            advertise: Vec::new(),
            loopback: None,
            addresses: 4,
            listen_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(10),
            accept_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            send_buffer: 64 << 10,
            receive_buffer: 1 << 20,
            accept_queue: 64,
            dial_queue: 256,
            connections: 1024,
            connections_per_peer: 8,
            pending: 64,
            pending_per_ip: 8,
        }
    }
}

/// The libp2p transport: a configuration until it is bound.
///
/// The default listens on a free TCP port of every interface; no server is contacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libp2p {
    config: Config,
}

impl Libp2p {
    /// A transport with these settings.
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Listens on this multiaddress instead of the wildcard; may be called several times. See
    /// [`Config::listen`].
    #[must_use]
    pub fn listen(mut self, multiaddress: impl Into<String>) -> Self {
        self.config.listen.push(multiaddress.into());
        self
    }

    /// Tells others this multiaddress. See [`Config::advertise`].
    #[must_use]
    pub fn advertise(mut self, multiaddress: impl Into<String>) -> Self {
        self.config.advertise.push(multiaddress.into());
        self
    }

    /// Gives loopback addresses to others, or never does. See [`Config::loopback`].
    #[must_use]
    pub const fn loopback(mut self, loopback: bool) -> Self {
        self.config.loopback = Some(loopback);
        self
    }
}
