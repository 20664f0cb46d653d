use byway_discovery::{CarrierConfig, SocketCarrier, standard_steps};
use byway_transport_webrtc::WebRtc;

use super::Preset;
use crate::builder::Builder;
use crate::ladder::Ladder;

/// No server: every member serves a listener, and they connect over WebRTC.
///
/// With the feature `mdns` members on the same LAN find each other by themselves, with nothing
/// configured. Without it, and across LANs, the first members meet by invites
/// ([`Node::invite`](crate::Node::invite), [`Builder::bootstrap`]). With the feature `libp2p` they connect
/// over TCP where WebRTC cannot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lan;

impl Preset for Lan {
    fn configure(self, builder: Builder) -> Builder {
        let builder = builder.transport(WebRtc::default());
        #[cfg(feature = "libp2p")]
        let builder = builder.transport(byway_transport_libp2p::Libp2p::default());
        builder
            .discovery(|_| steps())
            .signaling(SocketCarrier::new(CarrierConfig::default(), Vec::new()))
            .listener("0.0.0.0:0")
    }
}

fn steps() -> Ladder {
    let steps = Ladder::from(standard_steps(None));
    #[cfg(feature = "mdns")]
    let steps = steps.after(byway_discovery::Cache::NAME, byway_discovery::mdns::Mdns::default());
    steps
}
