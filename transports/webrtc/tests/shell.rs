//! The shell, and both implementations with each other.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use byway_api::{CloseCode, Endpoint, Transport, TransportErrorKind};
use byway_testkit::transport::TransportFixture;
use byway_transport_webrtc::{WebRtc, WebRtcShell};
use support::*;

fn own() -> Arc<dyn Transport> {
    Arc::new(local())
}

fn shell() -> Arc<dyn Transport> {
    Arc::new(WebRtcShell::new(local()))
}

byway_testkit::transport_conformance!(shell_alone, TransportFixture::new(shell()));
byway_testkit::transport_conformance!(own_and_shell, TransportFixture::mixed(own(), shell()));

#[tokio::test]
async fn each_understands_the_other() {
    for (near, far) in [(own(), shell()), (shell(), own()), (shell(), shell())] {
        let hub = Hub::default();
        let (a, b) = (bind(&*near, &hub, peer(1)).await, bind(&*far, &hub, peer(2)).await);
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        assert_eq!(here.binding(), there.binding());
        for size in [0, 1, 1_000, 65_536] {
            here.send(Bytes::from(vec![1; size])).await.unwrap();
            assert_eq!(frame(&*there).await, vec![1; size]);
            there.send(Bytes::from(vec![2; size])).await.unwrap();
            assert_eq!(frame(&*here).await, vec![2; size]);
        }
        let ((), code) = tokio::join!(within(here.close(CloseCode::FULL)), closed(&*there));
        assert_eq!(code, CloseCode::FULL);
        within(a.close()).await;
        within(b.close()).await;
    }
}

#[tokio::test]
async fn the_smaller_id_wins_here_too() {
    for (near, far) in [(own(), shell()), (shell(), own())] {
        let hub = Hub::default();
        let (a, b) = (bind(&*near, &hub, peer(1)).await, bind(&*far, &hub, peer(2)).await);
        hub.rule(|_, _, signal| if signal.kind == byway_api::SignalKind::Offer { Fate::Hold } else { Fate::Deliver });
        let (to_a, to_b) = (at(peer(1)), at(peer(2)));
        let release = async {
            hub.sent(byway_api::SignalKind::Offer, 2).await;
            hub.release();
        };
        let (won, lost, _accepted, ()) =
            within(async { tokio::join!(a.dial(peer(2), &to_b), b.dial(peer(1), &to_a), accept(&*b), release) }).await;
        assert!(won.is_ok());
        assert_eq!(lost.unwrap_err().kind(), TransportErrorKind::Superseded);
        within(a.close()).await;
        within(b.close()).await;
    }
}

#[tokio::test]
async fn the_default_shell_works_on_one_machine() {
    let hub = Hub::default();
    let a = WebRtcShell::default().open(context(&hub, peer(1))).unwrap();
    let b = open(&WebRtc::default(), &hub, peer(2)).await;
    let (here, there) = connect(&a, &*b, peer(2)).await;
    here.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(frame(&*there).await, "hello");
    within(a.close()).await;
    let stats = a.stats();
    assert_eq!((stats.connections, stats.attempts, stats.sessions, stats.tasks), (0, 0, 0, 0));
}
