//! Members for measuring, on loopback: real WebRTC, signalling over a member's listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use byway::presets::Lan;
use byway::{Builder, Inbox, MemoryKeys, MemoryStore, Message, Network, Node, WebRtc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::Failure;

/// Longer than anything that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Messages whose `done` an app has under way at once.
const FINISHING: usize = 256;

/// The network all of them are in.
pub(crate) fn network() -> Network {
    Network::open("figures")
}

/// WebRTC over loopback addresses only.
pub(crate) fn loopback() -> WebRtc {
    WebRtc::default().bind(any_port())
}

/// A free port of loopback.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A member without any server. It begins no connection unasked, so that whoever measures does.
pub(crate) fn member(user: &str) -> Builder {
    Node::builder(Lan)
        .transport(loopback())
        .listener(any_port())
        .join(network(), user)
        .tuning(|tuning| tuning.anchors = 0)
}

/// Keeps everything in memory.
pub(crate) fn in_memory(builder: Builder) -> Builder {
    builder.store(MemoryStore::new()).keys(MemoryKeys::new())
}

/// Alice, who has an invite of Bob, and Bob. They are not connected.
pub(crate) struct Pair {
    pub(crate) alice: Node,
    /// Alice gets nothing, but her inbox is part of her.
    pub(crate) _inbox: Inbox,
    pub(crate) bob: Node,
    pub(crate) inbox: Inbox,
}

impl Pair {
    pub(crate) async fn start(alice: Builder, bob: Builder) -> Result<Self, Failure> {
        let (bob, inbox) = bob.spawn().await?;
        let (alice, alice_inbox) = alice.bootstrap(bob.invite()?).spawn().await?;
        Ok(Self { alice, _inbox: alice_inbox, bob, inbox })
    }

    pub(crate) async fn in_memory() -> Result<Self, Failure> {
        Self::start(in_memory(member("alice")), in_memory(member("bob"))).await
    }

    /// Connects them and sends a first message, so that each device knows the other.
    pub(crate) async fn introduce(&mut self) -> Result<(), Failure> {
        let bob = self.alice.chat("bob")?;
        bob.connect(PATIENCE).await?;
        let sent = bob.send("hello").await?;
        self.inbox.next().await.ok_or("bob has stopped")?.done().await?;
        sent.delivered().await?;
        Ok(())
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        stop(&self.alice, &self.bob).await
    }
}

/// Stops both.
pub(crate) async fn stop(alice: &Node, bob: &Node) -> Result<(), Failure> {
    let (one, other) = tokio::join!(alice.shutdown(), bob.shutdown());
    Ok(one.and(other)?)
}

/// An app that takes every message and is done with it; `seen` is told of each before, `done` after
/// that. Ends when the node stops or `done` says so.
pub(crate) async fn take_all(
    inbox: &mut Inbox,
    mut seen: impl FnMut(&Message),
    mut done: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let mut finishing = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = inbox.next(), if finishing.len() < FINISHING => {
                let message = message.ok_or("the recipient has stopped")?;
                seen(&message);
                finishing.push(async move { message.done().await });
            }
            Some(finished) = finishing.next() => {
                finished?;
                if done() {
                    return Ok(());
                }
            }
        }
    }
}
