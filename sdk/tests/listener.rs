//! A member's listener over real sockets.
#![cfg(feature = "listener")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use bytes::Bytes;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway::{Listener, ListenerConfig};
use byway_api::{
    Membership, Meter, NetworkId, PeerId, Proof, Prover, Sealed, Secret, SignalAddress, SignalContext, SignalError,
    SignalErrorKind, Signaling, StepError, UserId, WallTime,
};
use byway_socket::{Client, ClientConfig, Closed, Incoming, over_websocket, websocket_config};
use byway_wire::{DeviceKey, OpenMembership, issue_self_token, make_proof};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;

fn now_wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap())
}

fn base(address: SocketAddr) -> String {
    format!("ws://{address}")
}

struct Someone {
    key: DeviceKey,
    credential: String,
}

impl fmt::Debug for Someone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key)
    }
}

impl Prover for Someone {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        make_proof(&self.key, &self.credential, method, target, nonce, now_wall(), [3; 16])
    }
}

impl Someone {
    fn of(n: u8, network: &str) -> Self {
        let key = DeviceKey::from_seed(&Secret::new([n; 32]));
        let (network, user) = (NetworkId::new(network).unwrap(), UserId::new(&format!("user{n}")).unwrap());
        let day = Duration::from_secs(86_400);
        let credential = issue_self_token(&key, &network, &user, &key.peer(), now_wall(), day, [n; 16]);
        Self { key, credential }
    }

    fn peer(&self) -> PeerId {
        self.key.peer()
    }
}

#[derive(Debug)]
struct Free;

impl Meter for Free {
    fn spend(&self, _: &'static str) -> Result<(), StepError> {
        Ok(())
    }
}

