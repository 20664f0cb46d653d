//! Names and addresses of both worlds: `libp2p:/ip4/192.0.2.7/tcp/4001` and the multiaddress in it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use byway_api::{PeerId, SignalAddress, TransportError, TransportErrorKind as Kind};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::{Config, NAME, error};

/// Identity multihash of a protobuf-encoded Ed25519 key (libp2p peer-ids specification).
const PEER_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The name of a device in libp2p: the same text.
pub(crate) fn to_libp2p(peer: &PeerId) -> Result<libp2p::PeerId, TransportError> {
    let mut id = [0; 38];
    id[..6].copy_from_slice(&PEER_PREFIX);
    id[6..].copy_from_slice(peer.as_bytes());
    libp2p::PeerId::from_bytes(&id).map_err(|e| error(Kind::BadAddress, peer.to_string()).with_source(e))
}

/// The device of a libp2p name; `None` if its key is not an Ed25519 key.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_slice(peer.to_bytes().strip_prefix(&PEER_PREFIX)?).ok()
}

/// The multiaddress to dial for `peer`. A `/p2p/` part at its end may only name that very device.
pub(crate) fn to_dial(peer: &PeerId, to: &SignalAddress) -> Result<Multiaddr, TransportError> {
    let wrong = |why: &str| error(Kind::BadAddress, format!("{to}: {why}"));
    if to.scheme() != NAME {
        return Err(wrong("not of the form libp2p:/ip4/192.0.2.7/tcp/4001"));
    }
    let mut address: Multiaddr = to.rest().parse().map_err(|e| wrong("no multiaddress").with_source(e))?;
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        address.pop();
        if from_libp2p(&named) != Some(*peer) {
            return Err(wrong("it names another device"));
        }
    }
    let plain = !address.iter().any(|part| matches!(part, Protocol::P2p(_)));
    if plain && socket(&address).is_some() {
        Ok(address)
    } else {
        Err(wrong("neither TCP nor QUIC over an IP address"))
    }
}

/// Host and port of a multiaddress, if it is one that can be dialled directly. The device at its end does
/// not matter.
pub(crate) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let protocols = (parts.next()?, parts.next());
    let ((Protocol::Tcp(port), None) | (Protocol::Udp(port), Some(Protocol::QuicV1))) = protocols else { return None };
    parts.next().is_none().then_some(SocketAddr::new(ip, port))
}

/// A multiaddress of the configuration.
pub(crate) fn configured(text: &str) -> Result<Multiaddr, TransportError> {
    let wrong = || error(Kind::Config, format!("{text} is no multiaddress like /ip4/0.0.0.0/tcp/4001"));
    let address: Multiaddr = text.parse().map_err(|e| wrong().with_source(e))?;
    let plain = !address.iter().any(|part| matches!(part, Protocol::P2p(_)));
    if plain && socket(&address).is_some() { Ok(address) } else { Err(wrong()) }
}

/// The wildcard address of both families.
pub(crate) fn wildcards() -> Vec<Multiaddr> {
    ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"].iter().filter_map(|text| text.parse().ok()).collect()
}

/// What others are told: what is advertised, then the addresses that are listened on, those that reach
/// farthest first, at most [`Config::addresses`].
pub(crate) fn published(config: &Config, advertised: &[Multiaddr], listened: &[Multiaddr]) -> Vec<SignalAddress> {
    let mut near: Vec<(u8, SocketAddr, &Multiaddr)> = listened
        .iter()
        .filter_map(|address| socket(address).map(|socket| (distance(socket.ip()), socket, address)))
        .filter(|(distance, ..)| *distance < LINK_LOCAL)
        .collect();
    near.sort();
    let asked = !config.listen.is_empty() && near.iter().all(|(distance, ..)| *distance == LOOPBACK);
    let elsewhere = !advertised.is_empty() || near.iter().any(|(distance, ..)| *distance < LOOPBACK);
    if !config.loopback.unwrap_or(asked || !elsewhere) {
        near.retain(|(distance, ..)| *distance < LOOPBACK);
    }
    let all = advertised.iter().chain(near.iter().map(|(.., address)| *address));
    all.filter_map(|address| SignalAddress::new(&format!("{NAME}:{address}")).ok()).take(config.addresses).collect()
}

