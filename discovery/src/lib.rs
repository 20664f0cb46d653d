//! The six steps of Byway's discovery ladder, the registry client and the socket carrier.
//!
//! | step | file | costs others |
//! |---|---|---|
//! | `existing` | [`Existing`] | nothing |
//! | `neighbours` | [`Neighbours`] | one frame per neighbour |
//! | `cache` | [`Cache`] | nothing |
//! | `coordinators` | [`Coordinators`] | one frame per coordinator that is connected |
//! | `registry` | `RegistryStep` (feature `registry`) | one metered call |
//! | `store-and-forward` | [`StoreAndForward`] | nothing |
//!
//! With the feature `mdns` there is one more, `mdns::Mdns`, which finds the members on the same LAN by
//! multicast DNS and fits anywhere, best behind `cache`.
//!
//! [`standard_steps`] puts them in this order. A step of your own goes anywhere between them: the names
//! are the places.
//!
//! With the feature `carrier` the crate also has `SocketCarrier`, the client side of the signalling
//! socket: it carries sealed envelopes through the registry's WebSocket and through the listeners that
//! members serve. With `registry` it has `RegistryClient`, which the step and the carrier share, so
//! that an open socket vouches for the registry and a dead registry is asked for nothing.
//!
//! The protocol is in `sdk/docs/protocol.md`, sections 1, 5 and 6.

mod cache;
#[cfg(feature = "carrier")]
mod carrier;
mod coordinators;
mod existing;
mod ladder;
#[cfg(feature = "mdns")]
pub mod mdns;
mod neighbours;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "carrier")]
mod server;
mod store_and_forward;
#[cfg(feature = "carrier")]
mod tls;

pub use cache::Cache;
#[cfg(feature = "carrier")]
pub use carrier::{CarrierConfig, Home, SocketCarrier};
pub use coordinators::Coordinators;
pub use existing::Existing;
pub use ladder::standard_steps;
pub use neighbours::Neighbours;
#[cfg(feature = "registry")]
pub use registry::{RegistryClient, RegistryConfig, RegistryStep};
#[cfg(feature = "carrier")]
pub use server::ConfigError;
pub use store_and_forward::StoreAndForward;
#[cfg(feature = "carrier")]
pub use tls::Tls;
