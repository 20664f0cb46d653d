//! Addresses: wildcard sockets, IPv6, STUN and TURN servers, changes of the network.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{CloseCode, Connection, Endpoint, PathKind, Signal, SignalKind, TransportErrorKind};
use byway_transport_webrtc::WebRtc;
use support::*;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

struct Password;

impl AuthHandler for Password {
    fn auth_handle(&self, user: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        Ok(generate_auth_key(user, realm, "secret"))
    }
}

/// A STUN and TURN server; the password is `secret`.
async fn server() -> (Server, String) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let relay_addr_generator = Box::new(RelayAddressGeneratorStatic {
        relay_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        address: "127.0.0.1".to_owned(),
        net: Arc::new(Net::new(None)),
    });
    let config = ServerConfig {
        conn_configs: vec![ConnConfig { conn: Arc::new(socket), relay_addr_generator }],
        realm: "byway".to_owned(),
        auth_handler: Arc::new(Password),
        channel_bind_timeout: Duration::ZERO,
        alloc_close_notify: None,
    };
    (Server::new(config).await.unwrap(), address)
}

async fn echo(here: &dyn Connection, there: &dyn Connection) {
    here.send(Bytes::from_static(b"ping")).await.unwrap();
    assert_eq!(frame(there).await, "ping");
    there.send(Bytes::from(vec![9; 50_000])).await.unwrap();
    assert_eq!(frame(here).await, vec![9; 50_000]);
}

#[tokio::test]
async fn the_default_connects_two_endpoints_of_one_machine() {
    let hub = Hub::default();
    let a = open(&WebRtc::default(), &hub, peer(1)).await;
    let b = open(&WebRtc::default(), &hub, peer(2)).await;
    assert!(!a.candidates().is_empty());
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    echo(&*here, &*there).await;
    // replies leave from the address that the other side knows
    assert_eq!(here.path().local, there.path().remote);
    assert_eq!(here.path().remote, there.path().local);
    assert!(!here.path().local.starts_with("0.0.0.0"), "{:?}", here.path());
}

#[tokio::test]
async fn a_wildcard_socket_offers_loopback_when_told_to() {
    let hub = Hub::default();
    let a = open(&WebRtc::default().loopback(true), &hub, peer(1)).await;
    assert!(a.candidates().iter().any(|it| it.contains(" 127.0.0.1 ")), "{:?}", a.candidates());
    // the other side has only its loopback address, so that is where the packets must come from
    let b = open(&local(), &hub, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    assert!(here.path().local.starts_with("127.0.0.1:"), "{:?}", here.path());
    echo(&*here, &*there).await;
    let (here, there) = connect(&*b, &*a, peer(1)).await;
    echo(&*here, &*there).await;
}

#[tokio::test]
async fn ipv6_loopback() {
    let hub = Hub::default();
    let v6 = WebRtc::default().bind("[::1]:0".parse().unwrap());
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback address");
        return;
    }
    let (a, b) = (open(&v6, &hub, peer(1)).await, open(&v6, &hub, peer(2)).await);
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    assert!(here.path().remote.starts_with("[::1]:"), "{:?}", here.path());
    echo(&*here, &*there).await;
}

