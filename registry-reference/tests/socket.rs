//! The signalling socket over real WebSockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use byway_api::SignalErrorKind;
use byway_socket::{Closed, Incoming};
use byway_wire::{SocketFrame, limits};
use common::{MINUTE, NOW, Registry, config, mail, registry, someone, someone_of, start};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

/// Waits for what the registry notes a moment after a socket opened or closed.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn online(registry: &Registry, user: &str) -> bool {
    registry.get(&format!("/network/team/peer/{user}")).await.ok()["online"] == json!(true)
}

#[tokio::test]
async fn signals_go_both_ways_between_attached_devices() {
    let (registry, alice, bob) = (registry().await, someone("alice", 1), someone("bob", 2));
    let (a, b) = (registry.attach(&alice).await, registry.attach(&bob).await);
    a.send(bob.peer(), mail(bob.peer(), "offer")).await.unwrap();
    assert_eq!(b.recv().await, Some(Incoming::Mail { from: alice.peer(), envelope: mail(bob.peer(), "offer") }));
    b.send(alice.peer(), mail(alice.peer(), "answer")).await.unwrap();
    assert_eq!(a.recv().await, Some(Incoming::Mail { from: bob.peer(), envelope: mail(alice.peer(), "answer") }));
    let nobody = someone("carol", 3).peer();
    assert_eq!(a.send(nobody, mail(nobody, "x")).await.unwrap_err().kind(), SignalErrorKind::NoSuchPeer);
    let elsewhere = someone_of("other", "bob", 4);
    let _other = registry.attach(&elsewhere).await;
    let e = a.send(elsewhere.peer(), mail(elsewhere.peer(), "x")).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::NoSuchPeer, "networks do not mix");
}

#[tokio::test]
async fn the_path_must_name_the_device_that_proves_itself() {
    let (registry, alice, mallory) = (registry().await, someone("alice", 1), someone("mallory", 6));
    let e = registry.try_attach(&mallory, alice.peer()).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Refused);
    assert!(registry.get("/metrics").await.text.contains("byway_registry_failed_auths_total 1"));
    registry.attach(&alice).await;
}

#[tokio::test]
async fn a_newer_socket_replaces_the_older() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let older = registry.attach(&alice).await;
    let newer = registry.attach(&alice).await;
    assert_eq!(older.closed().await, Closed::Replaced);
    newer.send(alice.peer(), mail(alice.peer(), "to myself")).await.unwrap();
    assert!(newer.recv().await.is_some());
}

#[tokio::test]
async fn garbage_ends_the_socket_and_nothing_else() {
    let registry = registry().await;
    let path = format!("/{}", someone("alice", 1).peer());
    let big = Bytes::from(vec![0; limits::SOCKET_FRAME_MAX + 1]);
    let messages = [Message::text("{\"type\":\"offer\"}"), Message::binary(&b"\xff\xff\xff"[..]), Message::Binary(big)];
    for message in messages {
        let mut socket = registry.raw_socket(&path).await;
        assert!(socket.next().await.unwrap().unwrap().is_binary());
        let _ = socket.send(message).await;
        while let Some(Ok(_)) = socket.next().await {}
    }
    // Bytes that are no WebSocket frame at all.
    let mut socket = registry.raw_socket(&path).await;
    assert!(socket.next().await.unwrap().unwrap().is_binary());
    tokio::io::AsyncWriteExt::write_all(socket.get_mut(), &[0xff; 64]).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    registry.attach(&someone("alice", 1)).await;
    eventually("only one socket is left", async || registry.get("/metrics").await.text.contains("sockets_open 0"))
        .await;
}

#[tokio::test]
async fn a_device_is_online_while_its_socket_is_open() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    registry.announce(&alice.body(1, NOW)).await.ok();
    registry.pass(MINUTE * 20);
    registry.running.sweep().await.unwrap();
    assert_eq!(registry.active().await, [""; 0]);
    assert!(!online(&registry, "alice").await);

    // The proof is made at the time that the registry's clock shows at the start.
    registry.clock.set(NOW);
    let client = registry.attach(&alice).await;
    registry.pass(MINUTE * 20);
    assert!(online(&registry, "alice").await);
    registry.running.sweep().await.unwrap();
    assert_eq!(registry.active().await, ["alice"], "its socket is open");
    client.close().await;
    eventually("offline", async || !online(&registry, "alice").await).await;
    registry.pass(MINUTE * 16);
    registry.running.sweep().await.unwrap();
    assert_eq!(registry.active().await, [""; 0]);
}

