//! Connections over loopback: frames, ends, bindings.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{BindingKind, CloseCode, Endpoint, PathKind, Transport as _, TransportErrorKind};
use support::*;

#[tokio::test]
async fn connects_and_echoes() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    here.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(frame(&*there).await, "hello");
    there.send(Bytes::from_static(b"world")).await.unwrap();
    assert_eq!(frame(&*here).await, "world");
    assert_eq!(here.path().kind, PathKind::Direct);
    assert_eq!(here.path().local, there.path().remote);
    assert_eq!(here.path().remote, there.path().local);
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn frames_of_every_size_keep_their_order() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let max = local().caps().max_frame;
    let sizes = [0, 1, 0, 1199, 1200, 16_384, max, 0, max, 3];
    for (n, size) in sizes.into_iter().enumerate() {
        here.send(Bytes::from(vec![n as u8; size])).await.unwrap();
    }
    for (n, size) in sizes.into_iter().enumerate() {
        assert_eq!(frame(&*there).await, vec![n as u8; size], "frame {n}");
    }
    let refused = here.send(Bytes::from(vec![0; max + 1])).await.unwrap_err();
    assert_eq!(refused.kind(), TransportErrorKind::TooLarge);
    here.send(Bytes::from_static(b"still alive")).await.unwrap();
    assert_eq!(frame(&*there).await, "still alive");
}

#[tokio::test]
async fn both_sides_have_one_binding_and_every_connection_its_own() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        assert_eq!(here.binding(), there.binding());
        assert_eq!(here.binding().kind, BindingKind::DtlsCertificates);
        assert_eq!(here.binding().bytes.len(), 64);
        assert!(!seen.contains(&here.binding().bytes));
        seen.push(here.binding().bytes);
        here.close(CloseCode::NORMAL).await;
    }
}

#[tokio::test]
async fn close_codes_reach_the_far_side_behind_the_frames() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    for (code, dialler_closes) in [(CloseCode::LEAVING, true), (CloseCode::FULL, false), (CloseCode(4711), true)] {
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        let (closer, other) = if dialler_closes { (here, there) } else { (there, here) };
        for n in 0..500u32 {
            closer.send(Bytes::copy_from_slice(&n.to_be_bytes())).await.unwrap();
        }
        let (closer_task, read) = (Arc::clone(&closer), async {
            for n in 0..500u32 {
                assert_eq!(frame(&*other).await, &n.to_be_bytes()[..]);
            }
            closed(&*other).await
        });
        let ((), seen) = tokio::join!(within(closer_task.close(code)), read);
        assert_eq!(seen, code);
        assert_eq!(closed(&*other).await, code, "and nothing else after it");
        for ended in [&closer, &other] {
            let e = ended.send(Bytes::from_static(b"late")).await.unwrap_err();
            assert_eq!(e.kind(), TransportErrorKind::Closed);
        }
        assert_eq!(closed(&*closer).await, code);
        closer.close(CloseCode::NORMAL).await;
    }
    until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_that_was_sent_before_the_close() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    for n in 0..10u8 {
        here.send(Bytes::from(vec![n; 65_536])).await.unwrap();
    }
    here.close(CloseCode::NORMAL).await;
    for n in 0..10u8 {
        assert_eq!(frame(&*there).await, vec![n; 65_536]);
    }
    assert_eq!(closed(&*there).await, CloseCode::NORMAL);
}

#[tokio::test]
async fn dropping_the_last_handle_closes_as_lost() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    drop(here);
    assert_eq!(closed(&*there).await, CloseCode::LOST);
    until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
}

#[tokio::test]
async fn closing_the_endpoint_ends_its_connections_and_releases_everything() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    within(a.close()).await;
    assert_eq!(closed(&*there).await, CloseCode::LEAVING);
    assert_eq!(closed(&*here).await, CloseCode::LEAVING);
    assert!(within(a.next()).await.is_none());
    assert!(within(a.next()).await.is_none());
    let stats = a.stats();
    assert!(is_idle(&stats), "{stats:?}");
    assert_eq!((stats.sockets, stats.tasks, stats.accept_queue), (0, 0, 0));
    let e = a.dial(peer(2), &at(peer(2))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Closed);
    within(a.close()).await;
    within(b.close()).await;
}

#[tokio::test]
async fn a_writer_waits_for_a_reader_and_nothing_is_lost() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let payload = Bytes::from(vec![7; 32 * 1024]);
    let mut sent = 0u32;
    // until the windows of both sides are full
    while tokio::time::timeout(Duration::from_millis(300), here.send(payload.clone())).await.is_ok() {
        sent += 1;
        assert!(sent < 2_000, "64 MB are on their way and the writer does not wait");
    }
    assert!(sent >= 32, "only {sent} frames fit");
    let reader = async {
        for _ in 0..sent {
            assert_eq!(frame(&*there).await.len(), payload.len());
        }
    };
    reader.await;
    // the one that was waiting may or may not have gone; the channel lives on either way
    here.send(Bytes::from_static(b"on")).await.unwrap();
    while frame(&*there).await != "on" {}
}

#[tokio::test]
async fn empty_frames_are_bounded_and_arrive() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let writer = async {
        for _ in 0..40_000 {
            here.send(Bytes::new()).await.unwrap();
        }
    };
    let reader = async {
        for _ in 0..40_000 {
            assert!(frame(&*there).await.is_empty());
        }
    };
    within(async { tokio::join!(writer, reader) }).await;
}

/// SCTP numbers its messages with 16 bits. With more than 32,767 tiny frames unread, the stack took
/// new ones for old ones: they were acknowledged, dropped, and the connection stood still for ever.
#[tokio::test]
async fn tiny_frames_for_a_slow_reader_are_all_delivered() {
    for size in [0, 4] {
        let hub = Hub::default();
        let (a, b) = pair(&hub).await;
        let (here, there) = connect(&*a, &*b, peer(2)).await;
        let tiny = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes()[..size]);
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(300), here.send(tiny(sent))).await.is_ok() {
            sent += 1;
            assert!(sent < 200_000, "nobody reads, and the writer does not wait");
        }
        assert!(sent > 20_000, "only {sent} frames fit");
        for n in 0..sent {
            assert_eq!(frame(&*there).await, tiny(n), "frame {n} of {sent}");
        }
    }
}

#[tokio::test]
async fn throughput_in_both_directions_at_once() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let pump = |from: Arc<dyn byway_api::Connection>, to: Arc<dyn byway_api::Connection>| async move {
        let writer = async {
            for n in 0..2_000u32 {
                let mut bytes = vec![0; 1024];
                bytes[..4].copy_from_slice(&n.to_be_bytes());
                from.send(Bytes::from(bytes)).await.unwrap();
            }
        };
        let reader = async {
            for n in 0..2_000u32 {
                assert_eq!(frame(&*to).await[..4], n.to_be_bytes());
            }
        };
        tokio::join!(writer, reader);
    };
    within(async {
        tokio::join!(pump(Arc::clone(&here), Arc::clone(&there)), pump(there, here));
    })
    .await;
}
