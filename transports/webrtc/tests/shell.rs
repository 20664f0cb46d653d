//! The shell, and both implementations with each other.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use byway_api::{CloseCode, Endpoint, Transport, TransportErrorKind};
use byway_testkit::transport::{PROMISES, TransportFixture};
use byway_transport_webrtc::{WebRtc, WebRtcShell};
use support::*;

fn own() -> Arc<dyn Transport> {
    Arc::new(local())
}

fn shell() -> Arc<dyn Transport> {
    Arc::new(WebRtcShell::new(local()))
}

/// The contract, except for the one promise that the crate's receiver cannot keep: it has no bound on
/// messages, only on their bytes, and an empty frame has one byte.
fn conforms(fixture: impl Fn() -> TransportFixture + Sync) {
    const PARALLEL: usize = 6;
    let kept: Vec<_> = PROMISES.iter().filter(|promise| promise.name() != "empty_frames_are_bounded_too").collect();
    assert_eq!(kept.len() + 1, PROMISES.len());
    println!("skipped: empty_frames_are_bounded_too: the webrtc crate bounds bytes only");
    let next = &AtomicUsize::new(0);
    let broken: Vec<String> = std::thread::scope(|scope| {
        let threads = (0..PARALLEL).map(|_| {
            let (kept, fixture) = (&kept, &fixture);
            scope.spawn(move || {
                let mut broken = Vec::new();
                while let Some(promise) = kept.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let fixture = fixture();
                    let deadline = fixture.limits().deadline;
                    if let Err(why) = runtime.block_on(promise.test(&fixture, deadline)) {
                        broken.push(format!("{}: {why}", promise.name()));
                    }
                }
                broken
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_shell_keeps_the_contract() {
    conforms(|| TransportFixture::new(shell()));
}

#[test]
fn both_together_keep_the_contract() {
    conforms(|| TransportFixture::mixed(own(), shell()));
}

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
