//! WebRTC data channels as a Byway transport.
//!
//! [`WebRtc`] drives the sans-IO stack `rtc` itself, over **one UDP socket per endpoint and address
//! family** for all of its connections. It needs a [`SignalPort`](byway_api::SignalPort) to carry
//! its OFFER and ANSWER, crosses NATs with ICE, and encrypts with DTLS. With the feature
//! `webrtc-shell`, `WebRtcShell` is the `webrtc` crate behind the same traits.
//!
//! ```no_run
//! use byway_transport_webrtc::WebRtc;
//!
//! let transport = WebRtc::default()
//!     .stun("stun.example.org:3478")
//!     .turn("turn.example.org:3478", "user", "password");
//! ```
//!
//! # On the wire
//! One reliable, ordered data channel with label `byway` and protocol `byway/1`, announced in band
//! by the offerer (RFC 8832). A binary message is one frame. A text message is the transport's own
//! and never surfaces: `close N` says that the sender ends the connection with
//! [`CloseCode`](byway_api::CloseCode) `N`, after everything it sent before.
//!
//! # Two attempts, two connections
//! * *Glare.* If both devices dial at once, the OFFER of the smaller [`PeerId`](byway_api::PeerId)
//!   wins. The other's `dial` ends with `Superseded` and its connection comes out of `next`. The
//!   winner repeats its OFFER when it sees the loser's, in case the first one was lost.
//! * *A device dials while its own OFFER from the peer is being answered*: that `dial` ends with
//!   `Superseded` at once, whoever is smaller: the connection is already on its way.
//! * *An OFFER from a device to which a connection is open* is accepted: the device restarted, or
//!   lost its side. The old connection stays until the new one has proved itself. As soon as ICE
//!   has chosen the new one's address pair, an older connection over **the same remote address**
//!   is closed with `SUPERSEDED` on both sides, before the first byte of the new handshake, and
//!   silently: what is left of the old one must not disturb the new. So a restarted device never
//!   loses to its own corpse, and an OFFER that leads nowhere costs nothing. Over different
//!   addresses (a relayed and a direct one, or a device that came back on another port) both live
//!   until the node chooses; a third connection to the same device closes the oldest.
//!
//! # What is trusted
//! The demultiplexing tables are the security filter of the shared socket. A STUN request reaches a
//! connection only with that connection's random user fragment *and* a valid MESSAGE-INTEGRITY, a
//! STUN response only with the id of a request in flight, and everything else only from a remote
//! address over which this side's ICE agent sent after such a check. All tables are bounded.
//! A peer's candidates are limited in number and kind, and checks are paced, so that an OFFER
//! cannot make this device flood a third party.
//!
//! # Liveness
//! A closed connection is noticed at once, a vanished peer only by timeouts: ICE consent checks
//! every 25 s find it after [`Config::lost_after`]. Quicker answers are the node's business.

mod accept;
mod candidate;
mod certificate;
mod config;
mod connection;
mod demux;
mod drain;
mod driver;
mod endpoint;
mod flush;
mod gather;
mod held;
mod host;
mod offers;
mod pacing;
mod peer;
mod random;
mod sdp;
mod shared;
#[cfg(feature = "webrtc-shell")]
mod shell;
mod signal_body;
mod signals;
mod socket;
mod stats;
mod stun;
mod sync;
mod task;
mod timers;
mod turn;
mod window;

use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{BindContext, Endpoint, Security, Transport, TransportCaps, TransportError};

pub use config::{Config, TurnServer, WebRtc};
pub use endpoint::WebRtcEndpoint;
#[cfg(feature = "webrtc-shell")]
pub use shell::{WebRtcShell, WebRtcShellEndpoint};
pub use stats::Stats;

/// The transport's name, on the wire and in errors.
const NAME: &str = "webrtc";

/// The longest frame, in bytes: what every WebRTC stack accepts without negotiation (RFC 8841).
const MAX_FRAME: usize = 65_536;

/// Label and protocol of the data channel.
const CHANNEL_LABEL: &str = "byway";
const CHANNEL_PROTOCOL: &str = "byway/1";

const CAPS: TransportCaps = TransportCaps::new(MAX_FRAME, true, true, Security::Encrypted);

#[async_trait]
impl Transport for WebRtc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> TransportCaps {
        CAPS
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(self.open(cx).await?))
    }
}

/// An error of this transport.
fn error(kind: byway_api::TransportErrorKind, detail: impl Into<String>) -> TransportError {
    TransportError::new(kind, NAME, detail)
}
