//! Nodes over libp2p alone: no registry, no listener, no signalling of any kind.

#![cfg(feature = "libp2p")]
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byway::api::{BindContext, Endpoint, Secret, Transport, TransportCaps, TransportError, async_trait};
use byway::discovery::standard_steps;
use byway::presets::Bare;
use byway::{Builder, Inbox, Libp2p, MemoryKeys, MemoryNetwork, MemoryStore, Message, Network, Node, Status};

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn next(inbox: &mut Inbox) -> Message {
    soon("a message", inbox.next()).await.expect("the node runs")
}

/// In memory, without any transport.
fn member(name: &str) -> Builder {
    Node::builder(Bare)
        .store(MemoryStore::new())
        .keys(MemoryKeys::new())
        .discovery(|_| standard_steps(None).into())
        .join(Network::open("team"), name)
}

#[tokio::test]
async fn members_find_each_other_by_their_records_and_by_their_neighbours() {
    let (alice, mut alices) = member("alice").transport(Libp2p::default()).spawn().await.unwrap();
    let addresses = alice.addresses();
    assert!(!addresses.is_empty() && addresses.iter().all(|a| a.scheme() == "libp2p"), "{addresses:?}");

    let bob = member("bob").transport(Libp2p::default()).bootstrap(alice.invite().unwrap());
    let (bob, mut bobs) = bob.spawn().await.unwrap();
    let sent = bob.chat("alice").unwrap().send("found you").await.unwrap();
    let message = next(&mut alices).await;
    assert_eq!(message.text(), Some("found you"));
    message.reply("by my record").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("by my record"));
    soon("delivery", sent.delivered()).await.unwrap();
    let seen = |roster: &byway::Roster| roster.iter().any(|m| m.status() == Status::Direct);
    soon("a direct member", bob.members().wait_for(seen)).await.unwrap();
    assert!(bob.path("alice").unwrap().contains("libp2p"), "{}", bob.path("alice").unwrap());

    // Carol has never heard of bob, nor he of her: alice tells her, and carol dials what his record says.
    let carol = member("carol").transport(Libp2p::default()).bootstrap(alice.invite().unwrap());
    let (carol, _carols) = carol.spawn().await.unwrap();
    soon("bob to be seen", carol.members().wait_for(|roster| roster.get("bob").is_some())).await.unwrap();
    soon("a connection", carol.chat("bob").unwrap().connect(PATIENCE)).await.unwrap();
    carol.chat("bob").unwrap().send("alice knows you").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("alice knows you"));
    let direct = |roster: &byway::Roster| roster.iter().filter(|m| m.status() == Status::Direct).count() == 2;
    soon("two direct members", carol.members().wait_for(direct)).await.unwrap();

    for node in [alice, bob, carol] {
        soon("a shutdown", node.shutdown()).await.unwrap();
    }
}

/// A device comes back at another address and with the same key: its peers learn the new one from its record.
#[tokio::test]
async fn a_member_that_restarts_elsewhere_is_found_again() {
    let (alice, mut alices) = member("alice").transport(Libp2p::default()).spawn().await.unwrap();
    let (store, keys) = (MemoryStore::new(), MemoryKeys::new());
    let bob = || member("bob").transport(Libp2p::default()).keys(keys.clone());
    let (first, _inbox) = bob().store(store.clone()).bootstrap(alice.invite().unwrap()).spawn().await.unwrap();
    first.chat("alice").unwrap().send("before").await.unwrap();
    next(&mut alices).await.done().await.unwrap();
    soon("a shutdown", first.shutdown()).await.unwrap();
    let (again, mut bobs) = bob().store(store.reopen().unwrap()).spawn().await.unwrap();
    again.chat("alice").unwrap().send("after").await.unwrap();
    let message = next(&mut alices).await;
    assert_eq!(message.text(), Some("after"));
    message.reply("welcome back").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("welcome back"));
}

/// Notes what it was lent.
#[derive(Clone, Debug)]
struct Curious {
    inner: byway::MemoryTransport,
    name: &'static str,
    proves: bool,
    lent: Arc<Mutex<Vec<Option<Secret>>>>,
}

#[async_trait]
impl Transport for Curious {
    fn name(&self) -> &'static str {
        self.name
    }

    fn caps(&self) -> TransportCaps {
        if self.proves { self.inner.caps().proving_identity() } else { self.inner.caps() }
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        self.lent.lock().unwrap().push(cx.identity.clone());
        self.inner.bind(cx).await
    }
}

#[tokio::test]
async fn only_a_transport_that_proves_the_device_key_is_lent_it() {
    let lent = [Arc::default(), Arc::default()];
    let curious = |name, proves: bool| Curious {
        inner: MemoryNetwork::new().transport(),
        name,
        proves,
        lent: Arc::clone(&lent[usize::from(proves)]),
    };
    let node = member("alice").transport(curious("mem", false)).transport(curious("proving", true));
    let (node, _inbox) = node.spawn().await.unwrap();
    assert_eq!(*lent[0].lock().unwrap(), [None]);
    let seeds = lent[1].lock().unwrap().clone();
    let [Some(seed)] = &seeds[..] else { panic!("{seeds:?}") };
    assert_eq!(byway_wire::DeviceKey::from_seed(seed).peer(), node.peer());
    assert_eq!(format!("{seed:?}"), "Secret(..)", "it is not printed");
}