const LOOPBACK: u8 = 2;
const LINK_LOCAL: u8 = 3;

/// How far an address reaches: everywhere, the local network, this machine; nowhere without an interface.
fn distance(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback() => LOOPBACK,
        IpAddr::V4(ip) if ip.is_link_local() => LINK_LOCAL,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => LINK_LOCAL,
        IpAddr::V4(ip) if ip.is_private() => 1,
        IpAddr::V6(ip) if Ipv6Addr::is_unique_local(&ip) => 1,
        _ if ip.is_unspecified() => LINK_LOCAL,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SignalAddress {
        text.parse().unwrap()
    }

    #[test]
    fn one_name_in_both_worlds() {
        let peer = PeerId::from_bytes([7; 32]);
        let theirs = to_libp2p(&peer).unwrap();
        assert_eq!(theirs.to_string(), peer.to_string());
        assert_eq!(from_libp2p(&theirs), Some(peer));
    }

    #[test]
    fn only_direct_addresses_of_the_right_device_are_dialled() {
        let (peer, other) = (PeerId::from_bytes([7; 32]), PeerId::from_bytes([8; 32]));
        let dialled = |text: &str| to_dial(&peer, &address(text)).map(|a| a.to_string()).map_err(|e| e.kind());
        assert_eq!(dialled("libp2p:/ip4/192.0.2.7/tcp/1"), Ok("/ip4/192.0.2.7/tcp/1".to_owned()));
        assert_eq!(dialled(&format!("libp2p:/ip6/::1/tcp/1/p2p/{peer}")), Ok("/ip6/::1/tcp/1".to_owned()));
        for wrong in [
            "mem:7".to_owned(),
            "libp2p:nonsense".to_owned(),
            "libp2p:/ip4/192.0.2.7".to_owned(),
            "libp2p:/dns4/example.org/tcp/1".to_owned(),
            "libp2p:/ip4/192.0.2.7/tcp/1/ws".to_owned(),
            format!("libp2p:/ip4/192.0.2.7/tcp/1/p2p/{other}"),
            format!("libp2p:/ip4/192.0.2.7/tcp/1/p2p/{other}/p2p-circuit/p2p/{peer}"),
        ] {
            assert_eq!(dialled(&wrong), Err(Kind::BadAddress), "{wrong}");
        }
    }

    #[test]
    fn the_farthest_reaching_addresses_are_told_first_and_loopback_only_for_want_of_others() {
        let listened: Vec<Multiaddr> =
            ["/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect();
        let told = |config: &Config, advertised: &[Multiaddr], listened: &[Multiaddr]| {
            published(config, advertised, listened).iter().map(|a| a.rest().to_owned()).collect::<Vec<_>>()
        };
        let all = Config::default();
        assert_eq!(told(&all, &[], &listened), ["/ip6/2001:db8::1/tcp/1", "/ip4/10.0.0.1/tcp/1"]);
        assert_eq!(told(&all, &[], &listened[..2]), ["/ip4/127.0.0.1/tcp/1"]);
        let mapped: Multiaddr = "/ip4/203.0.113.7/tcp/9".parse().unwrap();
        let one = Config { addresses: 1, ..Config::default() };
        assert_eq!(told(&one, std::slice::from_ref(&mapped), &listened), ["/ip4/203.0.113.7/tcp/9"]);
        let never = Config { loopback: Some(false), ..Config::default() };
        assert!(told(&never, &[], &listened[..1]).is_empty());
        let always = Config { loopback: Some(true), ..Config::default() };
        assert_eq!(told(&always, &[], &listened).last().unwrap(), "/ip4/127.0.0.1/tcp/1");
    }
}
