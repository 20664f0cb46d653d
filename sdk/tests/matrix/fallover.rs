//! Nodes with more than one transport.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use byway::api::{
    BindContext, Connection, Endpoint, Incoming, SignalAddress, Transport, TransportCaps, TransportError, async_trait,
};
use byway::presets::Bare;
use byway::{MemoryKeys, MemoryNetwork, MemoryStore, MemoryTransport, Network, Node, PeerId, Reach, WebRtc};
use byway_testkit::signaling::MemoryHub;

use crate::kit::{Keep, Member, Way, send_numbers, take, take_numbers};
use crate::soon;

/// Waits until `node` is connected to `user` over `transport`.
async fn connected_over(node: &Node, user: &str, transport: &str) {
    let over = |reach: &Reach| matches!(reach, Reach::Direct { transport: now, .. } if *now == transport);
    let what = format!("{user} over {transport}");
    soon(&what, node.members().wait_for(|roster| roster.get(user).is_some_and(|m| over(&m.reach)))).await.unwrap();
}

async fn the_first_transport_is_preferred(ways: [Way; 2], transport: &str) {
    let (mut a, mut b) = (Member::new("alice", &ways, Keep::Memory), Member::new("bob", &ways, Keep::Memory));
    let (alice, mut alices) = a.start().await;
    let (bob, _bobs) = b.start_knowing(&alice).await;
    send_numbers(&bob, "bob", "alice", 0..3).await;
    take_numbers(&mut alices, "bob", 0..3).await;
    connected_over(&bob, "alice", transport).await;
    connected_over(&alice, "bob", transport).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_the_transports_is_the_preference() {
    the_first_transport_is_preferred([Way::Libp2p, Way::memory()], "libp2p").await;
    the_first_transport_is_preferred([Way::memory(), Way::Libp2p], "mem").await;
    the_first_transport_is_preferred([Way::WebRtc, Way::Libp2p], "webrtc").await;
}

/// Loses `first` while numbered messages flow, for good: every one of them arrives, once, in order.
async fn falls_over(network: &MemoryNetwork, second: Way, transport: &str) {
    const MESSAGES: usize = 400;
    let ways = [Way::Memory(network.clone()), second];
    let (mut a, mut b) = (Member::new("alice", &ways, Keep::Memory), Member::new("bob", &ways, Keep::Sqlite));
    let (alice, mut alices) = a.start().await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;
    bob.chat("alice").unwrap().send("hello").await.unwrap();
    assert_eq!(take(&mut alices).await, "hello");
    connected_over(&alice, "bob", "mem").await;

    let sending = async {
        send_numbers(&alice, "alice", "bob", 0..MESSAGES / 2).await;
        network.cut(alice.peer(), bob.peer());
        send_numbers(&alice, "alice", "bob", MESSAGES / 2..MESSAGES).await;
    };
    tokio::join!(sending, take_numbers(&mut bobs, "alice", 0..MESSAGES));
    connected_over(&alice, "bob", transport).await;
    send_numbers(&bob, "bob", "alice", 0..20).await;
    take_numbers(&mut alices, "bob", 0..20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_is_lost_gives_way_to_the_next_and_no_message_is_lost() {
    falls_over(&MemoryNetwork::new(), Way::Libp2p, "libp2p").await;
    falls_over(&MemoryNetwork::new(), Way::WebRtc, "webrtc").await;
}

/// A transport whose dials are never answered, as behind a firewall that drops everything.
#[derive(Debug)]
struct Unanswered(MemoryTransport);

#[derive(Debug)]
struct Silent(Arc<dyn Endpoint>);

#[async_trait]
impl Transport for Unanswered {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn caps(&self) -> TransportCaps {
        self.0.caps()
    }
    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(Silent(self.0.bind(cx).await?)))
    }
}

#[async_trait]
impl Endpoint for Silent {
    fn addresses(&self) -> Vec<SignalAddress> {
        self.0.addresses()
    }
    async fn dial(&self, _: PeerId, _: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        std::future::pending().await
    }
    async fn next(&self) -> Option<Incoming> {
        self.0.next().await
    }
    async fn close(&self) {
        self.0.close().await;
    }
}

/// Ways were tried one after the other, and a preferred transport that heard nothing kept the next
/// one waiting for its whole connect timeout of ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_hears_nothing_does_not_hold_up_the_next() {
    let network = MemoryNetwork::new();
    let ways = [Way::Memory(network.clone()), Way::Libp2p];
    let (mut a, mut b) = (Member::new("alice", &ways, Keep::Memory), Member::new("bob", &ways, Keep::Memory));
    let silent = |builder: byway::Builder| builder.transport(Unanswered(network.transport()));
    let (alice, mut alices) = silent(a.builder()).spawn().await.unwrap();
    let started = Instant::now();
    let (bob, _bobs) = silent(b.builder()).bootstrap(alice.invite().unwrap()).spawn().await.unwrap();
    send_numbers(&bob, "bob", "alice", 0..1).await;
    take_numbers(&mut alices, "bob", 0..1).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    connected_over(&bob, "alice", "libp2p").await;
}

