//! Every call, and every way to get it wrong, over real HTTP.
#![allow(clippy::unwrap_used)]

mod common;

use byway_wire::base64url;
use common::{MINUTE, NOW, config, mail, registry, someone, someone_of, start};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_announced_device_is_listed_with_the_seeds_names() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let body = alice.body(1, NOW);
    let answer = registry.announce(&body).await.ok();
    assert_eq!((&answer["userId"], &answer["seq"], &answer["stored"]), (&json!("alice"), &json!(1), &json!(true)));

    let page = registry.get("/network/team/active-peers").await.ok();
    let expected = json!({
        "userId": "alice",
        "peerId": alice.peer().to_string(),
        "signalAddress": alice.address().as_str(),
        "lastSeen": NOW.as_millis(),
        "isCoordinator": false,
        "record": body["record"],
    });
    assert_eq!(page, json!({ "peers": [expected], "next": null }));

    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!((&peer["online"], &peer["lastCoordinators"]), (&json!(true), &json!([])));
    let device = &peer["devices"][0];
    for field in ["peerId", "signalAddress", "lastSeen", "record"] {
        assert_eq!(device[field], expected[field], "{field}");
    }
}

#[tokio::test]
async fn the_record_that_comes_back_is_the_one_that_was_signed() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let record = alice.record(1, NOW);
    registry.announce(&alice.body_of(&record)).await.ok();
    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!(base64url::decode(peer["devices"][0]["record"].as_str().unwrap()).unwrap(), record[..]);
}

#[tokio::test]
async fn who_is_unknown_is_offline_and_has_no_devices() {
    let registry = registry().await;
    let nobody = registry.get("/network/team/peer/nobody").await.ok();
    assert_eq!(nobody, json!({ "online": false, "devices": [], "lastCoordinators": [] }));
    let empty = registry.get("/network/elsewhere/active-peers").await.ok();
    assert_eq!(empty, json!({ "peers": [], "next": null }));
}

#[tokio::test]
async fn two_devices_of_one_user() {
    let (registry, laptop, phone) = (registry().await, someone("alice", 1), someone("alice", 2));
    registry.announce(&laptop.body(1, NOW)).await.ok();
    registry.pass(MINUTE * 11);
    registry.announce(&phone.body(1, registry.now())).await.ok();
    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!(peer["online"], json!(true));
    let devices: Vec<_> =
        peer["devices"].as_array().unwrap().iter().map(|d| (d["peerId"].clone(), d["online"].clone())).collect();
    assert_eq!(
        devices,
        [(json!(phone.peer().to_string()), json!(true)), (json!(laptop.peer().to_string()), json!(false))]
    );
}

#[tokio::test]
async fn users_are_percent_encoded() {
    let registry = registry().await;
    for (n, (user, path)) in
        [("J\u{fc}rgen M.", "J%C3%BCrgen%20M."), ("a/b?c", "a%2Fb%3Fc"), ("100%", "100%25"), ("a+b", "a+b")]
            .into_iter()
            .enumerate()
    {
        let device = someone(user, n as u8 + 1);
        registry.announce(&device.body(1, NOW)).await.ok();
        let peer = registry.get(&format!("/network/team/peer/{path}")).await.ok();
        assert_eq!(peer["devices"][0]["userId"], json!(user));
        // The signature of a proof is over the path as it was sent.
        let proved = registry.proved(&device, Method::GET, &format!("/network/team/peer/{path}"), &Value::Null).await;
        assert_eq!(proved.ok()["devices"][0]["userId"], json!(user));
    }
    registry.get("/network/team/peer/%FF").await.is(400, "invalid_path");
    registry.get("/network/team/peer/a%0Ab").await.is(400, "invalid_user");
    registry.get("/network/Team/active-peers").await.is(400, "invalid_network");
}

#[tokio::test]
async fn a_seed_shaped_announce_is_told_what_is_missing() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let seed = json!({ "peerId": alice.peer().to_string(), "signalAddress": "wss://x/y", "capabilities": [] });
    registry.announce(&seed).await.is(400, "record_required");
    assert_eq!(registry.active().await, [""; 0]);
}

