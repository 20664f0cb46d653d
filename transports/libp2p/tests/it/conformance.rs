//! The contract of its traits.

use std::sync::Arc;

use byway_testkit::transport::TransportFixture;
use byway_transport_libp2p::Libp2p;

byway_testkit::transport_conformance!(
    libp2p,
    TransportFixture::new(Arc::new(Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")))
);
