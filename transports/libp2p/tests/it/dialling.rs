use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use byway_api::{Bytes, CloseCode, Incoming, Received, SignalAddress, Transport as _, TransportErrorKind as Kind};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{bind, context, loopback, peer, soon, with};

#[tokio::test]
async fn addresses_and_key_are_enough_and_the_peer_is_proven() {
    let (ann, bob) = (bind(&loopback(), 1).await, bind(&loopback(), 2).await);
    let (near, far) = ann.connect(&bob).await;
    assert_eq!((near.peer(), far.peer()), (Some(bob.peer), Some(ann.peer)));
    assert_eq!(near.binding(), far.binding());
    assert_eq!(near.path().remote, bob.socket());
    near.send(Bytes::from_static(b"hi")).await.unwrap();
    assert_eq!(soon("a frame", far.recv()).await.unwrap(), Received::Frame(Bytes::from_static(b"hi")));
    let named = SignalAddress::new(&format!("{}/p2p/{}", bob.address, bob.peer)).unwrap();
    let (again, _) = tokio::join!(ann.endpoint.dial(bob.peer, &named), bob.accept());
    again.unwrap();
    ann.close().await;
    bob.close().await;
}

#[tokio::test]
async fn another_device_at_the_address_is_a_failed_handshake() {
    let (ann, bob) = (bind(&loopback(), 1).await, bind(&loopback(), 2).await);
    let failed = soon("the end of a dial", ann.endpoint.dial(peer(3), &bob.address)).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Handshake, "{failed}");
    let named = SignalAddress::new(&format!("{}/p2p/{}", bob.address, bob.peer)).unwrap();
    let failed = ann.endpoint.dial(peer(3), &named).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::BadAddress, "{failed}");
    let failed = ann.endpoint.dial(ann.peer, &ann.address).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::BadAddress, "{failed}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses_at_once() {
    let ann = bind(&loopback(), 1).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("libp2p:/ip4/127.0.0.1/tcp/{}", free.local_addr().unwrap().port());
    drop(free);
    let failed = soon("a refusal", ann.endpoint.dial(peer(2), &to.parse().unwrap())).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Refused, "{failed}");
}