fn envelope(to: PeerId, text: &str) -> Bytes {
    let mut bytes = vec![0x1a, 32];
    bytes.extend_from_slice(to.as_bytes());
    bytes.extend_from_slice(&[0x3a, text.len() as u8]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.into()
}

fn mail(to: PeerId, text: &str) -> Sealed {
    Sealed { to, envelope: envelope(to, text) }
}

fn loopback() -> ListenerConfig {
    ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn membership() -> Arc<dyn Membership> {
    Arc::new(OpenMembership::new(NetworkId::new("team").unwrap()))
}

async fn listening(config: ListenerConfig, me: Someone) -> Listener {
    let listener = Listener::bind(config, membership()).await.unwrap();
    let cx = SignalContext::new(me.peer(), NetworkId::new("team").unwrap(), Arc::new(me), Arc::new(Free));
    listener.attach(cx).await.unwrap();
    listener
}

async fn connect(listener: &Listener, who: &Someone, target: &str) -> Result<Client, SignalError> {
    let address = listener.local_addr();
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/{}", who.peer());
    let (websocket, _) = client_async_with_config(url, stream, Some(websocket_config())).await.unwrap();
    Client::connect(over_websocket(websocket), who, |asked| asked == target, ClientConfig::default()).await
}

#[tokio::test]
async fn a_member_attaches_sends_and_is_answered_the_way_it_came() {
    let (me, alice) = (Someone::of(1, "team"), Someone::of(2, "team"));
    let my_id = me.peer();
    let listener = listening(loopback(), me).await;
    assert_eq!(listener.addresses(), [SignalAddress::socket(&base(listener.local_addr()), my_id).unwrap()]);

    let client = connect(&listener, &alice, &my_id.to_string()).await.unwrap();
    client.send(my_id, envelope(my_id, "offer")).await.unwrap();
    let carried = listener.recv().await.unwrap();
    assert_eq!(carried.mail, mail(my_id, "offer"));
    assert_eq!(carried.back.socket_parts().unwrap().1, alice.peer());
    assert!(listener.serves(&carried.back));

    listener.send(&carried.back, mail(alice.peer(), "answer")).await.unwrap();
    let from_me = Incoming::Mail { from: my_id, envelope: envelope(alice.peer(), "answer") };
    assert_eq!(client.recv().await, Some(from_me));

    let nobody = Someone::of(3, "team").peer();
    let e = listener.send(&carried.back, mail(nobody, "x")).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::NoSuchPeer);
    listener.close().await;
    assert_eq!(client.closed().await, Closed::Stopping);
}

#[tokio::test]
async fn two_members_reach_each_other_through_the_listener_of_a_third() {
    let (me, alice, bob) = (Someone::of(1, "team"), Someone::of(2, "team"), Someone::of(3, "team"));
    let target = me.peer().to_string();
    let listener = listening(loopback(), me).await;
    let a = connect(&listener, &alice, &target).await.unwrap();
    let b = connect(&listener, &bob, &target).await.unwrap();
    a.send(bob.peer(), envelope(bob.peer(), "hi")).await.unwrap();
    let from_alice = Incoming::Mail { from: alice.peer(), envelope: envelope(bob.peer(), "hi") };
    assert_eq!(b.recv().await, Some(from_alice));
}

#[tokio::test]
async fn only_members_with_a_proof_for_this_listener_are_let_in() {
    let me = Someone::of(1, "team");
    let target = me.peer().to_string();
    let listener = listening(loopback(), me).await;
    let stranger = Someone::of(2, "other-team");
    let refused = connect(&listener, &stranger, &target).await.unwrap_err();
    assert_eq!(refused.kind(), SignalErrorKind::Refused);
    // Who is asked for a proof for us while meaning somebody else makes none.
    let misled = connect(&listener, &Someone::of(3, "team"), &Someone::of(4, "team").peer().to_string()).await;
    assert_eq!(misled.unwrap_err().kind(), SignalErrorKind::Refused);
    // Nobody takes our own place.
    let copy = connect(&listener, &Someone::of(1, "team"), &target).await.unwrap_err();
    assert_eq!(copy.kind(), SignalErrorKind::Refused);
}

#[tokio::test]
async fn strangers_to_the_protocol_are_sent_away() {
    let listener = listening(loopback(), Someone::of(1, "team")).await;
    let requests = [
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00garbage\r\n\r\n",
    ];
    for (request, status) in requests.iter().zip([Some("404"), None, None]) {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(status.is_none_or(|status| answer.contains(status)), "{request:?}: {answer}");
        assert!(!answer.contains("101"), "{request:?}: {answer}");
    }
    listener.close().await;
}

#[tokio::test]
async fn a_port_in_use_is_said_clearly_or_another_is_taken() {
    let taken = listening(loopback(), Someone::of(1, "team")).await;
    let mut config = ListenerConfig::new(taken.local_addr());
    let error = Listener::bind(config.clone(), membership()).await.unwrap_err();
    assert!(error.to_string().contains(&taken.local_addr().to_string()), "{error}");
    assert!(error.advice().contains("another port"));
    config.or_any_port = true;
    let other = Listener::bind(config, membership()).await.unwrap();
    assert_ne!(other.local_addr().port(), taken.local_addr().port());
}

#[tokio::test]
async fn after_closing_the_port_is_free_and_nothing_is_left() {
    let me = Someone::of(1, "team");
    let target = me.peer().to_string();
    let listener = listening(loopback(), me).await;
    let client = connect(&listener, &Someone::of(2, "team"), &target).await.unwrap();
    // One connection that has not even said hello yet.
    let _half = TcpStream::connect(listener.local_addr()).await.unwrap();
    listener.close().await;
    listener.close().await;
    assert_eq!(listener.recv().await, None);
    assert!(listener.addresses().is_empty());
    assert_eq!(client.closed().await, Closed::Stopping);
    let back = SignalAddress::socket(&base(listener.local_addr()), client_peer()).unwrap();
    let e = listener.send(&back, mail(client_peer(), "x")).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Closed);
    Listener::bind(ListenerConfig::new(listener.local_addr()), membership()).await.unwrap();
}

fn client_peer() -> PeerId {
    Someone::of(2, "team").peer()
}

#[tokio::test]
async fn it_serves_its_own_addresses_only() {
    let mut config = loopback();
    config.advertise = vec!["ws://home.example:4000/".to_owned()];
    let listener = listening(config, Someone::of(1, "team")).await;
    let at = |base: &str| SignalAddress::socket(base, client_peer()).unwrap();
    assert!(listener.serves(&at("ws://home.example:4000")));
    assert!(!listener.serves(&at("ws://home.example:4001")));
    assert!(!listener.serves(&SignalAddress::through(client_peer())));
    assert_eq!(listener.addresses().len(), 1);
    let e = listener.send(&at("ws://else.example:1"), mail(client_peer(), "x")).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::BadAddress);
}
