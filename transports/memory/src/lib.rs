//! The in-process transport of Byway: devices of one process talk over a switchboard.
//!
//! It is a real transport with every property the trait asks for, and no network: tests, the
//! simulator and applications with several devices in one process use it. It has no timers and no
//! tasks of its own, so it behaves the same under tokio's paused time.
//!
//! ```
//! use byway_api::{BindContext, Bytes, Incoming, NetworkId, PeerId, Received, Transport};
//! use byway_transport_memory::MemoryNetwork;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (ann, bob) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
//! let network = MemoryNetwork::new();
//! let anns = network.transport().bind(BindContext::new(ann, NetworkId::new("home")?)).await?;
//! let bobs = network.transport().bind(BindContext::new(bob, NetworkId::new("home")?)).await?;
//!
//! let to_bob = anns.dial(bob, &bobs.addresses()[0]).await?;
//! to_bob.send(Bytes::from_static(b"hi")).await?;
//!
//! let Some(Incoming::Connection(from_ann)) = bobs.next().await else { panic!("ann has dialled") };
//! assert_eq!(from_ann.recv().await?, Received::Frame(Bytes::from_static(b"hi")));
//! assert_eq!(from_ann.binding(), to_bob.binding());
//! # Ok(())
//! # }
//! ```
//!
//! # Writing your own transport
//!
//! Read this crate in the order transport, endpoint, connection:
//!
//! | file | what it shows |
//! |---|---|
//! | `transport.rs` | configuration until it is bound; binding twice makes two endpoints |
//! | `endpoint.rs` | a `dial` that leaves nothing when dropped, a cancel-safe `next`, an idempotent `close` |
//! | `connection.rs` | the last handle closes; the binding; one pipe for each direction |
//! | `pipe.rs` | back-pressure: a queue bounded in frames and in bytes, and an end that overtakes nothing |
//! | `switchboard.rs` | what a network would do: who is where, and which of two crossing dials wins |
//! | `cuts.rs` | faults on demand, for tests; a transport needs none of it |
//!
//! Then run `byway_testkit::transport_conformance!` over yours, as `tests/conformance.rs` does here.

mod config;
mod connection;
mod cuts;
mod endpoint;
mod pipe;
mod switchboard;
mod transport;

pub use config::MemoryConfig;
pub use switchboard::MemoryNetwork;
pub use transport::MemoryTransport;
