//! The in-process transport against the contract of its traits.

use std::sync::Arc;

use byway_testkit::transport::TransportFixture;
use byway_transport_memory::MemoryNetwork;

byway_testkit::transport_conformance!(
    memory,
    // There is no network whose silence would have to be waited for.
    TransportFixture::new(Arc::new(MemoryNetwork::new().transport())).with_limits(|limits| {
        limits.quiet = std::time::Duration::from_millis(30);
    })
);