#[tokio::test]
async fn who_attaches_without_a_record_is_not_listed() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let _client = registry.attach(&alice).await;
    registry.running.sweep().await.unwrap();
    assert_eq!(registry.active().await, [""; 0]);
    assert!(!online(&registry, "alice").await);
}

#[tokio::test]
async fn volunteers_are_appointed_when_too_few_coordinate() {
    let registry = registry().await;
    let mut volunteers = Vec::new();
    for n in 1..=3 {
        let volunteer = someone(&format!("volunteer{n}"), n);
        let mut draft = volunteer.draft(1, NOW);
        draft.capabilities = vec!["coordinator;cap=64".to_owned()];
        registry.announce(&volunteer.body_of(&volunteer.signed(draft, NOW))).await.ok();
        volunteers.push(registry.attach(&volunteer).await);
    }
    let bystander = someone("bystander", 9);
    registry.announce(&bystander.body(1, NOW)).await.ok();
    let bystander = registry.attach(&bystander).await;
    registry.running.sweep().await.unwrap();
    let page = registry.get("/network/team/active-peers").await.ok();
    let appointed =
        page["peers"].as_array().unwrap().iter().filter(|peer| peer["isCoordinator"] == json!(true)).count();
    assert_eq!(appointed, 2);
    let mut asked = 0;
    for client in &volunteers {
        client.close().await;
        asked += usize::from(client.recv().await == Some(Incoming::Appoint));
    }
    bystander.close().await;
    assert_eq!((asked, bystander.recv().await), (2, None));
}

#[tokio::test]
async fn the_nonce_of_the_challenge_is_good_for_a_call() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let mut socket = registry.raw_socket(&format!("/{}", alice.peer())).await;
    let challenge = socket.next().await.unwrap().unwrap().into_data();
    let SocketFrame::Challenge { nonce, .. } = SocketFrame::decode(challenge).unwrap() else { panic!() };
    let path = "/network/team/active-peers";
    let proof = alice.prove_at("GET", &registry.url(path), &nonce, NOW);
    registry.with_proof(&proof, reqwest::Method::GET, path, &json!(null)).await.ok();
}

/// A proof that somebody overheard on the wire is good for that one challenge only.
#[tokio::test]
async fn an_overheard_proof_cannot_be_used_again() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let path = format!("/{}", alice.peer());
    let target = format!("ws://{}{path}", registry.running.addr());
    let mut first = registry.raw_socket(&path).await;
    let SocketFrame::Challenge { nonce, .. } =
        SocketFrame::decode(first.next().await.unwrap().unwrap().into_data()).unwrap()
    else {
        panic!()
    };
    let auth = SocketFrame::Auth(alice.prove_at("WS", &target, &nonce, NOW)).encode();
    first.send(Message::Binary(auth.clone())).await.unwrap();
    let attached = SocketFrame::decode(first.next().await.unwrap().unwrap().into_data()).unwrap();
    assert!(matches!(attached, SocketFrame::Status { seq: 0, .. }), "{attached:?}");
    let mut second = registry.raw_socket(&path).await;
    second.next().await.unwrap().unwrap();
    second.send(Message::Binary(auth)).await.unwrap();
    let refused = SocketFrame::decode(second.next().await.unwrap().unwrap().into_data()).unwrap();
    assert!(matches!(refused, SocketFrame::Error { .. }), "{refused:?}");
}

#[tokio::test]
async fn shutting_down_ends_upgraded_sockets_too() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let attached = registry.attach(&alice).await;
    let mut half = registry.raw_socket(&format!("/{}", someone("bob", 2).peer())).await;
    assert!(half.next().await.unwrap().unwrap().is_binary());
    let address = registry.running.addr();
    let begun = std::time::Instant::now();
    registry.running.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing had to be cut off");
    assert_eq!(attached.closed().await, Closed::Stopping);
    while let Some(Ok(_)) = half.next().await {}
    tokio::net::TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn upgrades_and_failed_proofs_of_an_address_are_limited() {
    let mut config = config();
    config.limits.failed_auths_per_minute = 3;
    let (registry, alice, mallory) = (start(config).await, someone("alice", 1), someone("mallory", 6));
    for _ in 0..3 {
        assert!(registry.try_attach(&mallory, alice.peer()).await.is_err());
    }
    eventually("the failures are counted", async || {
        registry.get("/metrics").await.text.contains("byway_registry_failed_auths_total 3")
    })
    .await;
    let path = format!("/{}", alice.peer());
    let request = common::http()
        .get(registry.url(&path))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = common::Answer::of(request.send().await.unwrap()).await;
    answer.is(429, "rate_limited");
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
}