#[tokio::test]
async fn both_families_on_one_endpoint() {
    let hub = Hub::default();
    let both = WebRtc::default().bind("[::1]:0".parse().unwrap()).bind("127.0.0.1:0".parse().unwrap());
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback address");
        return;
    }
    let center = open(&both, &hub, peer(1)).await;
    assert_eq!(center.stats().sockets, 2);
    for (n, address) in [(2, "127.0.0.1:0"), (3, "[::1]:0")] {
        let other = open(&WebRtc::default().bind(address.parse().unwrap()), &hub, peer(n)).await;
        let (here, there) = connect(&*other, &*center, peer(1)).await;
        echo(&*here, &*there).await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_configuration_error() {
    let hub = Hub::default();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let transport = WebRtc::default().bind(taken.local_addr().unwrap());
    let e = transport.open(context(&hub, peer(1))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Config);
    let e = WebRtc::default().relay_only(true).open(context(&hub, peer(1))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Config);
}

/// A STUN server that sees everyone behind a NAT with the address 127.0.0.2.
async fn nat_like_stun_server() -> (tokio::task::JoinHandle<()>, String) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut request = [0; 1500];
        loop {
            let (_, from) = socket.recv_from(&mut request).await.unwrap();
            // Binding success with one XOR-MAPPED-ADDRESS (RFC 8489, section 14.2)
            let mut response = vec![1, 1, 0, 12];
            response.extend(&request[4..20]);
            response.extend([0, 0x20, 0, 8, 0, 1]);
            response.extend((from.port() ^ 0x2112).to_be_bytes());
            response.extend([127 ^ 0x21, 0x12, 0xa4, 2 ^ 0x42]);
            socket.send_to(&response, from).await.unwrap();
        }
    });
    (task, address)
}

