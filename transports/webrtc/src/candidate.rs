//! This side's ICE candidates.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// At most this many host addresses of one family are offered.
const MAX_HOSTS: usize = 6;

/// The addresses under which this endpoint may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Addresses of this machine, with the port of the socket of their family.
    pub(crate) hosts: Vec<SocketAddr>,
    /// What a STUN server saw, by the address the request left from.
    pub(crate) reflexive: BTreeMap<SocketAddr, SocketAddr>,
    /// The TURN server's address for us.
    pub(crate) relayed: Option<SocketAddr>,
}

/// One candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    Host { address: SocketAddr, rank: u16 },
    Reflexive { address: SocketAddr, base: SocketAddr },
    Relayed { address: SocketAddr },
}

impl Candidates {
    /// Replaces the hosts; the others have to be learned anew. True if something changed.
    pub(crate) fn set_hosts(&mut self, mut hosts: Vec<SocketAddr>) -> bool {
        for ipv4 in [true, false] {
            let mut left = MAX_HOSTS;
            hosts.retain(|host| {
                if host.is_ipv4() == ipv4 {
                    let keep = left > 0;
                    left = left.saturating_sub(1);
                    return keep;
                }
                true
            });
        }
        if hosts == self.hosts {
            return false;
        }
        self.hosts = hosts;
        let bases = &self.hosts;
        self.reflexive.retain(|base, _| bases.contains(base));
        true
    }

    /// All of them, or only the relayed one.
    pub(crate) fn list(&self, relay_only: bool) -> Vec<Candidate> {
        let mut list = Vec::new();
        if !relay_only {
            list.extend(self.hosts.iter().zip(0..).map(|(&address, rank)| Candidate::Host { address, rank }));
            list.extend(
                self.reflexive
                    .iter()
                    .filter(|(base, address)| base != address)
                    .map(|(&base, &address)| Candidate::Reflexive { address, base }),
            );
        }
        list.extend(self.relayed.map(|address| Candidate::Relayed { address }));
        list
    }

    /// The first host of the family of `other`.
    pub(crate) fn host_like(&self, other: SocketAddr) -> Option<SocketAddr> {
        self.hosts.iter().copied().find(|host| host.is_ipv4() == other.is_ipv4())
    }

    /// True if `ip` is one of our own addresses.
    pub(crate) fn has_host(&self, ip: IpAddr) -> bool {
        self.hosts.iter().any(|host| host.ip() == ip)
    }
}

impl Candidate {
    /// The candidate attribute (RFC 8839, section 5.1), priorities by RFC 8445, section 5.1.2.
    pub(crate) fn attribute(&self) -> String {
        let family = |address: &SocketAddr| if address.is_ipv4() { 4 } else { 6 };
        let priority = |kind: u32, local: u16| (kind << 24) | (u32::from(local) << 8) | 255;
        match self {
            Self::Host { address, rank } => format!(
                "candidate:h{}r{rank} 1 udp {} {} {} typ host",
                family(address),
                priority(126, u16::MAX - rank),
                address.ip(),
                address.port()
            ),
            Self::Reflexive { address, base } => format!(
                "candidate:s{} 1 udp {} {} {} typ srflx raddr {} rport {}",
                family(address),
                priority(100, u16::MAX),
                address.ip(),
                address.port(),
                base.ip(),
                base.port()
            ),
            // the related address is for diagnostics only and would give away what relay_only hides
            Self::Relayed { address } => format!(
                "candidate:t{} 1 udp {} {} {} typ relay raddr {} rport 0",
                family(address),
                priority(0, u16::MAX),
                address.ip(),
                address.port(),
                if address.is_ipv4() { "0.0.0.0" } else { "::" },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_only_offers_nothing_else() {
        let mut all = Candidates { relayed: Some("198.51.100.7:4000".parse().unwrap()), ..Candidates::default() };
        all.set_hosts(vec!["192.0.2.1:5".parse().unwrap()]);
        all.reflexive.insert("192.0.2.1:5".parse().unwrap(), "203.0.113.9:77".parse().unwrap());
        assert_eq!(all.list(false).len(), 3);
        let hidden: Vec<_> = all.list(true).iter().map(Candidate::attribute).collect();
        assert_eq!(hidden, ["candidate:t4 1 udp 16777215 198.51.100.7 4000 typ relay raddr 0.0.0.0 rport 0"]);
    }

    #[test]
    fn a_mapping_whose_base_is_gone_is_forgotten() {
        let mut all = Candidates::default();
        all.set_hosts(vec!["192.0.2.1:5".parse().unwrap()]);
        all.reflexive.insert("192.0.2.1:5".parse().unwrap(), "203.0.113.9:77".parse().unwrap());
        assert!(!all.set_hosts(vec!["192.0.2.1:5".parse().unwrap()]));
        assert!(all.set_hosts(vec!["192.0.2.2:5".parse().unwrap()]));
        assert_eq!(all.list(false).len(), 1);
    }
}