#[tokio::test]
async fn the_user_comes_from_the_record_and_the_body_cannot_change_anything() {
    let (registry, alice, mallory) = (registry().await, someone("alice", 1), someone("mallory", 6));
    let mut body = alice.body(1, NOW);
    body["userId"] = json!("bob");
    body["isCoordinator"] = json!(true);
    body["capabilities"] = json!(["coordinator"]);
    registry.announce(&body).await.ok();
    let page = registry.get("/network/team/active-peers").await.ok();
    assert_eq!((&page["peers"][0]["userId"], &page["peers"][0]["isCoordinator"]), (&json!("alice"), &json!(false)));

    let mut body = alice.body(2, NOW);
    body["peerId"] = json!(mallory.peer().to_string());
    registry.announce(&body).await.is(400, "peer_mismatch");
    body["peerId"] = json!("not a peer");
    registry.announce(&body).await.is(400, "peer_mismatch");
    let mut body = alice.body(2, NOW);
    body["signalAddress"] = json!("ws://mallory.example/x");
    registry.announce(&body).await.is(400, "address_mismatch");
    body["signalAddress"] = json!("no address");
    registry.announce(&body).await.is(400, "invalid_address");
    // Somebody else's proof with alice's record.
    let proved = registry.proved(&mallory, Method::POST, "/network/team/announce", &alice.body(2, NOW)).await;
    proved.is(400, "peer_mismatch");
}

#[tokio::test]
async fn without_an_address_the_records_first_or_our_own_socket_stands_in() {
    let (registry, alice, bob) = (registry().await, someone("alice", 1), someone("bob", 2));
    let mut body = alice.body(1, NOW);
    body.as_object_mut().unwrap().remove("signalAddress");
    assert_eq!(registry.announce(&body).await.ok()["signalAddress"], json!(alice.address().as_str()));
    let mut draft = bob.draft(1, NOW);
    draft.addresses.clear();
    let mut body = bob.body_of(&bob.signed(draft, NOW));
    let ours = format!("ws://{}/{}", registry.running.addr(), bob.peer());
    body["signalAddress"] = json!(ours);
    assert_eq!(registry.announce(&body).await.ok()["signalAddress"], json!(ours));
    body["signalAddress"] = json!("");
    assert_eq!(registry.announce(&body).await.ok()["signalAddress"], json!(ours));
}

#[tokio::test]
async fn only_records_that_hold_are_taken() {
    let (registry, alice, mallory) = (registry().await, someone("alice", 1), someone("mallory", 6));
    let good = alice.record(1, NOW);
    let with = |record: Value| {
        let mut body = alice.body_of(&good);
        body["record"] = record;
        body
    };
    for (n, byte) in good.iter().enumerate().step_by(7) {
        let mut bad = good.to_vec();
        bad[n] = byte ^ 1;
        let refused = registry.announce(&with(json!(base64url::encode(&bad)))).await;
        assert_eq!(refused.status, 400, "byte {n}: {}", refused.text);
    }
    for wrong in ["AAAA", "not base64!", &format!("{}=", base64url::encode(&good)), &"A".repeat(9_000)] {
        registry.announce(&with(json!(wrong))).await.is(400, "invalid_record");
    }
    let other_network = someone_of("other", "alice", 1).record(1, NOW);
    registry.announce(&with(json!(base64url::encode(&other_network)))).await.is(400, "invalid_record");
    // Signed by mallory in alice's name: her token does not fit his key.
    let mut forged = mallory.draft(1, NOW);
    forged.user = alice.user.clone();
    forged.credential.clone_from(&alice.credential);
    let membership = byway_wire::OpenMembership::new(alice.network.clone());
    assert!(forged.sign(&mallory.key, &membership, NOW).is_err());
    let expired = alice.record(1, NOW);
    registry.pass(MINUTE * 60 * 24 * 15);
    registry.announce(&alice.body_of(&expired)).await.is(400, "invalid_record");
    assert_eq!(registry.active().await, [""; 0]);
}

#[tokio::test]
async fn the_record_with_the_higher_number_holds() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let newer = alice.body(7, NOW);
    registry.announce(&newer).await.ok();
    let older = registry.announce(&alice.body(6, NOW)).await;
    older.is(409, "stale_record");
    assert_eq!(older.json()["error"]["seq"], json!(7), "so that the device can go above it");
    let again = registry.announce(&newer).await.ok();
    assert_eq!(again["stored"], json!(false));
    let mut draft = alice.draft(7, NOW);
    draft.capabilities.clear();
    registry.announce(&alice.body_of(&alice.signed(draft, NOW))).await.is(409, "stale_record");
    registry.announce(&alice.body(8, NOW)).await.ok();
    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!(peer["devices"].as_array().unwrap().len(), 1);
}