#[tokio::test]
async fn the_server_reflexive_address_is_offered() {
    let (server, address) = nat_like_stun_server().await;
    let hub = Hub::default();
    let a = open(&local().stun(format!("stun:{address}")), &hub, peer(1)).await;
    let reflexive = a.candidates().into_iter().find(|it| it.contains("typ srflx")).unwrap();
    assert!(reflexive.contains(" 127.0.0.2 ") && reflexive.contains("raddr 127.0.0.1"), "{reflexive}");
    let b = open(&local(), &hub, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    echo(&*here, &*there).await;
    a.close().await;
    assert!(is_idle(&a.stats()));
    server.abort();
}

#[tokio::test]
async fn a_stun_server_that_does_not_answer_delays_nothing_for_long() {
    let hub = Hub::default();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let a = within(open(&local().stun(silent.local_addr().unwrap().to_string()), &hub, peer(1))).await;
    let b = open(&local(), &hub, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    echo(&*here, &*there).await;
    within(a.close()).await;
    assert!(is_idle(&a.stats()), "{:?}", a.stats());
}

#[tokio::test]
async fn relayed_through_one_allocation() {
    let (server, address) = server().await;
    let hub = Hub::default();
    let a = open(&local().turn(&address, "alice", "secret").relay_only(true), &hub, peer(1)).await;
    assert_eq!(a.candidates().len(), 1, "{:?}", a.candidates());
    assert!(a.candidates()[0].contains("typ relay"));
    for n in 2..5 {
        let other = open(&local(), &hub, peer(n)).await;
        // who is dialled and who dials makes no difference
        let (here, there) =
            if n % 2 == 0 { connect(&*a, &*other, peer(n)).await } else { connect(&*other, &*a, peer(1)).await };
        assert_eq!((here.path().kind, there.path().kind), (PathKind::Turn, PathKind::Turn));
        assert_eq!(here.binding(), there.binding());
        echo(&*here, &*there).await;
        here.close(CloseCode::LEAVING).await;
        assert_eq!(closed(&*there).await, CloseCode::LEAVING);
    }
    // both sides relayed
    let b = open(&local().turn(format!("turn:{address}"), "bob", "secret").relay_only(true), &hub, peer(9)).await;
    let (here, there) = connect(&*a, &*b, peer(9)).await;
    echo(&*here, &*there).await;
    within(a.close()).await;
    assert_eq!(closed(&*there).await, CloseCode::LEAVING);
    assert!(is_idle(&a.stats()));
    within(b.close()).await;
    server.close().await.unwrap();
}

#[tokio::test]
async fn a_wrong_turn_password_is_told_by_the_dial() {
    let (server, address) = server().await;
    let hub = Hub::default();
    let a = open(&local().turn(&address, "alice", "wrong").relay_only(true), &hub, peer(1)).await;
    assert!(a.candidates().is_empty());
    let _b = open(&local(), &hub, peer(2)).await;
    let e = within(a.dial(peer(2), &at(peer(2)))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::LocalFault);
    // without relay_only a server that does not work is no reason to fail
    let c = open(&local().turn(&address, "carol", "wrong"), &hub, peer(3)).await;
    let b = open(&local(), &hub, peer(4)).await;
    let (here, there) = connect(&*c, &*b, peer(4)).await;
    echo(&*here, &*there).await;
    server.close().await.unwrap();
}

#[tokio::test]
async fn direct_is_preferred_to_relayed() {
    let (server, address) = server().await;
    let hub = Hub::default();
    let with_turn = local().turn(&address, "alice", "secret");
    let (a, b) = (open(&with_turn, &hub, peer(1)).await, open(&with_turn, &hub, peer(2)).await);
    for _ in 0..3 {
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        assert_eq!((here.path().kind, there.path().kind), (PathKind::Direct, PathKind::Direct));
        here.close(CloseCode::NORMAL).await;
    }
    server.close().await.unwrap();
}

/// What is learned only after the description has left follows as a signal of its own.
#[tokio::test]
async fn a_late_relayed_address_is_signalled() {
    let (server, address) = server().await;
    let hub = Hub::default();
    hub.rule(|_, _, signal| if signal.kind == SignalKind::Answer { Fate::Hold } else { Fate::Deliver });
    let mut config = local().turn(&address, "alice", "secret").config().clone();
    config.gather_timeout = Duration::ZERO;
    let a = open(&WebRtc::new(config), &hub, peer(1)).await;
    assert!(a.candidates().iter().all(|it| it.contains("typ host")));
    let b = open(&local(), &hub, peer(2)).await;
    let address = at(peer(2));
    let release = async {
        hub.sent(SignalKind::Candidate, 1).await;
        hub.release();
    };
    let (dialled, accepted, ()) = tokio::join!(within(a.dial(peer(2), &address)), accept(&*b), release);
    echo(&*dialled.unwrap(), &*accepted).await;
    server.close().await.unwrap();
}

/// Descriptions without a single candidate; all of them come late.
#[tokio::test]
async fn late_candidates_connect() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let late = Arc::new(std::sync::Mutex::new(Vec::new()));
    let stripped = Arc::clone(&late);
    hub.rule(move |from, to, signal| {
        if !matches!(signal.kind, SignalKind::Offer | SignalKind::Answer) {
            return Fate::Deliver;
        }
        let body = String::from_utf8(signal.body.to_vec()).unwrap();
        let is_candidate = |line: &&str| line.starts_with("a=candidate:");
        let candidate = body.lines().find(is_candidate).unwrap().trim_start_matches("a=").to_owned();
        let body = Bytes::from([&b"\x01"[..], candidate.as_bytes()].concat());
        stripped.lock().unwrap().push((from, to, Signal { kind: SignalKind::Candidate, body, ..signal.clone() }));
        let rest = String::from_utf8(signal.body.to_vec()).unwrap();
        Fate::Replace(
            rest.lines().filter(|it| !is_candidate(it)).map(|it| format!("{it}\r\n")).collect::<String>().into(),
        )
    });
    let address = at(peer(2));
    let deliver = async {
        hub.sent(SignalKind::Answer, 1).await;
        for (from, to, signal) in late.lock().unwrap().drain(..) {
            hub.inject(from, to, signal);
        }
    };
    let (dialled, accepted, ()) = tokio::join!(within(a.dial(peer(2), &address)), accept(&*b), deliver);
    echo(&*dialled.unwrap(), &*accepted).await;
}

#[tokio::test]
async fn a_change_of_the_network_leaves_what_still_works() {
    let hub = Hub::default();
    let a = open(&WebRtc::default(), &hub, peer(1)).await;
    let b = open(&WebRtc::default(), &hub, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let before = a.candidates();
    a.network_changed().await;
    assert_eq!(a.candidates(), before);
    echo(&*here, &*there).await;
}
