//! What is kept, for how long, and what a restart brings back.
#![allow(clippy::unwrap_used)]

mod common;

use byway_registry::{Database, ServeError, serve};
use common::{MINUTE, NOW, config, registry, someone, start};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_silent_device_leaves_the_list_and_its_record_stays() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    registry.announce(&alice.body(1, NOW)).await.ok();
    registry.pass(MINUTE * 15);
    assert_eq!(registry.running.sweep().await.unwrap().inactive, 0, "15 minutes are not over");
    assert_eq!(registry.active().await, ["alice"]);
    registry.pass(MINUTE);
    assert_eq!(registry.running.sweep().await.unwrap().inactive, 1);
    assert_eq!(registry.active().await, [""; 0]);
    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!(peer["online"], json!(false));
    assert_eq!(peer["devices"][0]["lastSeen"], json!(NOW.as_millis()));

    registry.pass(MINUTE * 60 * 24 * 14);
    let gone = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!(gone["devices"], json!([]), "what has ended is not answered, swept or not");
    assert_eq!(registry.running.sweep().await.unwrap().records, 1);
}

#[tokio::test]
async fn online_for_ten_minutes_after_an_announcement() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    registry.announce(&alice.body(1, NOW)).await.ok();
    registry.pass(MINUTE * 10 - std::time::Duration::from_secs(1));
    assert_eq!(registry.get("/network/team/peer/alice").await.ok()["online"], json!(true));
    registry.pass(std::time::Duration::from_secs(1));
    assert_eq!(registry.get("/network/team/peer/alice").await.ok()["online"], json!(false));
}

#[tokio::test]
async fn a_restart_keeps_records_active_peers_and_coordinators() {
    let dir = tempfile::tempdir().unwrap();
    let file = || {
        let mut config = config();
        config.database = Database::File(dir.path().join("registry.db"));
        config
    };
    let (alice, bob) = (someone("alice", 1), someone("bob", 2));
    let first = start(file()).await;
    first.announce(&bob.body(3, NOW)).await.ok();
    first.pass(MINUTE * 14);
    let mut draft = alice.draft(5, first.now());
    draft.capabilities = vec!["coordinator".to_owned()];
    let body = alice.body_of(&alice.signed(draft, first.now()));
    first.announce(&body).await.ok();
    let beat = json!({ "networkId": "team", "peerId": alice.peer().to_string(), "activePeers": 1 });
    first.proved(&alice, Method::POST, "/coordinator/heartbeat", &beat).await.ok();
    let etag = first.get("/network/team/active-peers").await.header("etag").unwrap().to_owned();
    let at = first.now();
    first.running.shutdown().await;

    let mut later = file();
    let clock = std::sync::Arc::new(byway_registry::ManualClock::new(at.plus(MINUTE * 2)));
    later.clock = std::sync::Arc::clone(&clock) as _;
    let running = serve(later).await.unwrap();
    let second = common::Registry::of(running, clock);
    assert_eq!(second.active().await, ["alice"], "bob was silent for 16 minutes");
    let page = second.get_with("/network/team/active-peers", "if-none-match", &etag).await.ok();
    assert_eq!(page["peers"][0]["isCoordinator"], json!(true));
    assert_eq!(second.get("/network/team/peer/bob").await.ok()["devices"].as_array().unwrap().len(), 1);
    second.announce(&bob.body(2, second.now())).await.is(409, "stale_record");
    second.announce(&body).await.ok();
}

#[tokio::test]
async fn a_file_that_is_not_ours_or_in_use_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(
        &path,
        "dear diary, this is no database at all, and it is longer than a header of one hundred bytes.....",
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut broken = config();
    broken.database = Database::File(path.clone());
    let error = serve(broken).await.unwrap_err();
    assert!(matches!(error, ServeError::Backend(_)), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let shared = || {
        let mut config = config();
        config.database = Database::File(dir.path().join("registry.db"));
        config
    };
    let _first = start(shared()).await;
    let error = serve(shared()).await.unwrap_err().to_string();
    assert!(error.contains("another registry"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_said_clearly() {
    let first = registry().await;
    let mut second = config();
    second.listen = first.running.addr();
    let error = serve(second).await.unwrap_err().to_string();
    assert!(error.contains(&first.running.addr().to_string()) && error.contains("--listen"), "{error}");
}

#[tokio::test]
async fn a_ninth_device_replaces_one_that_is_silent_and_no_other() {
    let registry = registry().await;
    for n in 1..=8 {
        registry.announce(&someone("alice", n).body(1, registry.now())).await.ok();
        registry.pass(MINUTE);
    }
    let ninth = someone("alice", 9);
    registry.announce(&ninth.body(1, registry.now())).await.is(409, "too_many_devices");
    registry.pass(MINUTE * 8);
    registry.announce(&ninth.body(1, registry.now())).await.ok();
    let peer = registry.get("/network/team/peer/alice").await.ok();
    let devices: Vec<_> = peer["devices"].as_array().unwrap().iter().map(|d| d["peerId"].clone()).collect();
    assert_eq!(devices.len(), 8);
    assert!(devices.contains(&json!(ninth.peer().to_string())));
    assert!(!devices.contains(&json!(someone("alice", 1).peer().to_string())), "the one that was silent longest");
    assert_eq!(registry.active().await.len(), 8);
}

#[tokio::test]
async fn devices_in_all_are_bounded() {
    let mut config = config();
    config.limits.devices = 2;
    let registry = start(config).await;
    registry.announce(&someone("alice", 1).body(1, NOW)).await.ok();
    registry.announce(&someone("bob", 2).body(1, NOW)).await.ok();
    registry.announce(&someone("carol", 3).body(1, NOW)).await.is(507, "registry_full");
    registry.announce(&someone("alice", 1).body(2, NOW)).await.ok();
    registry.pass(MINUTE * 60 * 24 * 14);
    registry.running.sweep().await.unwrap();
    let now = registry.now();
    registry.announce(&someone("carol", 3).body(1, now)).await.ok();
}
