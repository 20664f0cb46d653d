use std::sync::Arc;
use std::time::Duration;

use byway_api::{Bytes, CloseCode, Received, TransportErrorKind as Kind};

use crate::support::{bind, loopback, soon, with};

/// Everything that `send` took arrives, however much is on the way, and then the code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_overtakes_nothing_that_is_in_flight() {
    let (ann, bob) = (bind(&loopback(), 1).await, bind(&loopback(), 2).await);
    for (length, frames) in [(0usize, 50_000u32), (100, 50_000), (1_000, 10_000), (65_536, 200)] {
        let (near, far) = ann.connect(&bob).await;
        let reading = tokio::spawn(async move {
            let mut got = 0u32;
            loop {
                match soon("a frame", far.recv()).await.unwrap() {
                    Received::Frame(frame) => {
                        assert_eq!(frame.len(), length);
                        if length >= 4 {
                            assert_eq!(frame[..4], got.to_be_bytes(), "in order");
                        }
                        got += 1;
                    }
                    Received::Closed(code) => return (got, code),
                    other => panic!("{other:?}"),
                }
            }
        });
        for number in 0..frames {
            let mut frame = vec![7; length];
            if length >= 4 {
                frame[..4].copy_from_slice(&number.to_be_bytes());
            }
            soon("room", near.send(frame.into())).await.unwrap();
        }
        near.close(CloseCode(77)).await;
        assert_eq!(soon("the end", reading).await.unwrap(), (frames, CloseCode(77)), "frames of {length} bytes");
    }
}

/// Both sides have sent and not read, and close at the same moment: neither waits for the other.
#[tokio::test]
async fn two_closes_at_once_do_not_wait_for_each_other() {
    let long = Duration::from_secs(3_600);
    let (ann, bob) = (bind(&with(|c| c.linger = long), 1).await, bind(&with(|c| c.linger = long), 2).await);
    let (near, far) = ann.connect(&bob).await;
    for connection in [&near, &far] {
        connection.send(Bytes::from(vec![1; 60_000])).await.unwrap();
    }
    soon("both closes", async { tokio::join!(near.close(CloseCode::NORMAL), far.close(CloseCode::LEAVING)) }).await;
    ann.close().await;
    bob.close().await;
}

/// The far side does not read, so not even the code can be written.
#[tokio::test]
async fn a_far_side_that_does_not_read_holds_nothing_up_for_longer_than_the_linger() {
    let linger = Duration::from_millis(50);
    let ann = bind(&with(|config| config.linger = linger), 1).await;
    let bob = bind(&with(|config| config.receive_buffer = 1), 2).await;
    let (near, far) = ann.connect(&bob).await;
    let filling = {
        let near = Arc::clone(&near);
        tokio::spawn(async move {
            loop {
                if let Err(e) = near.send(Bytes::from(vec![1; 60_000])).await {
                    return e.kind();
                }
            }
        })
    };
    // Nothing tells from outside that the stream is full; a third of a second fills it many times over.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!filling.is_finished());
    let start = std::time::Instant::now();
    soon("a close", near.close(CloseCode::NORMAL)).await;
    assert!(start.elapsed() >= linger, "it waited for the far side");
    assert_eq!(soon("the end of a send", filling).await.unwrap(), Kind::Closed);
    let rest = async {
        loop {
            if let Received::Closed(code) = far.recv().await.unwrap() {
                return code;
            }
        }
    };
    assert_eq!(soon("the end", rest).await, CloseCode::LOST);
}

/// The process of the far side is gone: its socket is closed, and no code was written.
#[tokio::test]
async fn an_endpoint_that_is_dropped_loses_its_connections() {
    let (ann, bob) = (bind(&loopback(), 1).await, bind(&loopback(), 2).await);
    let (near, far) = ann.connect(&bob).await;
    far.send(Bytes::from_static(b"last words")).await.unwrap();
    assert_eq!(soon("a frame", near.recv()).await.unwrap(), Received::Frame(Bytes::from_static(b"last words")));
    drop(bob);
    assert_eq!(soon("the end", near.recv()).await.unwrap(), Received::Closed(CloseCode::LOST));
    assert_eq!(near.send(Bytes::new()).await.unwrap_err().kind(), Kind::Closed);
    drop(far);
}