/// Records are public. Whoever posts somebody's record again must not make them look online.
#[tokio::test]
async fn only_the_device_itself_is_seen_by_an_announce() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let body = alice.body(1, NOW);
    registry.announce(&body).await.ok();
    registry.pass(MINUTE * 12);
    registry.announce(&body).await.ok();
    let online = async || registry.get("/network/team/peer/alice").await.ok()["online"].clone();
    assert_eq!(online().await, json!(false), "a replay");
    registry.proved(&alice, Method::POST, "/network/team/announce", &body).await.ok();
    assert_eq!(online().await, json!(true), "with a proof");
    registry.pass(MINUTE * 12);
    assert_eq!(online().await, json!(false));
    registry.announce(&alice.body(2, registry.now())).await.ok();
    assert_eq!(online().await, json!(true), "with a new signature");
}

#[tokio::test]
async fn leaving_needs_a_proof_and_takes_the_device_off_the_list() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let mut body = alice.body(1, NOW);
    registry.announce(&body).await.ok();
    body["leaving"] = json!(true);
    registry.announce(&body).await.is(401, "use_dpop_nonce");
    assert_eq!(registry.active().await, ["alice"]);
    registry.proved(&alice, Method::POST, "/network/team/announce", &body).await.ok();
    assert_eq!(registry.active().await, [""; 0]);
    let peer = registry.get("/network/team/peer/alice").await.ok();
    assert_eq!((&peer["online"], peer["devices"].as_array().unwrap().len()), (&json!(false), 1), "its record stays");
}

