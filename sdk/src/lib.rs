//! Finds and messages the members of a network *by way of* the members already connected.
//!
//! # The problem
//!
//! Peer-to-peer apps need somebody to tell them where the others are. Usually that is a server, and
//! when it is down, slow or gone, so is the app: people who are connected to each other at that very
//! moment cannot find a third one whom both of them know. Byway turns this around. A member that is
//! looked for is sought among those already connected, in memory of earlier encounters, and at members
//! who volunteered to help; a registry is the last resort and never a dependency. Kill it and
//! everything goes on, also after restarts. Members who have a neighbour in common need no server to
//! connect: the neighbour carries the handshake, sealed. Messages go over direct connections where there
//! are any, else, sealed, by way of a common neighbour, and wait, durably, for as long as there is no way.
//!
//! # When not to use it
//!
//! * For large groups of strangers: there is one closed network per node, everyone in it may know who
//!   is online, and the member list is held in memory (at most 10,000 members).
//! * For history and synchronisation: Byway stores only messages on their way. What was handed to your
//!   app is your app's.
//! * For streams, files or calls: messages have at most 55 KiB. Use it to find the way and to
//!   agree, and something else to carry the bulk.
//! * Against traffic analysis: peers see each other's IP addresses.
//!
//! # The whole of it
//!
//! ```
//! use byway::{Network, Node, presets::InMemory};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An app takes presets::Standard::registry("https://registry.example") and .profile("./alice").
//! let world = InMemory::new();
//! let team = Network::open("team-blue");
//! let (alice, _) = Node::builder(world.clone()).join(team.clone(), "alice").spawn().await?;
//! let (bob, mut inbox) = Node::builder(world).join(team, "bob").spawn().await?;
//!
//! let mut sent = alice.chat("bob")?.send("hello").await?; // durably queued, whether bob is there or not
//!
//! let message = inbox.next().await.ok_or("bob has stopped")?;
//! assert_eq!(message.text(), Some("hello"));
//! message.reply("hi").await?;
//! message.read().await?; // tells alice
//! message.done().await?; // forgets it
//!
//! sent.delivered().await?;
//! sent.read().await?;
//! println!("{}", alice.path("bob")?); // Connected over mem
//! # alice.members().wait_for(|roster| roster.iter().any(|m| m.status() == byway::Status::Direct)).await;
//! # while sent.changed().await.is_some() {}
//! # assert_eq!(sent.status(), byway::Delivery::Read);
//! alice.shutdown().await?;
//! bob.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go from here
//!
//! | to | see |
//! |---|---|
//! | configure a node | [`Builder`], [`presets`] |
//! | show who is there, and how | [`Node::members`], [`Member`] |
//! | show what became of a message | [`Sent`], [`Delivery`] |
//! | know why | [`Node::explain`], [`Node::metrics`] |
//! | do without a registry | [`Node::invite`], [`Builder::bootstrap`], [`Builder::listener`] |
//! | run on phones and laptops | [`Node::suspend`], [`Node::network_changed`] |
//! | bring your own transport, store, discovery or membership | [`api`] |
//!
//! Methods say in their documentation what becomes of them when their future is dropped.

mod body;
mod builder;
mod chat;
mod engine;
mod error;
mod events;
mod explain;
mod inbox;
mod invite;
mod keys_file;
mod ladder;
#[cfg(feature = "listener")]
mod listener;
mod listening;
mod members;
mod metrics;
mod network;
mod node;
pub mod presets;
mod profile;
mod relay;
mod spawn;

pub use body::Body;
pub use builder::Builder;
pub use chat::{Chat, SendOptions, Sent};
pub use error::{BuildError, ConnectError, DeliveryError, NodeError, Part, Problem, SendError};
pub use events::{Event, Events};
pub use explain::Explanation;
pub use inbox::{Inbox, Message};
pub use invite::{Invite, InviteError};
pub use keys_file::{FileKeys, MemoryKeys};
pub use ladder::Ladder;
#[cfg(feature = "listener")]
pub use listener::{ListenError, Listener, ListenerConfig};
pub use members::{Member, Members, Roster, Status};
pub use metrics::Metrics;
pub use network::Network;
pub use node::Node;
pub use relay::PeerRelay;

pub use byway_core::Tuning;
pub use byway_core::link::LinkState;
pub use byway_core::status::{Delivery, DeviceDelivery};
pub use byway_core::view::{CoreMetrics, DialTrace, Evidence, LookupOutcome, Reach, StepTrace};

/// What plugins are written against: the traits, their types and errors.
pub use byway_api as api;
pub use byway_api::{
    CloseCode, IdError, MessageId, NetworkId, PeerId, Retry, SignalAddress, StoreError, StoreErrorKind, Trust, UserId,
    WallTime,
};

/// The discovery steps that come with Byway, and the clients of the registry and of signalling sockets.
pub use byway_discovery as discovery;
#[cfg(feature = "mdns")]
pub use byway_discovery::mdns::Mdns;
#[cfg(feature = "memory")]
pub use byway_store_memory::MemoryStore;
#[cfg(feature = "redb")]
pub use byway_store_redb::RedbStore;
#[cfg(feature = "sqlite")]
pub use byway_store_sqlite::SqliteStore;
#[cfg(feature = "libp2p")]
pub use byway_transport_libp2p::Libp2p;
#[cfg(feature = "memory")]
pub use byway_transport_memory::{MemoryNetwork, MemoryTransport};
#[cfg(feature = "webrtc")]
pub use byway_transport_webrtc::WebRtc;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