#[tokio::test]
async fn somebody_who_says_nothing_is_given_up_in_time() {
    let ann = bind(&with(|config| config.connect_timeout = Duration::from_millis(50)), 1).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: SignalAddress =
        format!("libp2p:/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let (failed, accepted) = tokio::join!(ann.endpoint.dial(peer(2), &to), silent.accept());
    assert_eq!(failed.unwrap_err().kind(), Kind::Timeout);
    let mut rest = Vec::new();
    soon("the end of the socket", accepted.unwrap().0.read_to_end(&mut rest)).await.unwrap();
}

/// The deadline of a dial is ten seconds, longer than anything here waits.
#[tokio::test]
async fn a_dropped_dial_closes_its_socket_at_once() {
    let ann = bind(&with(|config| config.connect_timeout = Duration::from_secs(3_600)), 1).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: SignalAddress =
        format!("libp2p:/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let mut accepted = {
        let dial = ann.endpoint.dial(peer(2), &to);
        tokio::select! {
            dialled = dial => panic!("nobody answers: {dialled:?}"),
            accepted = silent.accept() => accepted.unwrap().0,
        }
    };
    let mut rest = Vec::new();
    soon("the end of the socket", accepted.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_of_dials_is_refused_loudly() {
    const ROOM: usize = 4;
    let ann = bind(&with(|config| config.dial_queue = ROOM), 1).await;
    let bob = bind(&loopback(), 2).await;
    // The endpoint's task does not run between these polls: there is one thread.
    let mut dials: Vec<_> = (0..=ROOM).map(|_| ann.endpoint.dial(bob.peer, &bob.address)).collect();
    let polled: Vec<_> = poll_fn(|cx| Poll::Ready(dials.iter_mut().map(|dial| dial.as_mut().poll(cx)).collect())).await;
    assert!(polled[..ROOM].iter().all(Poll::is_pending));
    match &polled[ROOM] {
        Poll::Ready(Err(e)) => assert_eq!(e.kind(), Kind::Busy, "{e}"),
        other => panic!("{other:?}"),
    }
    drop(polled);
    dials.pop();
    let (first, _far) = tokio::join!(soon("a dial that had room", dials.remove(0)), bob.accept());
    first.unwrap();
}

#[tokio::test]
async fn more_connections_than_configured_are_refused_loudly() {
    let ann = bind(&with(|config| config.connections = 1), 1).await;
    let (bob, carol) = (bind(&loopback(), 2).await, bind(&loopback(), 3).await);
    let (near, far) = ann.connect(&bob).await;
    assert_eq!(ann.dial(&carol).await.unwrap_err().kind(), Kind::Busy);
    let refused = carol.dial(&ann).await.unwrap_err();
    assert!(matches!(refused.kind(), Kind::Refused | Kind::Handshake), "{refused}");
    near.close(CloseCode::NORMAL).await;
    assert_eq!(soon("the end", far.recv()).await.unwrap(), Received::Closed(CloseCode::NORMAL));
    // The place is free as soon as the socket is gone.
    let again = async {
        loop {
            match ann.endpoint.dial(carol.peer, &carol.address).await {
                Err(e) if e.kind() == Kind::Busy => tokio::task::yield_now().await,
                other => return other,
            }
        }
    };
    let (again, _) = tokio::join!(soon("a place", again), carol.accept());
    again.unwrap();
}

/// Both sides dial, again and again, with a start that differs by a random time, so that the dials cross in
/// every phase.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_that_cross_in_any_phase_make_one_connection() {
    let (ann, bob) = (bind(&loopback(), 1).await, bind(&loopback(), 2).await);
    let mut crossed = 0;
    for round in 0..200u64 {
        let delay = Duration::from_micros((round * 7_919) % 1_500);
        let late = async {
            tokio::time::sleep(delay).await;
            bob.endpoint.dial(ann.peer, &ann.address).await
        };
        let (one, other) =
            soon("two dials", async { tokio::join!(ann.endpoint.dial(bob.peer, &bob.address), late) }).await;
        match (one, other) {
            (Ok(near), Err(e)) => {
                assert_eq!(e.kind(), Kind::Superseded, "round {round}: {e}");
                crossed += 1;
                works(&near, &bob.accept().await).await;
            }
            (Err(e), Ok(near)) => {
                assert_eq!(e.kind(), Kind::Superseded, "round {round}: {e}");
                crossed += 1;
                works(&near, &ann.accept().await).await;
            }
            // The first was open before the second began, and does not stand in its way.
            (Ok(one), Ok(other)) => {
                let (at_bob, at_ann) = (bob.accept().await, ann.accept().await);
                works(&one, &at_bob).await;
                works(&other, &at_ann).await;
            }
            (Err(one), Err(other)) => panic!("round {round}: {one}; {other}"),
        }
    }
    assert!(crossed > 0, "no dials crossed");
    for device in [&ann, &bob] {
        let more = tokio::time::timeout(Duration::from_millis(100), device.endpoint.next()).await;
        assert!(!matches!(more, Ok(Some(Incoming::Connection(_)))), "a connection that no dial accounts for");
        device.close().await;
    }
}

async fn works(near: &std::sync::Arc<dyn byway_api::Connection>, far: &std::sync::Arc<dyn byway_api::Connection>) {
    assert_eq!(near.binding(), far.binding());
    near.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(soon("a frame", far.recv()).await.unwrap(), Received::Frame(Bytes::from_static(b"x")));
    near.close(CloseCode::NORMAL).await;
}

#[tokio::test]
async fn a_seed_is_needed_and_it_must_be_the_devices() {
    let without = byway_api::BindContext::new(peer(1), byway_api::NetworkId::new("test").unwrap());
    assert_eq!(loopback().bind(without).await.unwrap_err().kind(), Kind::Config);
    let mut anothers = context(1);
    anothers.me = peer(2);
    assert_eq!(loopback().bind(anothers).await.unwrap_err().kind(), Kind::Config);
}
