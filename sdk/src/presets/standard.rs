use std::sync::Arc;

use byway_discovery::{CarrierConfig, RegistryClient, RegistryConfig, RegistryStep, SocketCarrier, standard_steps};
use byway_transport_webrtc::WebRtc;

use super::Preset;
use crate::builder::Builder;
use crate::error::{Part, Problem};

/// One registry, as the last resort: WebRTC between members, the registry's socket for first contacts.
#[derive(Clone, Debug)]
pub struct Standard {
    registry: String,
}

impl Standard {
    /// With the registry at this URL: `https://registry.example`. Its socket is at the same host,
    /// `wss://registry.example` (or `ws:` for `http:`). No other server is used, no STUN server
    /// either: give a [`WebRtc`] of your own with [`Builder::transport`] for that.
    pub fn registry(url: impl Into<String>) -> Self {
        Self { registry: url.into() }
    }
}

impl Preset for Standard {
    fn configure(self, builder: Builder) -> Builder {
        let mut builder = builder.transport(WebRtc::default());
        match RegistryClient::new(&self.registry, RegistryConfig::default()) {
            Ok(client) => {
                let carrier = SocketCarrier::new(CarrierConfig::default(), vec![client.home()]);
                let steps = standard_steps(Some(Arc::new(RegistryStep::new(client))));
                builder.discovery(|_| steps.into()).signaling(carrier)
            }
            Err(error) => {
                builder.problems.push(Problem::new(
                    Part::Signaling,
                    format!("the registry cannot be used: {error}"),
                    "correct the URL given to Standard::registry(..)",
                ));
                builder.discovery(|_| standard_steps(None).into())
            }
        }
    }
}
