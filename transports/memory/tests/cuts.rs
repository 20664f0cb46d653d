//! Faults on demand: what a cut does to connections, frames and dials.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use byway_api::{
    BindContext, Bytes, CloseCode, Connection, Endpoint, Incoming, NetworkId, PeerId, Received, Transport,
    TransportErrorKind,
};
use byway_transport_memory::{MemoryConfig, MemoryNetwork};

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

async fn device(network: &MemoryNetwork, number: u8) -> Arc<dyn Endpoint> {
    network.transport().bind(BindContext::new(peer(number), NetworkId::new("cuts").unwrap())).await.unwrap()
}

async fn connect(from: &dyn Endpoint, to: &dyn Endpoint, number: u8) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let dialled = from.dial(peer(number), &to.addresses()[0]).await.unwrap();
    let Some(Incoming::Connection(accepted)) = to.next().await else { panic!("no connection") };
    (dialled, accepted)
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_what_is_under_way_and_spares_the_others() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (device(&network, 1).await, device(&network, 2).await, device(&network, 3).await);
    let (a_to_b, b_to_a) = connect(&*a, &*b, 2).await;
    let (a_to_c, c_to_a) = connect(&*a, &*c, 3).await;
    a_to_b.send(Bytes::from_static(b"under way")).await.unwrap();
    a_to_c.send(Bytes::from_static(b"under way")).await.unwrap();

    network.cut(peer(2), peer(1));
    for lost in [&a_to_b, &b_to_a] {
        assert_eq!(lost.recv().await.unwrap(), Received::Closed(CloseCode::LOST));
        assert_eq!(lost.send(Bytes::new()).await.unwrap_err().kind(), TransportErrorKind::Closed);
    }
    assert_eq!(c_to_a.recv().await.unwrap(), Received::Frame(Bytes::from_static(b"under way")));
    for (from, to, number) in [(&a, &b, 2), (&b, &a, 1)] {
        let refused = from.dial(peer(number), &to.addresses()[0]).await.unwrap_err();
        assert_eq!(refused.kind(), TransportErrorKind::Timeout);
    }

    network.heal(peer(1), peer(2));
    assert_eq!(a_to_b.recv().await.unwrap(), Received::Closed(CloseCode::LOST), "healing brings nothing back");
    connect(&*a, &*b, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_isolated_device_reaches_nobody_until_it_rejoins() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (device(&network, 1).await, device(&network, 2).await, device(&network, 3).await);
    let (b_to_a, _a_to_b) = connect(&*b, &*a, 1).await;
    let (b_to_c, c_to_b) = connect(&*b, &*c, 3).await;
    network.cut(peer(1), peer(2));
    network.isolate(peer(1));
    network.isolate(peer(3));
    assert_eq!(b_to_a.recv().await.unwrap(), Received::Closed(CloseCode::LOST));
    assert_eq!(b_to_c.recv().await.unwrap(), Received::Closed(CloseCode::LOST));
    assert_eq!(c_to_b.recv().await.unwrap(), Received::Closed(CloseCode::LOST));
    assert!(a.dial(peer(3), &c.addresses()[0]).await.is_err());

    network.rejoin(peer(1));
    assert!(a.dial(peer(3), &c.addresses()[0]).await.is_err(), "the other end is still isolated");
    assert!(a.dial(peer(2), &b.addresses()[0]).await.is_err(), "the pair is still cut");
    network.rejoin(peer(3));
    connect(&*a, &*c, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_calls_that_wait() {
    let mut config = MemoryConfig::default();
    config.queued_frames = 1;
    let network = MemoryNetwork::with_config(config);
    let (a, b) = (device(&network, 1).await, device(&network, 2).await);
    let (near, _far) = connect(&*a, &*b, 2).await;
    near.send(Bytes::from_static(b"the queue is full now")).await.unwrap();
    let (sent, received, ()) =
        tokio::join!(near.send(Bytes::new()), near.recv(), async { network.cut(peer(1), peer(2)) });
    assert_eq!(sent.unwrap_err().kind(), TransportErrorKind::Closed);
    assert_eq!(received.unwrap(), Received::Closed(CloseCode::LOST));
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_bounded_in_bytes_and_takes_any_frame_when_empty() {
    let mut config = MemoryConfig::default();
    config.queued_bytes = 1_000;
    let network = MemoryNetwork::with_config(config);
    let (a, b) = (device(&network, 1).await, device(&network, 2).await);
    let (near, far) = connect(&*a, &*b, 2).await;
    for size in [5_000, 600, 400] {
        near.send(Bytes::from(vec![0; size])).await.unwrap();
        if size > 1_000 {
            far.recv().await.unwrap();
        }
    }
    tokio::select! {
        biased;
        sent = near.send(Bytes::from_static(b"one too many")) => panic!("1,000 bytes wait, and {sent:?}"),
        () = std::future::ready(()) => {}
    }
    far.recv().await.unwrap();
    near.send(Bytes::from_static(b"there is room")).await.unwrap();
}
