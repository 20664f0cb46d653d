//! The contract of the traits.

use std::sync::Arc;

use byway_testkit::transport::TransportFixture;
use byway_transport_webrtc::WebRtc;

fn loopback() -> Arc<WebRtc> {
    Arc::new(WebRtc::default().bind(([127, 0, 0, 1], 0).into()))
}

byway_testkit::transport_conformance!(own_driver, TransportFixture::new(loopback()));
