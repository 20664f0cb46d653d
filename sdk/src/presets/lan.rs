use byway_discovery::{CarrierConfig, SocketCarrier, standard_steps};
use byway_transport_webrtc::WebRtc;

use super::Preset;
use crate::builder::Builder;

/// No server: WebRTC, every member serves a listener, and the first members meet by invites
/// ([`Node::invite`](crate::Node::invite), [`Builder::bootstrap`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lan;

impl Preset for Lan {
    fn configure(self, builder: Builder) -> Builder {
        builder
            .transport(WebRtc::default())
            .discovery(|_| standard_steps(None).into())
            .signaling(SocketCarrier::new(CarrierConfig::default(), Vec::new()))
            .listener("0.0.0.0:0")
    }
}
