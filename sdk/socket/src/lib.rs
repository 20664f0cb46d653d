//! The signalling socket: how sealed envelopes get to a device that is attached to the same server.
//!
//! The registry's WebSocket and a member's listener serve the same protocol (`sdk/docs/protocol.md`,
//! "Registry"): one binary message is one [`SocketFrame`](byway_wire::SocketFrame).
//!
//! ```text
//! server                                client
//!   Challenge{nonce, target}   ->
//!                              <-   Auth(proof over nonce and target)
//!   Status{to: you, Ok, seq 0} ->                      attached
//!                              <-   Send{to, envelope, seq}
//!   Status{to, Ok | NoSuchPeer | Busy, seq} ->
//!   From{from, envelope}       ->
//!   Error{code, text}, close   ->
//! ```
//!
//! [`Hub`] is the server's side, [`Client`] the other one. Both run over any [`Socket`], a stream and
//! sink of [`Packet`]s, so that axum's WebSocket, tungstenite's and an in-memory pipe feed the same
//! code. No envelope is ever stored: it goes into the queue of an attached device or is refused.

mod client;
mod close;
mod gate;
mod hub;
mod pace;
mod packet;
mod queue;
mod serve;
mod table;
#[cfg(feature = "tungstenite")]
mod tungstenite;

pub use client::{Client, ClientConfig, Incoming};
pub use close::Closed;
pub use gate::{Challenge, Device, Gate, Refusal, Routed, SignalBus};
pub use hub::{Hub, HubConfig, LocalDevice, RouteCounts};
pub use packet::{Packet, Socket};
pub use serve::{Arrival, Entry, Served};
#[cfg(feature = "tungstenite")]
pub use tungstenite::{over_websocket, websocket_config};
