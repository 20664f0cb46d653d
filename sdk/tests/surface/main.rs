//! What an app sees, on nodes in memory under virtual time.

#![allow(clippy::unwrap_used)]

mod building;
mod invites;
mod lifecycle;
#[cfg(feature = "listener")]
mod listener;
mod members;
mod messages;
mod relaying;

use std::future::Future;
use std::time::Duration;

use byway::presets::InMemory;
use byway::{Builder, Inbox, Message, Network, Node};

/// Longer than any wait of a healthy node but the life of a message; virtual.
const PATIENCE: Duration = Duration::from_secs(120);

/// What comes within [`PATIENCE`].
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn member(world: &InMemory, name: &str) -> Builder {
    Node::builder(world.clone()).join(Network::open("team"), name)
}

async fn start(world: &InMemory, name: &str) -> (Node, Inbox) {
    member(world, name).spawn().await.unwrap()
}

async fn next(inbox: &mut Inbox) -> Message {
    soon("a message", inbox.next()).await.expect("the node runs")
}

/// A direct connection to a user who has announced itself, or is about to.
async fn connect(node: &Node, user: &str) {
    soon("the user to be seen", node.members().wait_for(|roster| roster.get(user).is_some())).await.unwrap();
    if let Err(error) = soon("a connection", node.chat(user).unwrap().connect(PATIENCE)).await {
        let why = node.explain(user).await.unwrap().map(|explanation| explanation.to_string());
        panic!("{error}: {}", why.unwrap_or_default());
    }
}

/// Lets everything that can happen without waiting for a message happen, for `time` of virtual time.
async fn pass(time: Duration, inbox: &mut Inbox) -> Option<Message> {
    tokio::time::timeout(time, inbox.next()).await.ok().flatten()
}