#[tokio::test]
async fn malformed_bodies_are_answered_with_what_to_do() {
    let registry = registry().await;
    let paths = ["/network/team/announce", "/coordinator/heartbeat"];
    let alice = someone("alice", 1);
    for path in paths {
        for body in
            ["", "{", "[]", "null", "\u{fc}", "{\"peerId\": 7}", &"[".repeat(5_000), "{\"peerId\":\"x\",\"record\":{}}"]
        {
            let answer = registry.request(Method::POST, path, body.to_owned()).await;
            if path.ends_with("announce") || answer.status == 400 {
                answer.is(400, "invalid_json");
            }
            let nonce = registry.nonce().await;
            let proof = alice.prove_at("POST", &registry.url(path), &nonce, NOW);
            let request = common::http().post(registry.url(path)).body(body.to_owned());
            let request =
                request.header("authorization", format!("DPoP {}", proof.credential)).header("dpop", proof.proof);
            common::Answer::of(request.send().await.unwrap()).await.is(400, "invalid_json");
        }
        let large = format!("{{\"peerId\":\"{}\"}}", "x".repeat(70_000));
        registry.request(Method::POST, path, large).await.is(413, "body_too_large");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_explained() {
    let registry = registry().await;
    for path in [
        "/",
        "/network",
        "/network/team",
        "/network/team/peer/a/b",
        "/favicon.ico",
        "/%FF/x",
        "/network//active-peers/x",
    ] {
        let answer = registry.get(path).await;
        assert_eq!(answer.status.as_u16() / 100, 4, "{path}: {}", answer.text);
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
    registry.get("/nobody").await.is(404, "not_found");
    registry.get("/network/team/announce").await.is(405, "method_not_allowed");
    registry.request(Method::DELETE, "/network/team/active-peers", "").await.is(405, "method_not_allowed");
    let path = format!("/{}", someone("alice", 1).peer());
    registry.get(&path).await.is(426, "upgrade_required");
    registry.request(Method::POST, &path, "").await.is(426, "upgrade_required");
    registry.get("/network/team/active-peers?limit=many").await.is(400, "invalid_query");
    registry.get("/network/team/active-peers?after=xyz").await.is(400, "invalid_query");
}

#[tokio::test]
async fn pages_cover_everybody_once_and_hold_at_most_200() {
    let registry = registry().await;
    for n in 0..205u8 {
        registry.announce(&someone(&format!("user{}", n % 100), n).body(1, NOW)).await.ok();
    }
    let mut seen = Vec::new();
    let mut path = "/network/team/active-peers".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = registry.get(&path).await.ok();
        let peers = page["peers"].as_array().unwrap();
        sizes.push(peers.len());
        seen.extend(peers.iter().map(|peer| peer["peerId"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/network/team/active-peers?after={next}"),
            None => break,
        }
    }
    assert_eq!(sizes, [200, 5]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 205);
    let some = registry.get("/network/team/active-peers?limit=10").await.ok();
    assert_eq!(some["peers"].as_array().unwrap().len(), 10);
    let all = registry.get("/network/team/active-peers?limit=100000").await.ok();
    assert_eq!(all["peers"].as_array().unwrap().len(), 200, "never more");
    let none = registry.get("/network/team/active-peers?limit=0").await.ok();
    assert_eq!(none["peers"].as_array().unwrap().len(), 1, "a page moves on");
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    registry.announce(&alice.body(1, NOW)).await.ok();
    let path = "/network/team/active-peers";
    let first = registry.get(path).await;
    let etag = first.header("etag").unwrap().to_owned();
    let same = registry.get_with(path, "if-none-match", &etag).await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    assert_eq!(same.header("etag"), Some(&*etag));
    registry.announce(&someone("bob", 2).body(1, NOW)).await.ok();
    let changed = registry.get_with(path, "if-none-match", &etag).await;
    assert_eq!(changed.ok()["peers"].as_array().unwrap().len(), 2);
    assert_ne!(changed.header("etag"), Some(&*etag));
}

#[tokio::test]
async fn a_coordinator_lives_from_heartbeat_to_heartbeat() {
    let (registry, alice, bob) = (registry().await, someone("alice", 1), someone("bob", 2));
    let beat = |peer: &str| json!({ "networkId": "team", "peerId": peer, "activePeers": 12 });
    let (a, b) = (alice.peer().to_string(), bob.peer().to_string());
    let path = "/coordinator/heartbeat";
    registry.post(path, &beat(&a)).await.is(401, "use_dpop_nonce");
    registry.announce(&alice.body(1, NOW)).await.ok();
    registry.proved(&alice, Method::POST, path, &beat(&a)).await.is(403, "not_a_coordinator");
    let mut draft = alice.draft(2, NOW);
    draft.capabilities = vec!["relay".to_owned(), "coordinator;cap=48".to_owned()];
    registry.announce(&alice.body_of(&alice.signed(draft, NOW))).await.ok();
    registry.proved(&bob, Method::POST, path, &beat(&a)).await.is(400, "peer_mismatch");
    registry.proved(&alice, Method::POST, path, &beat(&b)).await.is(400, "peer_mismatch");
    let mut elsewhere = beat(&a);
    elsewhere["networkId"] = json!("other");
    registry.proved(&alice, Method::POST, path, &elsewhere).await.is(403, "wrong_network");
    registry.proved(&alice, Method::POST, path, &beat(&a)).await.ok();

    // Bob names her as the keeper of his mail, behind one that nobody knows.
    let mut draft = bob.draft(1, NOW);
    let dead = someone("dead", 9).peer();
    draft.coordinators = vec![dead, alice.peer()];
    registry.announce(&bob.body_of(&bob.signed(draft, NOW))).await.ok();
    let lists = async || {
        let page = registry.get("/network/team/active-peers").await.ok();
        let coordinator = page["peers"].as_array().unwrap().iter().any(|p| p["isCoordinator"] == json!(true));
        (coordinator, registry.get("/network/team/peer/bob").await.ok()["lastCoordinators"].clone())
    };
    assert_eq!(lists().await, (true, json!([a, dead.to_string()])), "the one alive first");
    registry.pass(MINUTE * 10);
    assert_eq!(lists().await, (false, json!([dead.to_string(), a])));
}

#[tokio::test]
async fn a_proof_is_checked_wherever_it_is_sent() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    let path = "/network/team/active-peers";
    let url = registry.url(path);
    let get = async |proof: &byway_api::Proof| registry.with_proof(proof, Method::GET, path, &Value::Null).await;

    let missing = get(&alice.prove_at("GET", &url, "", NOW)).await;
    missing.is(401, "use_dpop_nonce");
    assert!(missing.header("www-authenticate").unwrap().contains("use_dpop_nonce"));
    let nonce = missing.header("dpop-nonce").unwrap().to_owned();
    get(&alice.prove_at("GET", &url, &nonce, NOW)).await.ok();

    get(&alice.prove_at("POST", &url, &nonce, NOW)).await.is(401, "invalid_dpop_proof");
    get(&alice.prove_at("GET", "http://elsewhere/network/team/active-peers", &nonce, NOW))
        .await
        .is(401, "invalid_dpop_proof");
    get(&alice.prove_at("GET", &url, &nonce, NOW.minus(MINUTE * 6))).await.is(401, "invalid_dpop_proof");
    let mut stolen = someone("mallory", 6).prove_at("GET", &url, &nonce, NOW);
    stolen.credential.clone_from(&alice.credential);
    get(&stolen).await.is(401, "invalid_dpop_proof");
    let other = someone_of("other", "alice", 1);
    get(&other.prove_at("GET", &url, &nonce, NOW)).await.is(403, "wrong_network");
    for garbage in ["", "x", "a.b.c", "DPoP"] {
        let proof = byway_api::Proof { credential: garbage.to_owned(), proof: garbage.to_owned() };
        assert_eq!(get(&proof).await.status, 401, "{garbage:?}");
    }
    registry.get_with(path, "authorization", "Bearer abc").await.is(401, "invalid_dpop_proof");
    registry.get_with(path, "authorization", "DPoP abc").await.is(401, "invalid_dpop_proof");

    registry.pass(MINUTE * 5);
    get(&alice.prove_at("GET", &url, &nonce, registry.now())).await.is(401, "use_dpop_nonce");
}

#[tokio::test]
async fn behind_a_proxy_proofs_are_for_the_public_url() {
    let mut config = config();
    config.public_url = Some("https://registry.example/byway/".to_owned());
    let (registry, alice) = (start(config).await, someone("alice", 1));
    let path = "/network/team/active-peers";
    let nonce = registry.nonce().await;
    let public = alice.prove_at("GET", &format!("https://registry.example/byway{path}"), &nonce, NOW);
    registry.with_proof(&public, Method::GET, path, &Value::Null).await.ok();
    let local = alice.prove_at("GET", &registry.url(path), &nonce, NOW);
    registry.with_proof(&local, Method::GET, path, &Value::Null).await.is(401, "invalid_dpop_proof");
    assert_eq!(registry.running.url(), "https://registry.example/byway");
}

#[tokio::test]
async fn without_open_nothing_is_served_but_probes() {
    let mut config = config();
    config.open = false;
    let (registry, alice) = (start(config).await, someone("alice", 1));
    registry.announce(&alice.body(1, NOW)).await.is(403, "open_networks_disabled");
    registry.get("/network/team/active-peers").await.is(403, "open_networks_disabled");
    registry.get("/network/team/peer/alice").await.is(403, "open_networks_disabled");
    registry.post("/coordinator/heartbeat", &json!({})).await.is(403, "open_networks_disabled");
    let e = registry.try_attach(&alice, alice.peer()).await.unwrap_err();
    assert_eq!(e.kind(), byway_api::SignalErrorKind::Refused);
    assert!(e.to_string().contains("--open"), "{e}");
    assert_eq!(registry.get("/health").await.status, 200);
}

#[tokio::test]
async fn browsers_may_call() {
    let registry = registry().await;
    let preflight = common::http()
        .request(Method::OPTIONS, registry.url("/network/team/announce"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,dpop,content-type");
    let answer = common::Answer::of(preflight.send().await.unwrap()).await;
    assert!(answer.status.is_success());
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let get = registry.get_with("/network/team/active-peers", "origin", "https://app.example").await;
    assert!(get.header("access-control-expose-headers").unwrap().to_lowercase().contains("dpop-nonce"));
}

#[tokio::test]
async fn probes_and_metrics() {
    let (registry, alice) = (registry().await, someone("alice", 1));
    assert_eq!(registry.get("/health").await.ok(), json!({ "status": "ok" }));
    assert_eq!(registry.get("/ready").await.ok(), json!({ "status": "ready" }));
    registry.announce(&alice.body(1, NOW)).await.ok();
    registry.announce(&json!({})).await;
    let client = registry.attach(&alice).await;
    let _ = client.send(someone("bob", 2).peer(), mail(someone("bob", 2).peer(), "x")).await;
    registry.running.sweep().await.unwrap();
    let page = registry.get("/metrics").await;
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "byway_registry_requests_total{route=\"/network/{network}/announce\",method=\"POST\",status=\"200\"} 1",
        "byway_registry_requests_total{route=\"/network/{network}/announce\",method=\"POST\",status=\"400\"} 1",
        "byway_registry_sockets_open 1",
        "byway_registry_devices_attached 1",
        "byway_registry_signals_total{status=\"no_such_peer\"} 1",
        "byway_registry_active_peers 1",
        "byway_registry_sweeps_total 1",
    ] {
        assert!(page.text.lines().any(|l| l == line), "{line} is not in\n{}", page.text);
    }
    for line in page.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("byway_registry_") && value.parse::<u64>().is_ok(), "{line}");
    }
}
