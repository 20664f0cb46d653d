//! The registry client and its step against a real HTTP server.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Readable, Say, Scripted, Search, Tokens, dead_port, network, peer, user, within};
use bytes::Bytes;
use byway_api::{
    Announcement, Cost, DiscoveryStep, Neighbour, NetworkId, Query, Retry, SignalAddress, StepErrorKind, WallTime,
};
use byway_discovery::{RegistryClient, RegistryConfig, RegistryStep};
use byway_wire::base64url;

fn client(url: &str) -> (Arc<RegistryClient>, RegistryStep) {
    client_with(url, RegistryConfig::default())
}

fn client_with(url: &str, config: RegistryConfig) -> (Arc<RegistryClient>, RegistryStep) {
    let client = RegistryClient::new(url, config).unwrap();
    client.attach(Arc::new(Readable));
    (Arc::clone(&client), RegistryStep::new(client))
}

fn json(body: impl Into<String>) -> Say {
    Say::Status(200, &[], body.into())
}

#[tokio::test]
async fn a_lookup_is_one_call_that_proves_who_asks() {
    let record = base64url::encode(b"signed record");
    let body = format!(
        r#"{{"online":true,"devices":[{{"peerId":"{}","signalAddress":"ws://listener:7000/{}","lastSeen":1700,"record":"{record}"}},
            {{"peerId":"{}","lastSeen":null}}],"lastCoordinators":[],"extra":1}}"#,
        peer(2),
        peer(2),
        peer(3)
    );
    let server = Scripted::start(vec![json(body)]).await;
    let (client, step) = client(&server.url());
    assert_eq!(step.cost(), Cost::Metered);

    let search = Search::of("bob");
    within(step.find(&search)).await.unwrap();

    let found = search.found();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].peer, found[0].address.to_string()), (peer(2), format!("ws://listener:7000/{}", peer(2))));
    assert_eq!(found[0].record, Some(Bytes::from_static(b"signed record")));
    assert_eq!(found[0].last_seen, Some(WallTime::from_millis(1700)));
    // a device without an address is reached through the registry's own socket
    assert_eq!(found[1].address.to_string(), format!("ws://{}/{}", server.address, peer(3)));

    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("GET", "/network/team-blue/peer/bob"));
    assert_eq!(asked[0].header("authorization"), "DPoP credential");
    assert_eq!(asked[0].header("dpop"), format!("GET_{}/network/team-blue/peer/bob_", server.url()));
    assert_eq!(client.calls(), 1);
    assert_eq!(search.tokens.spent(), ["find"]);
}

#[tokio::test]
async fn a_user_id_is_percent_encoded_and_the_proof_is_for_what_is_sent() {
    let server = Scripted::start(vec![]).await;
    let (_, step) = client(&server.url());
    within(step.find(&Search::of("a/b c?\u{fc}#%"))).await.unwrap();
    let asked = &server.asked()[0];
    assert_eq!(asked.target, "/network/team-blue/peer/a%2Fb%20c%3F%C3%BC%23%25");
    assert_eq!(asked.header("dpop"), format!("GET_{}{}_", server.url(), asked.target));
}

#[tokio::test]
async fn a_user_called_dot_dot_sends_nothing() {
    let server = Scripted::start(vec![]).await;
    let (client, step) = client(&server.url());
    let search = Search::of("..");
    let e = within(step.find(&search)).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (StepErrorKind::Refused, Retry::Never));
    assert_eq!((client.calls(), search.tokens.spent().len()), (0, 0));
}

