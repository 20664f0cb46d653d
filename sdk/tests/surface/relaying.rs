//! Members who cannot connect to each other, and whom they have in common.

use std::sync::Arc;
use std::time::Duration;

use byway::api::{
    BindContext, Connection, Endpoint, Incoming, PeerId, SignalAddress, Transport, TransportCaps, TransportError,
    async_trait,
};
use byway::presets::InMemory;
use byway::{Delivery, Event, Events, Inbox, MemoryNetwork, Network, Node, PeerRelay};

use crate::{PATIENCE, connect, member, next, pass, soon, start};

async fn shows(node: &Node, text: &str) {
    soon(text, node.members().wait_for(|roster| roster.to_string().contains(text))).await.expect("the node runs");
}

async fn event<T>(events: &mut Events, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = wanted(&events.next().await.expect("the node runs")) {
                return found;
            }
        }
    })
    .await
}

fn cut(world: &InMemory, a: &Node, b: &Node) {
    world.network().cut(a.peer(), b.peer());
}

/// Alice and bob, who cannot connect, with carol, who is connected to both.
async fn apart(world: &InMemory) -> ((Node, Inbox), (Node, Inbox), (Node, Inbox)) {
    let alice = start(world, "alice").await;
    let bob = start(world, "bob").await;
    cut(world, &alice.0, &bob.0);
    let carol = start(world, "carol").await;
    connect(&alice.0, "carol").await;
    connect(&bob.0, "carol").await;
    shows(&alice.0, "🟡 bob  Online via carol").await;
    shows(&bob.0, "🟡 alice  Online via carol").await;
    (alice, bob, carol)
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_by_way_of_a_common_neighbour_and_its_ticks_come_back() {
    let world = InMemory::new();
    let ((alice, _alices), (bob, mut bobs), (carol, _carols)) = apart(&world).await;
    let mut events = alice.events();
    let sent = alice.chat("bob").unwrap().send("by way of carol").await.unwrap();
    let via = event(&mut events, "the relay", |event| match event {
        Event::Delivery { delivery: Delivery::Relayed, via, .. } => Some(via.clone()),
        _ => None,
    });
    assert_eq!(via.await.map(|user| user.to_string()).as_deref(), Some("carol"));

    let message = next(&mut bobs).await;
    assert_eq!((message.from().as_str(), message.text()), ("alice", Some("by way of carol")));
    message.read().await.unwrap();
    message.done().await.unwrap();
    soon("delivery", sent.delivered()).await.unwrap();
    soon("reading", sent.read()).await.unwrap();
    let metrics = (alice.metrics().await.unwrap(), bob.metrics().await.unwrap(), carol.metrics().await.unwrap());
    assert_eq!((metrics.0.core.sent_relayed, metrics.1.core.received_relayed), (1, 1));
    assert!(metrics.2.core.relayed >= 2, "the message there, a receipt back: {}", metrics.2.core.relayed);
    assert_eq!(metrics.2.core.received, 0, "nothing of it is carol's");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_becomes_direct_by_itself_and_goes_back_to_the_relay_if_it_must() {
    let world = InMemory::new();
    let ((alice, mut alices), (bob, mut bobs), _carol) = apart(&world).await;
    let mut events = alice.events();
    let (to_bob, to_alice) = (alice.chat("bob").unwrap(), bob.chat("alice").unwrap());
    let mut sent = 0;
    let mut say = async |n: usize| {
        for _ in 0..n {
            sent += 1;
            to_bob.send(sent.to_string()).await.unwrap();
            to_alice.send(sent.to_string()).await.unwrap();
        }
    };

    say(70).await;
    event(&mut events, "a failed attempt", |event| match event {
        Event::UpgradeFailed { user, next_try, .. } if user.as_str() == "bob" => Some(*next_try),
        _ => None,
    })
    .await;
    world.network().heal(alice.peer(), bob.peer());
    let transport = event(&mut events, "the upgrade", |event| match event {
        Event::Upgraded { user, transport, .. } if user.as_str() == "bob" => Some(*transport),
        _ => None,
    });
    assert_eq!(transport.await, "mem");
    shows(&alice, "🟢 bob").await;
    say(70).await;

    cut(&world, &alice, &bob);
    shows(&alice, "🟡 bob  Online via carol").await;
    say(60).await;

    // each is received once and in order, whatever way it took
    for inbox in [&mut bobs, &mut alices] {
        for n in 1..=200 {
            let message = next(inbox).await;
            assert_eq!((message.text(), message.late()), (Some(n.to_string().as_str()), false));
            message.done().await.unwrap();
        }
    }
    for inbox in [&mut bobs, &mut alices] {
        assert!(pass(PATIENCE, inbox).await.is_none(), "something came twice");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_relay_dies_another_one_takes_over_within_three_seconds() {
    let world = InMemory::new();
    let ((alice, _alices), (bob, mut bobs), carol) = apart(&world).await;
    let dave = start(&world, "dave").await;
    for node in [&alice, &bob] {
        connect(node, "dave").await;
    }
    let chat = alice.chat("bob").unwrap();
    let mut events = alice.events();
    chat.send("first").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("first"));
    let via = event(&mut events, "the relay", |event| match event {
        Event::Delivery { delivery: Delivery::Relayed, via, .. } => via.clone(),
        _ => None,
    })
    .await;
    // the network swallows everything that goes to it: nobody is told that it is gone
    let (dies, other) = if via.as_str() == "carol" { (&carol.0, "dave") } else { (&dave.0, "carol") };
    world.network().isolate(dies.peer());

    let start = tokio::time::Instant::now();
    let sent = chat.send("second").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("second"));
    soon("delivery", sent.delivered()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    shows(&alice, &format!("🟡 bob  Online via {other}")).await;
    assert!(pass(PATIENCE, &mut bobs).await.is_none(), "something came twice");
}

#[tokio::test(start_paused = true)]
async fn a_member_need_not_forward_for_others() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (bob, mut bobs) = start(&world, "bob").await;
    cut(&world, &alice, &bob);
    let (carol, _carols) = member(&world, "carol").relay(PeerRelay::for_nobody()).spawn().await.unwrap();
    for node in [&alice, &bob] {
        connect(node, "carol").await;
    }
    let sent = alice.chat("bob").unwrap().send("not by way of carol").await.unwrap();
    assert!(pass(PATIENCE, &mut bobs).await.is_none());
    assert_eq!(sent.status(), Delivery::Sending, "refused, and said so");
    assert_eq!(carol.metrics().await.unwrap().core.relayed, 0);

    let (_dave, _daves) = start(&world, "dave").await;
    for node in [&alice, &bob] {
        connect(node, "dave").await;
    }
    assert_eq!(next(&mut bobs).await.text(), Some("not by way of carol"));
    soon("delivery", sent.delivered()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_blocked_does_not_get_through_by_way_of_others() {
    let world = InMemory::new();
    let ((alice, _alices), (bob, mut bobs), _carol) = apart(&world).await;
    bob.block("alice").await.unwrap();
    let sent = alice.chat("bob").unwrap().send("let me in").await.unwrap();
    assert!(pass(PATIENCE, &mut bobs).await.is_none());
    assert!(sent.status() < Delivery::Delivered, "{:?}", sent.status());

    bob.unblock("alice").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("let me in"));
}

/// A transport in memory under a name of its own.
#[derive(Clone, Debug)]
struct Renamed {
    name: &'static str,
    inner: Arc<dyn Transport>,
}

impl Renamed {
    fn new(name: &'static str, network: &MemoryNetwork) -> Self {
        Self { name, inner: Arc::new(network.transport()) }
    }
}

#[async_trait]
impl Transport for Renamed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn caps(&self) -> TransportCaps {
        self.inner.caps()
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(RenamedEndpoint { name: self.name, inner: self.inner.bind(cx).await? }))
    }
}

#[derive(Debug)]
struct RenamedEndpoint {
    name: &'static str,
    inner: Arc<dyn Endpoint>,
}

fn renamed(address: &SignalAddress, to: &str) -> SignalAddress {
    let (_, rest) = address.as_str().split_once(':').unwrap();
    format!("{to}:{rest}").parse().unwrap()
}

#[async_trait]
impl Endpoint for RenamedEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        self.inner.addresses().iter().map(|address| renamed(address, self.name)).collect()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        self.inner.dial(peer, &renamed(to, "mem")).await
    }

    async fn next(&self) -> Option<Incoming> {
        self.inner.next().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Two members without a common transport, and a third one who has both.
#[tokio::test(start_paused = true)]
async fn members_without_a_common_transport_talk_by_way_of_one_who_has_both() {
    let (cable, radio) = (MemoryNetwork::new(), MemoryNetwork::new());
    let bare = |name: &str| {
        let builder = Node::builder(byway::presets::Bare).join(Network::open("team"), name).runtime_clock();
        builder.keys(byway::MemoryKeys::new()).store(byway::MemoryStore::new())
    };
    let (carol, _carols) = bare("carol")
        .transport(Renamed::new("cable", &cable))
        .transport(Renamed::new("radio", &radio))
        .spawn()
        .await
        .unwrap();
    let invite = carol.invite().unwrap().to_string();
    let (alice, mut alices) =
        bare("alice").transport(Renamed::new("cable", &cable)).bootstrap(&invite).spawn().await.unwrap();
    let (bob, mut bobs) =
        bare("bob").transport(Renamed::new("radio", &radio)).bootstrap(&invite).spawn().await.unwrap();
    shows(&alice, "🟡 bob  Online via carol").await;
    shows(&bob, "🟡 alice  Online via carol").await;

    let sent = alice.chat("bob").unwrap().send("from cable to radio").await.unwrap();
    let message = next(&mut bobs).await;
    assert_eq!(message.text(), Some("from cable to radio"));
    message.reply("and back").await.unwrap();
    assert_eq!(next(&mut alices).await.text(), Some("and back"));
    soon("delivery", sent.delivered()).await.unwrap();
}
