//! The contract of its traits.

use std::sync::Arc;

use byway_testkit::transport::TransportFixture;
use byway_transport_libp2p::Libp2p;

byway_testkit::transport_conformance!(
    libp2p,
    TransportFixture::new(Arc::new(Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")))
);

/// Every promise but one: the tasks of the QUIC implementation go on for a moment after `close`, until
/// what it said last has had the time to arrive.
#[cfg(feature = "quic")]
#[tokio::test]
async fn quic_keeps_what_tcp_keeps_but_for_tasks_that_linger() {
    use byway_testkit::transport::PROMISES;
    use std::time::Duration;

    for promise in PROMISES.iter().filter(|promise| promise.name() != "no_task_is_left") {
        let fixture = TransportFixture::new(Arc::new(Libp2p::default().listen("/ip4/127.0.0.1/udp/0/quic-v1")));
        let verdict = promise.test(&fixture, Duration::from_secs(60)).await;
        assert!(verdict.is_ok(), "{}: {verdict:?}", promise.name());
    }
}
