//! Many connections, many cycles, and hostile datagrams.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use byway_api::{CloseCode, Connection, Endpoint, SignalKind};
use byway_transport_webrtc::{Config, WebRtc, WebRtcEndpoint};
use support::*;

/// The limits on OFFERs are for devices, and these tests are one device that dials all the time.
fn unlimited() -> WebRtc {
    let mut config: Config = local().config().clone();
    config.offer_burst = u32::MAX;
    config.offers = 256;
    config.accept_queue = 256;
    WebRtc::new(config)
}

async fn unlimited_pair(hub: &Hub) -> (Arc<WebRtcEndpoint>, Arc<WebRtcEndpoint>) {
    (open(&unlimited(), hub, peer(1)).await, open(&unlimited(), hub, peer(2)).await)
}

/// The first messages of the accepted side arrive together with the acknowledgement of the channel,
/// and those of the dialling side before the answerer's task has looked at the connection.
#[tokio::test]
async fn no_early_message_is_lost() {
    let hub = Hub::default();
    let (a, b) = unlimited_pair(&hub).await;
    for round in 0..100u8 {
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        let speak = |connection: Arc<dyn Connection>| async move {
            for n in 0..3u8 {
                connection.send(Bytes::from(vec![round, n])).await.unwrap();
            }
            for n in 0..3u8 {
                assert_eq!(frame(&*connection).await, vec![round, n]);
            }
        };
        tokio::join!(speak(Arc::clone(&here)), speak(Arc::clone(&there)));
        here.close(CloseCode::NORMAL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_cycles_leave_nothing() {
    let hub = Hub::default();
    let (a, b) = unlimited_pair(&hub).await;
    for round in 0..500 {
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        if round % 2 == 0 {
            here.close(CloseCode::NORMAL).await;
            assert_eq!(closed(&*there).await, CloseCode::NORMAL);
        } else {
            drop(there);
            assert_eq!(closed(&*here).await, CloseCode::LOST);
        }
    }
    until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
    for endpoint in [a, b] {
        let stats = endpoint.stats();
        assert_eq!((stats.sockets, stats.accept_queue), (1, 0), "{stats:?}");
        assert!(stats.tasks <= 4, "{stats:?}");
        endpoint.close().await;
        let stats = endpoint.stats();
        assert_eq!((stats.sockets, stats.tasks), (0, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_fifty_peers_share_one_socket() {
    const PEERS: u32 = 150;
    let hub = Hub::default();
    let center = open(&unlimited(), &hub, peer(1)).await;
    let dials = (0..PEERS).map(|n| {
        let hub = hub.clone();
        tokio::spawn(async move {
            let endpoint = open(&local(), &hub, peer(100 + n)).await;
            let connection = within(endpoint.dial(peer(1), &at(peer(1)))).await.unwrap();
            connection.send(Bytes::copy_from_slice(&n.to_be_bytes())).await.unwrap();
            assert_eq!(frame(&*connection).await, &n.to_be_bytes()[..]);
            (endpoint, connection)
        })
    });
    let dials: Vec<_> = dials.collect();
    let mut accepted = Vec::new();
    for _ in 0..PEERS {
        let connection = accept(&*center).await;
        let first = frame(&*connection).await;
        connection.send(first).await.unwrap();
        accepted.push(connection);
    }
    let mut dialled = Vec::new();
    for dial in dials {
        dialled.push(within(dial).await.unwrap());
    }
    let stats = center.stats();
    assert_eq!((stats.sockets, stats.connections), (1, PEERS as usize));
    within(center.close()).await;
    for (endpoint, connection) in dialled {
        assert_eq!(closed(&*connection).await, CloseCode::LEAVING);
        endpoint.close().await;
    }
}

/// Garbage, fake DTLS, fake STUN, STUN with our user fragment but without the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_datagrams_disturb_nobody() {
    let hub = Hub::default();
    let (a, b) = unlimited_pair(&hub).await;
    let ufrag = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&ufrag);
    hub.rule(move |from, _, signal| {
        if signal.kind == SignalKind::Offer && from == peer(1) {
            let sdp = String::from_utf8_lossy(&signal.body).into_owned();
            let line = sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap();
            *seen.lock().unwrap() = line.to_owned();
        }
        Fate::Deliver
    });
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let target: std::net::SocketAddr = here.path().local.parse().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let ufrag = ufrag.lock().unwrap().clone();
    let attacker = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut sent = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let datagram = forged(state, sent, &ufrag);
            let _ = socket.send_to(&datagram, target);
            sent += 1;
            if sent.is_multiple_of(32) {
                std::thread::yield_now();
            }
        }
        sent
    });
    for n in 0..2_000u32 {
        here.send(Bytes::copy_from_slice(&n.to_be_bytes())).await.unwrap();
        assert_eq!(frame(&*there).await, &n.to_be_bytes()[..]);
        there.send(Bytes::copy_from_slice(&n.to_be_bytes())).await.unwrap();
        assert_eq!(frame(&*here).await, &n.to_be_bytes()[..]);
    }
    // the shared socket also still connects
    let c = open(&local(), &hub, peer(3)).await;
    let (one, other) = connect(&*c, &*a, peer(1)).await;
    one.send(Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(frame(&*other).await, "new");
    stop.store(true, Ordering::Relaxed);
    assert!(attacker.join().unwrap() > 1_000);
    assert!(a.stats().remotes <= 4, "{:?}", a.stats());
    assert_eq!(a.stats().connections, 2);
}

fn forged(random: u64, n: u64, ufrag: &str) -> Vec<u8> {
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    let mut noise: Vec<u8> = (0..100).map(|i| random.rotate_left(i) as u8).collect();
    match n % 6 {
        0 => {}
        1 => noise[..3].copy_from_slice(&[22, 0xfe, 0xfd]),
        2 => {
            noise[..4].copy_from_slice(&[0, 1, 0, 80]);
            noise[4..8].copy_from_slice(&cookie);
        }
        3 => {
            // a response that nobody asked for
            noise[..4].copy_from_slice(&[1, 1, 0, 80]);
            noise[4..8].copy_from_slice(&cookie);
        }
        4 => {
            // our user fragment, the role attribute of a conflict, no integrity
            let user = format!("{ufrag}:abcd");
            let padded = user.len().next_multiple_of(4);
            let mut request = vec![0, 1, 0, (4 + padded + 12) as u8];
            request.extend(cookie);
            request.extend(&noise[..12]);
            request.extend([0, 6, 0, user.len() as u8]);
            request.extend(user.as_bytes());
            request.resize(20 + 4 + padded, 0);
            request.extend([0x80, 0x2a, 0, 8]);
            request.extend([0xff; 8]);
            return request;
        }
        _ => noise.truncate((random % 30) as usize),
    }
    noise
}