/// Alice and Bob have no transport in common; Carol has both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_without_a_common_transport_talk_through_one_who_has_both() {
    const EACH: usize = 50;
    let mut c = Member::new("carol", &[Way::Libp2p, Way::WebRtc], Keep::Memory);
    let (mut a, mut b) =
        (Member::new("alice", &[Way::Libp2p], Keep::Sqlite), Member::new("bob", &[Way::WebRtc], Keep::Redb));
    let (carol, mut carols) = c.start().await;
    let (alice, mut alices) = a.start_knowing(&carol).await;
    let (bob, mut bobs) = b.start_knowing(&carol).await;
    connected_over(&alice, "carol", "libp2p").await;
    connected_over(&bob, "carol", "webrtc").await;

    let (there, back) = (send_numbers(&alice, "alice", "bob", 0..EACH), send_numbers(&bob, "bob", "alice", 0..EACH));
    let (at_bob, at_alice) = (take_numbers(&mut bobs, "alice", 0..EACH), take_numbers(&mut alices, "bob", 0..EACH));
    tokio::join!(there, back, at_bob, at_alice);
    let via_carol = |reach: &Reach| matches!(reach, Reach::Via { user, .. } if user.as_str() == "carol");
    let mut members = alice.members();
    let seen = members.wait_for(|roster| roster.get("bob").is_some_and(|m| via_carol(&m.reach)));
    soon("bob by way of carol", seen).await.unwrap();
    let last = alice.chat("bob").unwrap().send("thanks, carol").await.unwrap();
    assert_eq!(take(&mut bobs).await, "thanks, carol");
    soon("delivery", last.delivered()).await.unwrap();
    let shown = tokio::time::timeout(Duration::ZERO, carols.next()).await;
    assert!(shown.is_err(), "Carol passes on what she cannot read");
}

/// A carrier of signals with addresses of its own passed its suite, and no node ever asked it: only
/// sockets and neighbours were taken for ways of a signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_with_addresses_of_its_own_is_enough_for_webrtc() {
    let hub = MemoryHub::new();
    let member = |name: &str| {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Node::builder(Bare)
            .join(Network::open("team"), name)
            .transport(WebRtc::default().bind(loopback).loopback(true))
            .signaling(hub.carrier())
            .store(MemoryStore::new())
            .keys(MemoryKeys::new())
            .discovery(|_| byway::discovery::standard_steps(None).into())
    };
    let (alice, mut alices) = member("alice").spawn().await.unwrap();
    assert!(alice.addresses().iter().all(|address| address.scheme() == "hub"), "{:?}", alice.addresses());
    let (bob, mut bobs) = member("bob").bootstrap(alice.invite().unwrap()).spawn().await.unwrap();
    send_numbers(&bob, "bob", "alice", 0..3).await;
    take_numbers(&mut alices, "bob", 0..3).await;
    connected_over(&bob, "alice", "webrtc").await;
    send_numbers(&alice, "alice", "bob", 0..3).await;
    take_numbers(&mut bobs, "alice", 0..3).await;
}
