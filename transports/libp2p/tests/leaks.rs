//! Nothing is left behind. Alone in its process, because it counts what the process holds.

#![allow(clippy::unwrap_used)]

mod support;

use std::future::poll_fn;
use std::task::Poll;

use byway_api::{CloseCode, Incoming, Received};
use support::{bind, loopback, soon, tasks, tasks_fall_to, with};

#[cfg(target_os = "linux")]
fn sockets() -> usize {
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    names
        .filter(|fd| {
            std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        })
        .count()
}

#[cfg(not(target_os = "linux"))]
fn sockets() -> usize {
    0
}

#[tokio::test]
async fn two_thousand_dials_and_drops_leave_nothing_behind() {
    const DIALS: usize = 2_000;
    let (tasks_before, sockets_before) = (tasks(), sockets());
    let ann = bind(&loopback(), 1).await;
    let bob = bind(&with(|config| config.connections_per_peer = 64), 2).await;
    let (idle, listening) = (tasks(), sockets());
    let (mut open, mut dropped) = (0, 0);
    for number in 0..DIALS {
        // Dropped after a different number of polls each time, so in every phase there is.
        let mut left = number % 40 + 1;
        let mut dial = ann.endpoint.dial(bob.peer, &bob.address);
        let dialled = poll_fn(|cx| match dial.as_mut().poll(cx) {
            Poll::Ready(dialled) => Poll::Ready(Some(dialled)),
            Poll::Pending if left == 1 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        });
        match soon("the end of a dial", dialled).await {
            Some(dialled) => {
                dialled.unwrap().close(CloseCode::NORMAL).await;
                open += 1;
            }
            None => dropped += 1,
        }
        drop(dial);
        while let Some(Incoming::Connection(ghost)) = at_hand(&*bob.endpoint).await {
            let end = soon("the end of a connection", ghost.recv()).await.unwrap();
            assert!(matches!(end, Received::Closed(_)), "{end:?}");
        }
    }
    assert!(open > 0 && dropped > 0, "{open} were open and {dropped} dropped");
    let last = async { while let Some(Incoming::Connection(_)) = at_hand(&*bob.endpoint).await {} };
    last.await;
    tasks_fall_to(idle).await;
    assert!(sockets() <= listening, "{} sockets instead of {listening}", sockets());

    let (near, far) = ann.connect(&bob).await;
    drop((near, far));
    ann.close().await;
    bob.close().await;
    tasks_fall_to(tasks_before).await;
    assert!(sockets() <= sockets_before, "{} sockets instead of {sockets_before}", sockets());
}

/// What `next` has at once.
async fn at_hand(endpoint: &dyn byway_api::Endpoint) -> Option<Incoming> {
    let mut next = endpoint.next();
    poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(next) => Poll::Ready(next),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
