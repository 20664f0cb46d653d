//! The adapter for tungstenite, over real TCP.
#![cfg(feature = "tungstenite")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use bytes::Bytes;
use byway_socket::{Arrival, Client, ClientConfig, Closed, HubConfig, Incoming, over_websocket, websocket_config};
use byway_wire::limits;
use common::{Someone, hub, mail_of, someone};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

type Raw = WebSocketStream<TcpStream>;

async fn raw(hub: &byway_socket::Hub, who: &Someone) -> (Raw, JoinHandle<Closed>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hub, claimed) = (hub.clone(), who.peer());
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let websocket = accept_async_with_config(stream, Some(websocket_config())).await.unwrap();
        hub.serve(over_websocket(websocket), Arrival::new(claimed)).await.closed
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/{claimed}");
    let (websocket, _) = client_async_with_config(url, stream, Some(websocket_config())).await.unwrap();
    (websocket, served)
}

async fn connect(hub: &byway_socket::Hub, who: &Someone) -> (Client, JoinHandle<Closed>) {
    let (websocket, served) = raw(hub, who).await;
    (Client::connect(over_websocket(websocket), who, |_| true, ClientConfig::default()).await.unwrap(), served)
}

#[tokio::test]
async fn the_largest_envelope_goes_through() {
    let (alice, bob, hub) = (someone(1), someone(2), hub(HubConfig::default()));
    let (a, _a) = connect(&hub, &alice).await;
    let (b, _b) = connect(&hub, &bob).await;
    let largest = mail_of(bob.peer(), limits::ENVELOPE_MAX);
    a.send(bob.peer(), largest.clone()).await.unwrap();
    assert_eq!(b.recv().await, Some(Incoming::Mail { from: alice.peer(), envelope: largest }));
}

#[tokio::test]
async fn both_sides_can_close() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (a, served) = connect(&hub, &alice).await;
    a.close().await;
    assert!(matches!(served.await.unwrap(), Closed::Remote | Closed::Lost(_)));
    let (a, served) = connect(&hub, &alice).await;
    hub.close().await;
    assert_eq!(a.closed().await, Closed::Stopping);
    assert_eq!(served.await.unwrap(), Closed::Stopping);
}

#[tokio::test]
async fn text_and_oversized_messages_end_the_socket() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let big = Message::Binary(Bytes::from(vec![0; limits::SOCKET_FRAME_MAX + 1]));
    for message in [Message::text("{\"type\":\"offer\"}"), big] {
        let (mut websocket, served) = raw(&hub, &alice).await;
        assert!(websocket.next().await.unwrap().unwrap().is_binary(), "the challenge");
        let _ = websocket.send(message).await;
        let closed = served.await.unwrap();
        assert!(matches!(closed, Closed::Malformed(_) | Closed::Lost(_)), "{closed:?}");
        assert_eq!(hub.sockets(), 0);
    }
}
