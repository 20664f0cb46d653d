//! A member of the matrix: which transport, which store, and what survives its restart.

use std::net::{Ipv4Addr, SocketAddr};

use byway::discovery::{CarrierConfig, SocketCarrier};
use byway::presets::Bare;
use byway::{
    Builder, Inbox, Libp2p, MemoryNetwork, MemoryStore, Message, Network, Node, RedbStore, SqliteStore, WebRtc,
};
use tempfile::TempDir;

use crate::soon;

/// The transport of both members.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Memory(MemoryNetwork),
    WebRtc,
    Libp2p,
}

impl Way {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryNetwork::new())
    }

    pub(crate) const fn webrtc() -> Self {
        Self::WebRtc
    }

    pub(crate) const fn libp2p() -> Self {
        Self::Libp2p
    }

    /// Adds the transport, and what it needs to make connections.
    pub(crate) fn add(&self, builder: Builder) -> Builder {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        match self {
            Self::Memory(network) => builder.transport(network.transport()),
            Self::WebRtc => builder
                .transport(WebRtc::default().bind(loopback).loopback(true))
                .signaling(SocketCarrier::new(CarrierConfig::default(), Vec::new()))
                .listener(loopback),
            Self::Libp2p => builder.transport(Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")),
        }
    }
}

/// The store of both members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Memory,
    Sqlite,
    Redb,
}

/// One member over its restarts.
#[derive(Debug)]
pub(crate) struct Member {
    name: &'static str,
    ways: Vec<Way>,
    keep: Keep,
    profile: TempDir,
    /// What a memory store keeps while its node is off.
    memory: Option<MemoryStore>,
}

impl Member {
    pub(crate) fn new(name: &'static str, ways: &[Way], keep: Keep) -> Self {
        let profile = TempDir::new().unwrap();
        Self { name, ways: ways.to_vec(), keep, profile, memory: None }
    }

    /// A node that is not spawned yet.
    pub(crate) fn builder(&mut self) -> Builder {
        let builder = Node::builder(Bare).join(Network::open("team"), self.name).profile(self.profile.path());
        let file = |name: &str| self.profile.path().join(name);
        let builder = match self.keep {
            Keep::Memory => {
                let store = self.memory.take().map_or_else(MemoryStore::new, |kept| kept.reopen().unwrap());
                builder.store(self.memory.insert(store).clone())
            }
            Keep::Sqlite => builder.store(SqliteStore::open(file("store.db")).unwrap()),
            Keep::Redb => builder.store(RedbStore::open(file("store.redb")).unwrap()),
        };
        let builder = builder.discovery(|_| byway::discovery::standard_steps(None).into());
        self.ways.iter().fold(builder, |builder, way| way.add(builder))
    }

    pub(crate) async fn start(&mut self) -> (Node, Inbox) {
        self.builder().spawn().await.unwrap()
    }

    /// Starts, and knows the member who gave the invite.
    pub(crate) async fn start_knowing(&mut self, other: &Node) -> (Node, Inbox) {
        self.builder().bootstrap(other.invite().unwrap()).spawn().await.unwrap()
    }
}

/// The next message, finished.
pub(crate) async fn take(inbox: &mut Inbox) -> String {
    let message = next(inbox).await;
    message.done().await.unwrap();
    message.text().unwrap().to_owned()
}

/// The next message, not finished.
pub(crate) async fn next(inbox: &mut Inbox) -> Message {
    soon("a message", inbox.next()).await.expect("the node runs")
}

/// Takes as many messages as there are numbers, which must come in their order and once each.
pub(crate) async fn take_numbers(inbox: &mut Inbox, who: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        assert_eq!(take(inbox).await, format!("{who} {n}"));
    }
}

/// Sends a message for each number.
pub(crate) async fn send_numbers(node: &Node, who: &str, to: &str, numbers: std::ops::Range<usize>) {
    let chat = node.chat(to).unwrap();
    for n in numbers {
        chat.send(format!("{who} {n}")).await.unwrap();
    }
}