#[tokio::test]
async fn an_unknown_user_is_no_error() {
    let server = Scripted::start(vec![Say::Status(404, &[], r#"{"error":"unknown_user"}"#.into())]).await;
    let (_, step) = client(&server.url());
    let search = Search::of("nobody");
    within(step.find(&search)).await.unwrap();
    assert!(search.found().is_empty());
}

#[tokio::test]
async fn a_last_coordinator_that_is_connected_is_a_way_too() {
    let body = format!(
        r#"{{"devices":[{{"peerId":"{}"}}],"lastCoordinators":["{}","{}","garbage"]}}"#,
        peer(2),
        peer(8),
        peer(9)
    );
    let server = Scripted::start(vec![json(body)]).await;
    let (_, step) = client(&server.url());
    let mut search = Search::of("bob");
    search.neighbours = vec![Neighbour::new(peer(9), user("carol"))];
    within(step.find(&search)).await.unwrap();
    assert_eq!(
        search.ways(),
        [
            (peer(2), format!("ws://{}/{}", server.address, peer(2))),
            (peer(2), SignalAddress::through(peer(9)).to_string())
        ]
    );
}

#[tokio::test]
async fn a_search_that_is_over_is_told_nothing_more() {
    let body = format!(r#"{{"devices":[{{"peerId":"{}"}},{{"peerId":"{}"}}]}}"#, peer(2), peer(3));
    let server = Scripted::start(vec![json(body)]).await;
    let (_, step) = client(&server.url());
    let mut search = Search::of("bob");
    search.enough = 1;
    within(step.find(&search)).await.unwrap();
    assert_eq!(search.found().len(), 1);
}

#[tokio::test]
async fn a_missing_nonce_costs_one_more_call_and_the_next_call_knows_it() {
    const WANTS: &[(&str, &str)] = &[("www-authenticate", r#"DPoP error="use_dpop_nonce""#), ("dpop-nonce", "n1")];
    let server = Scripted::start(vec![
        Say::Status(401, WANTS, String::new()),
        Say::Status(200, &[("dpop-nonce", "n2")], "{}".into()),
        json("{}"),
    ])
    .await;
    let (client, step) = client(&server.url());
    let search = Search::of("bob");
    within(step.find(&search)).await.unwrap();
    within(step.find(&search)).await.unwrap();
    let nonces: Vec<String> =
        server.asked().iter().map(|a| a.header("dpop").rsplit('_').next().unwrap().to_owned()).collect();
    assert_eq!(nonces, ["", "n1", "n2"]);
    assert_eq!((client.calls(), search.tokens.spent().len()), (3, 3));
}

#[tokio::test]
async fn a_registry_that_is_never_content_with_a_nonce_is_asked_twice_and_no_more() {
    let wants = |nonce: &'static [(&'static str, &'static str)]| {
        Say::Status(401, nonce, r#"{"error":{"code":"use_dpop_nonce"}}"#.into())
    };
    let server = Scripted::start(vec![
        wants(&[("dpop-nonce", "n1")]),
        wants(&[("dpop-nonce", "n2")]),
        wants(&[("dpop-nonce", "n3")]),
    ])
    .await;
    let (client, step) = client(&server.url());
    let e = within(step.find(&Search::of("bob"))).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::Refused);
    assert!(e.to_string().contains("clock"), "{e}");
    assert_eq!((client.calls(), server.asked().len()), (2, 2));
}

#[tokio::test]
async fn calls_made_at_once_share_the_first_nonce() {
    const WANTS: &[(&str, &str)] = &[("www-authenticate", r#"DPoP error="use_dpop_nonce""#), ("dpop-nonce", "n1")];
    let server = Scripted::start(vec![Say::Status(401, WANTS, String::new())]).await;
    let (client, step) = client(&server.url());
    let (first, second) = (Search::of("bob"), Search::of("carol"));
    let (a, b) = within(async { tokio::join!(step.find(&first), step.find(&second)) }).await;
    a.unwrap();
    b.unwrap();
    assert_eq!(client.calls(), 3, "two lookups and one nonce");
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let server = Scripted::start(vec![]).await;
    let (client, step) = client(&server.url());
    let mut search = Search::of("bob");
    search.tokens = Tokens::new(0);
    let e = within(step.find(&search)).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::NoBudget);
    assert_eq!((client.calls(), server.asked().len()), (0, 0));
    // and the failed attempt holds nobody up
    search.tokens.add(1);
    within(step.find(&search)).await.unwrap();
}

#[tokio::test]
async fn a_dead_registry_is_asked_once_and_then_known_to_be_down() {
    let address = dead_port().await;
    let (client, step) = client(&format!("http://{address}"));
    let search = Search::of("bob");
    let e = within(step.find(&search)).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::Unreachable);
    assert!(e.to_string().contains("check that it runs"), "{e}");
    let e = within(step.find(&search)).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::KnownDown);
    assert_eq!((client.calls(), search.tokens.spent().len()), (1, 1));
    // on another network it is worth a call again
    client.network_changed();
    assert_eq!(within(step.find(&search)).await.unwrap_err().kind(), StepErrorKind::Unreachable);
    assert_eq!(client.calls(), 2);
}

#[tokio::test]
async fn a_silent_registry_ends_the_step_in_time() {
    let server = Scripted::start(vec![Say::Nothing]).await;
    let mut config = RegistryConfig::default();
    config.find_timeout = Duration::from_millis(50);
    let (client, step) = client_with(&server.url(), config);
    assert_eq!(within(step.find(&Search::of("bob"))).await.unwrap_err().kind(), StepErrorKind::Timeout);
    assert_eq!(within(step.find(&Search::of("bob"))).await.unwrap_err().kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn too_many_requests_is_a_pause_of_the_servers_choice_within_bounds() {
    for (header, seconds) in
        [(&[("retry-after", "7")][..], "7 s"), (&[("retry-after", "999999")][..], "300 s"), (&[][..], "30 s")]
    {
        let server = Scripted::start(vec![Say::Status(429, header, String::new())]).await;
        let (client, step) = client(&server.url());
        let e = within(step.find(&Search::of("bob"))).await.unwrap_err();
        assert_eq!(e.kind(), StepErrorKind::Unreachable);
        assert!(e.to_string().contains("429"), "{e}");
        let e = within(step.find(&Search::of("bob"))).await.unwrap_err();
        assert_eq!(e.kind(), StepErrorKind::KnownDown);
        assert!(e.to_string().contains(seconds), "{e}");
        client.network_changed();
        assert_eq!(within(step.find(&Search::of("bob"))).await.unwrap_err().kind(), StepErrorKind::KnownDown);
        assert_eq!(client.calls(), 1);
    }
}

#[tokio::test]
async fn a_broken_registry_is_left_alone() {
    let server = Scripted::start(vec![Say::Status(500, &[], "<html>".into())]).await;
    let (client, step) = client(&server.url());
    assert_eq!(within(step.find(&Search::of("bob"))).await.unwrap_err().kind(), StepErrorKind::Unreachable);
    assert_eq!(within(step.find(&Search::of("bob"))).await.unwrap_err().kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn what_is_no_answer_of_a_registry_is_refused() {
    let server = Scripted::start(vec![
        json("<html>login</html>"),
        json(r#"{"devices":"none"}"#),
        json(" ".repeat(200 << 10)),
        Say::Endless(200 << 10),
    ])
    .await;
    let (client, step) = client(&server.url());
    for _ in 0..4 {
        let e = within(step.find(&Search::of("bob"))).await.unwrap_err();
        assert_eq!(e.kind(), StepErrorKind::BadAnswer, "{e}");
    }
    assert_eq!(client.calls(), 4);
}

#[tokio::test]
async fn an_entry_that_is_none_spoils_no_other() {
    let wide = base64url::encode(&vec![1; 5000]);
    let body = format!(
        r#"{{"devices":[{{"peerId":"nobody"}},{{"peerId":"{0}","signalAddress":"no address"}},
            {{"peerId":"{0}","record":"{wide}"}},{{"peerId":"{0}","record":"not canonical=="}},{{"peerId":"{1}"}}]}}"#,
        peer(2),
        peer(3)
    );
    let server = Scripted::start(vec![json(body)]).await;
    let (_, step) = client(&server.url());
    let search = Search::of("bob");
    within(step.find(&search)).await.unwrap();
    let found = search.found();
    assert_eq!(found.iter().map(|r| r.peer).collect::<Vec<_>>(), [peer(2), peer(3)]);
    assert!(found.iter().all(|r| r.record.is_none()));
}

#[tokio::test]
async fn a_user_has_at_most_eight_devices_whatever_the_registry_says() {
    let devices: Vec<String> = (1..=40).map(|n| format!(r#"{{"peerId":"{}"}}"#, peer(n))).collect();
    let server = Scripted::start(vec![json(format!(r#"{{"devices":[{}]}}"#, devices.join(",")))]).await;
    let (_, step) = client(&server.url());
    let search = Search::of("bob");
    within(step.find(&search)).await.unwrap();
    assert_eq!(search.found().len(), 8);
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let server = Scripted::start(vec![
        Say::Status(401, &[], r#"{"error":"bad_signature"}"#.into()),
        Say::Status(403, &[], String::new()),
        Say::Status(302, &[("location", "http://elsewhere/")], String::new()),
    ])
    .await;
    let (client, step) = client(&server.url());
    for (said, advice) in [("bad_signature", "clock"), ("403", "issuer"), ("302", "redirects")] {
        let e = within(step.find(&Search::of("bob"))).await.unwrap_err();
        assert_eq!(e.kind(), StepErrorKind::Refused);
        assert!(e.to_string().contains(said) && e.to_string().contains(advice), "{e}");
    }
    assert_eq!(client.calls(), 3);
}

#[tokio::test]
async fn one_page_of_members_is_read_per_node_start() {
    let record = base64url::encode(b"r");
    let page = format!(
        r#"{{"peers":[{{"userId":"bob","peerId":"{}","signalAddress":"","lastSeen":5,"isCoordinator":false,"record":"{record}"}},
            {{"userId":"eve","peerId":"{}"}}],"next":"more"}}"#,
        peer(2),
        peer(3)
    );
    let server = Scripted::start(vec![Say::Status(503, &[("retry-after", "0")], String::new()), json(page)]).await;
    let (client, step) = client(&server.url());
    let search = Search::of("-");
    within(step.browse(&search)).await.unwrap_err();
    // the failed page was none
    within(step.browse(&search)).await.unwrap();
    within(step.browse(&search)).await.unwrap();
    assert_eq!(search.found().iter().map(|r| r.peer).collect::<Vec<_>>(), [peer(2)], "eve cannot be recognised");
    assert_eq!(server.asked()[1].target, "/network/team-blue/active-peers?limit=150");
    assert_eq!(server.asked()[1].header("dpop"), format!("GET_{}/network/team-blue/active-peers_", server.url()));
    assert_eq!(client.calls(), 2);
    client.attach(Arc::new(Readable));
    within(step.browse(&search)).await.unwrap_err();
    assert_eq!(client.calls(), 3, "a new start reads again");
}

#[tokio::test]
async fn an_announcement_has_the_registrys_names() {
    let server = Scripted::start(vec![
        json("{}"),
        Say::Status(204, &[], String::new()),
        Say::Status(400, &[], r#"{"error":{"code":"record_required","message":"announce a signed record"}}"#.into()),
    ])
    .await;
    let (client, step) = client(&server.url());
    let tokens = Tokens::new(10);
    let mut me = Announcement::new(network(), peer(1), Bytes::from_static(b"record"), Vec::new());
    me.capabilities = vec!["relay".into()];
    within(step.announce(&me, &*tokens)).await.unwrap();
    me.leaving = true;
    me.addresses = vec!["mem:1".parse().unwrap(), "ws://l:1/x".parse().unwrap()];
    within(step.announce(&me, &*tokens)).await.unwrap();
    let e = within(step.announce(&me, &*tokens)).await.unwrap_err();
    assert!(
        e.kind() == StepErrorKind::Refused && e.to_string().contains("record_required: announce a signed record"),
        "{e}"
    );

    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("POST", "/network/team-blue/announce"));
    assert_eq!(asked[0].header("content-type"), "application/json");
    let record = base64url::encode(b"record");
    let home = format!("ws://{}/{}", server.address, peer(1));
    assert_eq!(
        asked[0].body,
        format!(r#"{{"peerId":"{}","signalAddress":"{home}","capabilities":["relay"],"record":"{record}"}}"#, peer(1))
    );
    assert_eq!(
        asked[1].body,
        format!(
            r#"{{"peerId":"{}","signalAddress":"ws://l:1/x","capabilities":["relay"],"record":"{record}","leaving":true}}"#,
            peer(1)
        )
    );
    assert_eq!((client.calls(), tokens.spent()), (3, vec!["announce"; 3]));
}

#[tokio::test]
async fn before_a_node_has_attached_nothing_is_sent() {
    let server = Scripted::start(vec![]).await;
    let client = RegistryClient::new(&server.url(), RegistryConfig::default()).unwrap();
    let step = RegistryStep::new(Arc::clone(&client));
    let search = Search::of("bob");
    assert_eq!(within(step.find(&search)).await.unwrap_err().kind(), StepErrorKind::Other);
    assert_eq!((client.calls(), search.tokens.spent().len()), (0, 0));
}

#[tokio::test]
async fn a_dropped_call_leaves_the_client_usable() {
    let server = Scripted::start(vec![Say::Nothing]).await;
    let (_, step) = client(&server.url());
    let search = Search::of("bob");
    {
        let hangs = step.find(&search);
        tokio::pin!(hangs);
        let arrived = async {
            while server.asked().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        within(async {
            tokio::select! {
                _ = &mut hangs => unreachable!("it hangs"),
                () = arrived => {}
            }
        })
        .await;
    }
    within(step.find(&search)).await.unwrap();
}

#[tokio::test]
async fn several_networks_may_use_one_client() {
    let server = Scripted::start(vec![]).await;
    let (_, step) = client(&server.url());
    let mut search = Search::of("bob");
    search.query = Query::new(NetworkId::new("other").unwrap(), user("bob"));
    within(step.find(&search)).await.unwrap();
    assert_eq!(server.asked()[0].target, "/network/other/peer/bob");
}
