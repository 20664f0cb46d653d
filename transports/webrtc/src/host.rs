//! The addresses of this machine.

use std::net::{IpAddr, SocketAddr};

/// Candidate addresses of a socket bound to `bound`.
///
/// A specific address stands for itself. The wildcard stands for every usable interface address of
/// its family, loopback only as `loopback` says.
pub(crate) fn addresses(bound: SocketAddr, interfaces: &[IpAddr], loopback: bool) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    interfaces
        .iter()
        .filter(|ip| ip.is_ipv4() == bound.is_ipv4() && (loopback || !ip.is_loopback()))
        .map(|ip| SocketAddr::new(*ip, bound.port()))
        .collect()
}

/// The interface addresses of this machine that can be a candidate, in a stable order.
pub(crate) fn interfaces() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .iter()
        .map(if_addrs::Interface::ip)
        // a link-local IPv6 address means nothing without the interface it is on
        .filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) && !ip.is_unspecified())
        .collect();
    all.sort_by_key(|ip| (matches!(ip, IpAddr::V4(ip) if ip.is_link_local()), *ip));
    all.dedup();
    all
}

/// Whether loopback addresses are candidates: as configured, else only without any other.
pub(crate) fn use_loopback(configured: Option<bool>, interfaces: &[IpAddr]) -> bool {
    configured.unwrap_or_else(|| interfaces.iter().all(IpAddr::is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcard_stands_for_the_interfaces_of_its_family() {
        let interfaces: Vec<IpAddr> =
            ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into();
        let bound = "0.0.0.0:7".parse().unwrap();
        assert_eq!(addresses(bound, &interfaces, false), ["192.0.2.1:7".parse::<SocketAddr>().unwrap()]);
        assert_eq!(addresses(bound, &interfaces, true).len(), 2);
        let bound = "127.0.0.1:7".parse().unwrap();
        assert_eq!(addresses(bound, &interfaces, false), [bound]);
        assert!(!use_loopback(None, &interfaces));
        assert!(use_loopback(None, &interfaces[..1]));
        assert!(!use_loopback(Some(false), &interfaces[..1]));
    }
}
