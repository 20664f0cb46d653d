//! What can be set, and the numbers it has by default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use byway_socket::HubConfig;
use byway_wire::limits;

use crate::{Clock, SystemClock};

/// Where the embedded database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In memory: a restart forgets everything.
    Memory,
    /// One file; made if it is not there.
    File(PathBuf),
}

/// Everything that can be set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; port 0 takes a free one. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// The URL under which clients know the registry, `http(s)://host[:port][/prefix]`. Needed behind a
    /// proxy or a name: proofs are bound to it. Without it only proofs for the address of the
    /// connection itself (and `localhost`) are taken.
    pub public_url: Option<String>,
    /// The embedded database. Default: in memory.
    pub database: Database,
    /// Serve open networks, in which everybody may name themselves. Default no.
    pub open: bool,
    /// Take the client's address from `X-Forwarded-For`, last entry. Only behind a proxy that sets it.
    pub trust_proxy: bool,
    /// How much is taken from whom.
    pub limits: Limits,
    /// How long things last.
    pub times: Times,
    /// The signalling socket.
    pub hub: HubConfig,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Self {
        let mut hub = HubConfig::default();
        hub.max_sockets = 10_000;
        hub.max_half_open = 1_024;
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            database: Database::Memory,
            open: false,
            trust_proxy: false,
            limits: Limits::default(),
            times: Times::default(),
            hub,
            clock: Arc::new(SystemClock),
        }
    }
}

/// How much is taken from whom. A rate of 0 means no limit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Calls a minute of one device; default 10.
    pub calls_per_minute: u32,
    /// Calls at once; default 20.
    pub burst: u32,
    /// Calls a minute without a proof, and socket upgrades, of one IP address (IPv6: one /64); default 120.
    pub ip_calls_per_minute: u32,
    /// Of these at once; default 240.
    pub ip_burst: u32,
    /// Failed authentications a minute of one IP address; default 60.
    pub failed_auths_per_minute: u32,
    /// The largest request body; 64 KiB.
    pub body_bytes: usize,
    /// Open TCP connections; default 20,000.
    pub connections: usize,
    /// Devices with a record, in all networks together; default 100,000.
    pub devices: usize,
    /// Devices of one user; 8.
    pub devices_per_user: usize,
    /// Peers in one page; 200.
    pub page: usize,
    /// Addresses and devices whose rates are remembered; default 100,000.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_minute: limits::REGISTRY_CALLS_PER_MINUTE,
            burst: limits::REGISTRY_BURST,
            ip_calls_per_minute: 120,
            ip_burst: 240,
            failed_auths_per_minute: limits::REGISTRY_FAILED_AUTHS,
            body_bytes: 64 * 1024,
            connections: 20_000,
            devices: 100_000,
            devices_per_user: limits::MEMBER_DEVICES,
            page: 200,
            remembered: 100_000,
        }
    }
}

/// How long things last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Times {
    /// After an announcement a device counts as online; 10 min.
    pub online: Duration,
    /// Without socket and announcement a device leaves the list of active peers; 15 min.
    pub active: Duration,
    /// Between two cleanups; 5 min.
    pub sweep: Duration,
    /// Without a heartbeat a coordinator counts as gone; 10 min, two of its periods.
    pub coordinator: Duration,
    /// A nonce is taken for this long, and once more as long; 150 s.
    pub nonce: Duration,
    /// One request; 10 s.
    pub request: Duration,
    /// One call of the backend; 5 s.
    pub backend: Duration,
    /// A connection on which nothing arrives; 90 s, longer than two pings of the socket.
    pub idle: Duration,
    /// What is still running at shutdown; 5 s.
    pub shutdown: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            online: Duration::from_secs(600),
            active: Duration::from_secs(900),
            sweep: Duration::from_secs(300),
            coordinator: Duration::from_secs(600),
            nonce: Duration::from_secs(150),
            request: Duration::from_secs(10),
            backend: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            shutdown: Duration::from_secs(5),
        }
    }
}
