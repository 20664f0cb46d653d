//! The `webrtc` crate behind the same traits: fall-back, second implementation to test against, and
//! baseline of the benchmark. `sdk/docs/adr/001-webrtc-own-driver-and-shell.md` says why it exists.

mod attempt;
mod connection;
mod endpoint;
mod hook;
mod link;

use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{BindContext, Endpoint, Transport, TransportCaps, TransportError};

use crate::config::{Config, WebRtc};

pub use endpoint::WebRtcShellEndpoint;

/// WebRTC through the `webrtc` crate.
///
/// It takes the settings of [`WebRtc`] and speaks the same protocol. It differs in what the crate
/// decides: every connection has sockets and a TURN allocation of its own, so nothing is ever taken
/// over from an older connection, and STUN is asked for each attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRtcShell {
    config: Config,
    hook: bool,
}

impl Default for WebRtcShell {
    fn default() -> Self {
        Self::new(WebRtc::default())
    }
}

impl WebRtcShell {
    /// The shell with the settings of `transport`.
    pub fn new(transport: WebRtc) -> Self {
        Self { config: transport.config, hook: true }
    }

    /// Without the runtime hook and without larger socket buffers: the crate as it comes. For
    /// benchmarks.
    #[must_use]
    pub const fn stock(mut self) -> Self {
        self.hook = false;
        self
    }

    /// What [`Transport::bind`] does, with the concrete type.
    ///
    /// # Errors
    /// `Config` if there is no signal port, or `relay_only` has no TURN server.
    pub fn open(&self, cx: BindContext) -> Result<WebRtcShellEndpoint, TransportError> {
        WebRtcShellEndpoint::open(self.config.clone(), self.hook, cx)
    }
}

#[async_trait]
impl Transport for WebRtcShell {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn caps(&self) -> TransportCaps {
        crate::CAPS
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(self.open(cx)?))
    }
}
