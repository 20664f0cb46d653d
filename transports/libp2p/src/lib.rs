//! libp2p as a Byway transport: TCP, Noise and Yamux, and with the feature `quic` also QUIC.
//!
//! [`Libp2p`] dials addresses directly and needs no signalling. Relaying, upgrading and resending are
//! Byway's own; of libp2p only the secured, multiplexed connection is used.
//!
//! ```no_run
//! use byway_transport_libp2p::Libp2p;
//!
//! let transport = Libp2p::default()
//!     .listen("/ip4/0.0.0.0/tcp/4001")
//!     .advertise("/ip4/203.0.113.7/tcp/4001");
//! ```
//!
//! # Identity
//! A device has one Ed25519 key, and its [`PeerId`](byway_api::PeerId) *is* the libp2p PeerId of that key.
//! The transport proves the key itself, in the Noise (or TLS) handshake, so the node lends it the seed
//! ([`BindContext::identity`]). It is used for that handshake and for nothing else, and erased when the
//! endpoint is bound. [`Connection::peer`](byway_api::Connection::peer) is the proven device; a dial that finds
//! another one at the address fails with `Handshake`.
//!
//! # On the wire
//! One stream of the protocol `/byway/1` per connection, opened by the dialer.
//!
//! 1. *dialer*: 32 random bytes.
//! 2. *answerer*: `0` and 32 random bytes; or `1` and the [`CloseCode`](byway_api::CloseCode) (16 bits) with
//!    which it refuses.
//! 3. *dialer*: `0`. Only now the connection is open, and only now it comes out of `next` at the answerer, so
//!    a dial that was given up never does.
//! 4. *both*: frames, each with its length in front (32 bits). `0xffff` and a close code in the place of a
//!    length end the connection. All numbers are big-endian.
//!
//! The **channel binding** is SHA-256 over `byway/libp2p-binding/v1`, a zero byte, the keys of dialer and
//! answerer, and their random bytes in that order. Both keys were proven in the handshake of the very
//! channel, so nobody in the middle can make two channels with the same binding; the random bytes make it
//! different for every connection.
//!
//! # Two dials at once
//! The dialer decides, with its third message, and one side has the last word: a dialer that is about to
//! send it while it has said yes to a dial of the same peer gives its own dial up if it is the smaller
//! [`PeerId`](byway_api::PeerId), and otherwise waits until the peer's dial is decided. Both sides know of
//! both dials before either is decided, or else the later one finds the earlier one decided; so at most one
//! connection results. A connection that is open does not stand in the way of a new one: its peer may have
//! restarted. The node chooses between the two.
//!
//! # Ending
//! Closing writes what is queued, then the code, and waits until the far side, which reads the code last,
//! drops the connection, at most [`Config::linger`]. Nothing is lost on the way unless the far side does not
//! read for that long. A connection that ends without a code is lost.
//!
//! # Bounds
//! Connections in their handshake are bounded in all and per IP address, connections in all and per device,
//! those that nobody accepts by [`Config::accept_queue`]. A peer may open one stream. A frame is at most
//! 65,536 bytes, checked before anything is allocated for it. While nobody reads, [`Config::receive_buffer`]
//! and the stream's own window are what a peer can fill.

mod address;
mod behaviour;
mod config;
mod connection;
mod crossing;
mod driver;
mod endpoint;
mod failure;
mod frames;
mod guard;
mod handler;
mod link;
mod preface;
mod reader;
mod stack;
mod task;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{
    BindContext, Endpoint, Security, Transport, TransportCaps, TransportError, TransportErrorKind as Kind,
};

pub use config::{Config, Libp2p};

/// The transport's name, and the scheme of its addresses: `libp2p:/ip4/192.0.2.7/tcp/4001`.
const NAME: &str = "libp2p";

/// The longest frame, in bytes.
const MAX_FRAME: usize = 65_536;

const CAPS: TransportCaps = TransportCaps::new(MAX_FRAME, false, false, Security::Encrypted).proving_identity();

#[async_trait]
impl Transport for Libp2p {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> TransportCaps {
        CAPS
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(endpoint::Libp2pEndpoint::open(self.config().clone(), cx).await?))
    }
}

/// An error of this transport.
fn error(kind: Kind, detail: impl Into<String>) -> TransportError {
    TransportError::new(kind, NAME, detail)
}
