//! The reference registry of Byway: who announced themselves, and signalling. Never messages.
//!
//! It is the last resort of the discovery ladder. Members find each other through it on a first start,
//! and signal through it while nobody else can carry their signals; kill it and everything goes on.
//!
//! | call | what it does |
//! |---|---|
//! | `GET /network/{networkId}/active-peers` | pages of devices seen lately |
//! | `POST /network/{networkId}/announce` | takes a device's signed record |
//! | `GET /network/{networkId}/peer/{userId}` | the devices of one user |
//! | `POST /coordinator/heartbeat` | a coordinator is alive |
//! | `wss://host/{peerId}` | the signalling socket of `byway-socket` |
//! | `GET /health`, `/ready`, `/metrics` | for whoever runs it |
//!
//! JSON, limits and authentication: `sdk/docs/protocol.md`, section Registry. What it keeps is behind
//! [`RegistryBackend`] (default: [`EmbeddedBackend`], one SQLite file) and what joins several registries
//! behind [`SignalBus`] (default: none). A registry never issues credentials, and nothing that it says
//! is believed without a signature.
//!
//! [`serve`] runs one inside a process, [`run`] is the binary.

mod app;
mod auth;
mod backend;
mod base;
mod calls;
mod cli;
mod clock;
pub mod config;
mod door;
mod election;
mod embedded;
mod limiter;
mod live;
mod metrics;
mod nonce;
mod probes;
mod problem;
mod server;
mod socket;
mod sqlite;

pub use backend::{Announce, Announced, BackendError, Cursor, Page, Peer, RegistryBackend, Standing, Swept};
pub use byway_socket::SignalBus;
pub use cli::{RunError, run};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Config, Database};
pub use embedded::{EmbeddedBackend, EmbeddedConfig};
pub use server::{RunningRegistry, ServeError, serve, serve_with};
