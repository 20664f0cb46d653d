//! What the registry client and its home socket tell each other.

use std::sync::Arc;

use byway_socket::{Arrival, Hub, HubConfig, Packet};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;

use crate::hub::{Door, Server, Setup, context};
use crate::support::{Search, Tokens, dead_port, peer, within};
use std::sync::Mutex;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, Request};
use axum::http::HeaderMap;
use axum::routing::any;
use byway_api::{DiscoveryStep, Signaling, StepErrorKind};
use byway_discovery::{CarrierConfig, RegistryClient, RegistryConfig, RegistryStep, SocketCarrier};

/// The first packet of a connection decides: the hub takes WebSockets and refuses plain calls, so here
/// calls fail, and what is seen is whether they are made.
#[tokio::test]
async fn an_open_socket_vouches_for_the_registry() {
    let address = dead_port().await;
    let client = RegistryClient::new(&format!("http://{address}"), RegistryConfig::default()).unwrap();
    let carrier = SocketCarrier::new(CarrierConfig::default(), vec![client.home()]);
    carrier.attach(context(peer(1), Tokens::new(100))).await.unwrap();
    let step = RegistryStep::new(Arc::clone(&client));

    // the socket could not be opened: the step knows without a call
    let search = Search::of("bob");
    let down = within(async {
        loop {
            let e = step.find(&search).await.unwrap_err();
            if e.kind() == StepErrorKind::KnownDown {
                return client.calls();
            }
        }
    })
    .await;
    assert!(!client.socket_is_up());
    assert_eq!(step.find(&search).await.unwrap_err().kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), down);

    let mut server = Server::start(Setup { at: Some(address), ..Setup::default() }).await;
    carrier.network_changed().await;
    server.attached(peer(1)).await;
    within(async {
        while !client.socket_is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = client.calls();
    let e = within(step.find(&search)).await.unwrap_err();
    assert_ne!(e.kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), before + 1);
    within(carrier.close()).await;
    assert!(!client.socket_is_up());
}

/// A node's start used to cost a call that was only refused for its missing nonce.
#[tokio::test]
async fn the_first_call_waits_for_the_nonce_of_the_challenge() {
    let hub = Hub::new(HubConfig::default(), Arc::new(Door::default()));
    let proofs: Arc<Mutex<Vec<String>>> = Arc::default();
    let serving = hub.clone();
    let socket = async move |Path(claimed): Path<String>, headers: HeaderMap, upgrade: WebSocketUpgrade| {
        let mut arrival = Arrival::new(claimed.parse().unwrap());
        arrival.host = Some(headers["host"].to_str().unwrap().to_owned());
        let hub = serving.clone();
        upgrade.on_upgrade(async move |websocket| {
            let packets = websocket
                .filter_map(async |message| match message {
                    Ok(Message::Binary(bytes)) => Some(Ok(Packet::Frame(bytes))),
                    Ok(_) => None,
                    Err(e) => Some(Err(e)),
                })
                .with(async |packet| {
                    Ok::<_, axum::Error>(match packet {
                        Packet::Frame(bytes) => Message::Binary(bytes),
                        _ => Message::Close(None),
                    })
                });
            hub.serve(Box::pin(packets), arrival).await;
        })
    };
    let notes = Arc::clone(&proofs);
    let call = async move |request: Request| {
        notes.lock().unwrap().push(request.headers()["dpop"].to_str().unwrap().to_owned());
        "{}"
    };
    let app = Router::new().route("/{peer}", any(socket)).fallback(call);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let client = RegistryClient::new(&url, RegistryConfig::default()).unwrap();
    let carrier = SocketCarrier::new(CarrierConfig::default(), vec![client.home()]);
    carrier.attach(context(peer(1), Tokens::new(100))).await.unwrap();
    // the socket has begun to connect when the node asks
    tokio::task::yield_now().await;
    within(RegistryStep::new(Arc::clone(&client)).find(&Search::of("bob"))).await.unwrap();
    assert_eq!(proofs.lock().unwrap()[0], format!("GET_{url}/network/team-blue/peer/bob_nonce-of-the-challenge"));
    assert_eq!(client.calls(), 2, "the socket and the lookup");
    within(carrier.close()).await;
    server.abort();
}
