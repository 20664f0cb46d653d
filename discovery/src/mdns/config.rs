use std::net::IpAddr;
use std::time::Duration;

/// Where multicast DNS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interfaces {
    /// On every interface that is up, the loopback included, and on those that come up later.
    #[default]
    Every,
    /// Between the processes of this machine only.
    Loopback,
    /// On the interfaces of these names: `"eth0"`.
    Named(Vec<String>),
    /// On the interfaces that have these addresses when the step begins.
    Having(Vec<IpAddr>),
}

/// The numbers and names of [`Mdns`](super::Mdns).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MdnsConfig {
    /// Where it is spoken. Default everywhere.
    pub interfaces: Interfaces,
    /// The UDP port. Default 5353; another one reaches only those that use it too.
    pub port: u16,
    /// The DNS-SD service type. Default `_byway._udp.local.`
    pub service: String,
    /// Members that are remembered; the one that was heard of longest ago makes room. Default 256.
    pub members: usize,
    /// How long `find` waits for an answer when it knows nobody. Default 500 ms, a little less than the
    /// ladder waits for a step.
    pub wait: Duration,
    /// The network is asked for everybody at most this often, however many users are sought. Default 1 s.
    pub ask_every: Duration,
    /// What was heard before the daemon began anew (after a flood, or when its events were lost) is
    /// forgotten unless it is heard again within this time. Default 2 min, the life of an address in
    /// multicast DNS.
    pub ttl: Duration,
    /// DNS records that the daemon may hold, of any service on the LAN; with more it begins anew. It has
    /// no bound of its own. Default 8,192, at most about 9 KB each and a few hundred bytes as a rule.
    pub records: usize,
    /// How often they are counted. Default 5 s.
    pub inspect_every: Duration,
    /// How long the daemon may take for an answer. Default 2 s.
    pub daemon_wait: Duration,
}

impl Default for MdnsConfig {
    fn default() -> Self {
        Self {
            interfaces: Interfaces::default(),
            port: mdns_sd::MDNS_PORT,
            service: "_byway._udp.local.".to_owned(),
            members: 256,
            wait: Duration::from_millis(500),
            ask_every: Duration::from_secs(1),
            ttl: Duration::from_secs(120),
            records: 8_192,
            inspect_every: Duration::from_secs(5),
            daemon_wait: Duration::from_secs(2),
        }
    }
}
