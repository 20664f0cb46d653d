//! The server's rules, over an in-memory socket.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{PeerId, Prover};
use byway_socket::{Arrival, Closed, Device, Hub, HubConfig, Packet, Routed, SignalBus};
use byway_wire::{SocketErrorCode, SocketFrame, SocketStatus, limits};
use common::{attached, dial, dial_with, hub, mail, mail_of, network, pipe, someone};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::advance;

fn send(to: PeerId, text: &str, seq: u64) -> SocketFrame {
    SocketFrame::Send { to, envelope: mail(to, text), seq }
}

#[tokio::test]
async fn an_envelope_goes_to_the_attached_device_and_its_sender_is_told() {
    let (alice, bob, hub) = (someone(1), someone(2), hub(HubConfig::default()));
    let (mut a, _a) = attached(&hub, &alice).await;
    let (mut b, _b) = attached(&hub, &bob).await;
    a.say(&send(bob.peer(), "hi", 7)).await;
    assert_eq!(b.frame().await, Some(SocketFrame::From { from: alice.peer(), envelope: mail(bob.peer(), "hi") }));
    let ok = SocketFrame::Status { to: bob.peer(), status: SocketStatus::Ok, seq: 7 };
    assert_eq!(a.frame().await, Some(ok));
}

#[tokio::test]
async fn who_is_not_attached_is_no_such_peer() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (mut a, _task) = attached(&hub, &alice).await;
    let bob = someone(2).peer();
    a.say(&send(bob, "hi", 3)).await;
    let status = SocketFrame::Status { to: bob, status: SocketStatus::NoSuchPeer, seq: 3 };
    assert_eq!(a.frame().await, Some(status));
}

#[tokio::test]
async fn networks_do_not_mix() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (mut a, _task) = attached(&hub, &alice).await;
    let elsewhere = Device::new(byway_api::NetworkId::new("other").unwrap(), someone(2).peer());
    let _local = hub.local(elsewhere).unwrap();
    a.say(&send(someone(2).peer(), "hi", 1)).await;
    assert!(matches!(a.frame().await, Some(SocketFrame::Status { status: SocketStatus::NoSuchPeer, .. })));
}

#[tokio::test]
async fn a_device_of_this_process_sends_and_receives() {
    let (alice, me, hub) = (someone(1), someone(9), hub(HubConfig::default()));
    let local = hub.local(me.device()).unwrap();
    assert!(hub.local(me.device()).is_none(), "one place");
    let (mut a, _task) = attached(&hub, &alice).await;
    a.say(&send(me.peer(), "to you", 1)).await;
    assert_eq!(local.recv().await, Some((alice.peer(), mail(me.peer(), "to you"))));
    assert!(matches!(a.frame().await, Some(SocketFrame::Status { status: SocketStatus::Ok, seq: 1, .. })));
    assert_eq!(local.send(alice.peer(), mail(alice.peer(), "and back")).await, Routed::Delivered);
    assert_eq!(a.frame().await, Some(SocketFrame::From { from: me.peer(), envelope: mail(alice.peer(), "and back") }));
    assert_eq!(local.send(someone(3).peer(), mail(someone(3).peer(), "x")).await, Routed::NoSuchPeer);
    drop(local);
    assert!(!hub.is_attached(&me.device()));
}

#[tokio::test]
async fn a_socket_cannot_take_the_place_of_the_server_itself() {
    let (me, hub) = (someone(9), hub(HubConfig::default()));
    let _local = hub.local(me.device()).unwrap();
    let (mut end, task) = dial(&hub, me.peer());
    let Some(SocketFrame::Challenge { nonce, target }) = end.frame().await else { panic!() };
    end.say(&SocketFrame::Auth(me.prove("WS", &target, &nonce))).await;
    assert!(matches!(end.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::Unauthorized, .. })));
    assert!(matches!(task.await.unwrap().closed, Closed::Refused(_)));
}

async fn refused_with(claimed: PeerId, answer: impl FnOnce(&str, &str) -> SocketFrame) -> (SocketFrame, Closed) {
    let hub = hub(HubConfig::default());
    let (mut end, task) = dial(&hub, claimed);
    let Some(SocketFrame::Challenge { nonce, target }) = end.frame().await else { panic!("no challenge") };
    end.say(&answer(&nonce, &target)).await;
    let error = end.frame().await.unwrap();
    assert_eq!(end.frame().await, None, "closed behind it");
    let served = task.await.unwrap();
    assert_eq!(served.device, None);
    assert_eq!((hub.sockets(), hub.devices().len()), (0, 0));
    (error, served.closed)
}

fn is_unauthorized((frame, closed): &(SocketFrame, Closed)) -> bool {
    matches!(frame, SocketFrame::Error { code: SocketErrorCode::Unauthorized, .. })
        && matches!(closed, Closed::Refused(_))
}

#[tokio::test]
async fn a_proof_of_another_key_nonce_target_or_method_is_refused() {
    let (alice, mallory) = (someone(1), someone(6));
    let me = alice.peer();
    let key = refused_with(me, |nonce, target| SocketFrame::Auth(mallory.prove("WS", target, nonce))).await;
    let nonce = refused_with(me, |_, target| SocketFrame::Auth(alice.prove("WS", target, "nonce-0"))).await;
    let target = refused_with(me, |nonce, _| SocketFrame::Auth(alice.prove("WS", "ws://elsewhere/x", nonce))).await;
    let method = refused_with(me, |nonce, target| SocketFrame::Auth(alice.prove("GET", target, nonce))).await;
    let stolen = refused_with(me, |nonce, target| {
        let mut proof = mallory.prove("WS", target, nonce);
        proof.credential.clone_from(&alice.credential);
        SocketFrame::Auth(proof)
    })
    .await;
    for (what, case) in [("key", key), ("nonce", nonce), ("target", target), ("method", method), ("stolen", stolen)] {
        assert!(is_unauthorized(&case), "{what}: {case:?}");
    }
}

#[tokio::test]
async fn the_first_message_must_be_the_proof() {
    let alice = someone(1);
    let (frame, closed) = refused_with(alice.peer(), |_, _| send(alice.peer(), "x", 1)).await;
    assert!(matches!(frame, SocketFrame::Error { code: SocketErrorCode::Protocol, .. }), "{frame:?}");
    assert!(matches!(closed, Closed::Malformed(_)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_prove_anything_in_time_is_closed() {
    let hub = hub(HubConfig::default());
    let (mut end, task) = dial(&hub, someone(1).peer());
    assert!(matches!(end.frame().await, Some(SocketFrame::Challenge { .. })));
    assert_eq!(task.await.unwrap().closed, Closed::TooLate);
    assert_eq!(end.frame().await, None);
}

#[tokio::test]
async fn garbage_ends_the_socket_with_an_error() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    for garbage in [&b"\xff\xff\xff\xff"[..], b"{\"type\":\"offer\"}", b"\x1a\x02\x0a\x7f"] {
        let (mut a, task) = attached(&hub, &alice).await;
        a.send(Packet::Frame(Bytes::copy_from_slice(garbage))).await.unwrap();
        let answer = a.frame().await;
        assert!(matches!(answer, Some(SocketFrame::Error { code: SocketErrorCode::Protocol, .. })), "{answer:?}");
        assert!(matches!(task.await.unwrap().closed, Closed::Malformed(_)), "{garbage:?}");
    }
}

#[tokio::test]
async fn oversized_frames_and_envelopes_end_the_socket() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let frame = Bytes::from(vec![0; limits::SOCKET_FRAME_MAX + 1]);
    let envelope = mail_of(alice.peer(), limits::ENVELOPE_MAX + 1);
    let envelope = SocketFrame::Send { to: alice.peer(), envelope, seq: 1 }.encode();
    for big in [frame, envelope] {
        let (mut a, task) = attached(&hub, &alice).await;
        a.send(Packet::Frame(big)).await.unwrap();
        let answer = a.frame().await;
        assert!(matches!(answer, Some(SocketFrame::Error { .. })), "{answer:?}");
        assert!(!task.await.unwrap().closed.is_temporary());
    }
}

#[tokio::test]
async fn what_is_no_envelope_for_the_device_is_not_carried() {
    let (alice, bob, hub) = (someone(1), someone(2), hub(HubConfig::default()));
    let local = hub.local(bob.device()).unwrap();
    let (mut a, task) = attached(&hub, &alice).await;
    let misaddressed = mail(alice.peer(), "x");
    assert_eq!(local.send(someone(3).peer(), misaddressed.clone()).await, Routed::Refused);
    a.say(&SocketFrame::Send { to: bob.peer(), envelope: misaddressed, seq: 1 }).await;
    assert!(matches!(a.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::Protocol, .. })));
    assert!(matches!(task.await.unwrap().closed, Closed::Malformed(_)));
}

#[tokio::test(start_paused = true)]
async fn above_its_rate_a_socket_is_answered_busy_and_a_flood_ends_it() {
    let (alice, bob) = (someone(1), someone(2));
    let hub = hub(HubConfig::default());
    let local = hub.local(bob.device()).unwrap();
    let (mut a, task) = attached(&hub, &alice).await;
    let mut statuses = Vec::new();
    for seq in 1..=60 {
        a.say(&send(bob.peer(), "x", seq)).await;
        if let Some(SocketFrame::Status { status, .. }) = a.frame().await {
            statuses.push(status);
        }
        if statuses.last() == Some(&SocketStatus::Ok) {
            local.recv().await.unwrap();
        }
    }
    let ok = statuses.iter().filter(|s| **s == SocketStatus::Ok).count();
    assert_eq!((ok, statuses.len()), (40, 60), "the burst, then busy; every frame is answered");
    assert_eq!((hub.counts().delivered, hub.counts().busy), (40, 20));
    advance(Duration::from_secs(1)).await;
    a.say(&send(bob.peer(), "x", 61)).await;
    assert!(matches!(a.frame().await, Some(SocketFrame::Status { status: SocketStatus::Ok, .. })), "after a pause");
    for seq in 62..400 {
        if a.send(Packet::Frame(send(bob.peer(), "x", seq).encode())).await.is_err() {
            break;
        }
        while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(0), a.frame()).await {
            if let SocketFrame::Error { code, .. } = frame {
                assert_eq!(code, SocketErrorCode::RateLimited);
            }
        }
    }
    assert_eq!(task.await.unwrap().closed, Closed::Flood);
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_busy_for_others_and_then_closed() {
    let (slow, me) = (someone(1), someone(9));
    let hub = hub(HubConfig::default());
    let local = hub.local(me.device()).unwrap();
    let (mut end, task) = dial_with(&hub, slow.peer(), 2);
    end.attach(&slow).await;
    // Nobody reads `end` any more: two packets fit into the pipe, one write hangs, the rest waits.
    let mut delivered = 0;
    let refused = loop {
        match local.send(slow.peer(), mail(slow.peer(), "x")).await {
            Routed::Delivered => delivered += 1,
            other => break other,
        }
        tokio::task::yield_now().await;
        assert!(delivered < 1_000, "unbounded");
    };
    assert_eq!(refused, Routed::Busy);
    assert_eq!(task.await.unwrap().closed, Closed::Slow);
    assert_eq!(local.send(slow.peer(), mail(slow.peer(), "x")).await, Routed::NoSuchPeer);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_bounded_in_bytes_too() {
    let (slow, me) = (someone(1), someone(9));
    let hub = hub(HubConfig::default());
    let local = hub.local(me.device()).unwrap();
    let (mut end, _task) = dial_with(&hub, slow.peer(), 2);
    end.attach(&slow).await;
    let big = mail_of(slow.peer(), limits::ENVELOPE_MAX);
    let mut delivered = 0;
    while local.send(slow.peer(), big.clone()).await == Routed::Delivered {
        delivered += 1;
        tokio::task::yield_now().await;
        assert!(delivered < 10, "256 KiB hold four of 60 KiB, besides the few on their way");
    }
}

#[tokio::test]
async fn a_newer_socket_takes_the_place_of_the_older() {
    let (alice, me, hub) = (someone(1), someone(9), hub(HubConfig::default()));
    let local = hub.local(me.device()).unwrap();
    let (mut older, task) = attached(&hub, &alice).await;
    let (mut newer, _task) = attached(&hub, &alice).await;
    assert!(matches!(older.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::Superseded, .. })));
    let served = task.await.unwrap();
    assert_eq!((served.closed, served.device), (Closed::Replaced, Some(alice.device())));
    // The end of the older one must not free the place of the newer one.
    assert!(hub.is_attached(&alice.device()));
    assert_eq!(local.send(alice.peer(), mail(alice.peer(), "x")).await, Routed::Delivered);
    assert!(matches!(newer.frame().await, Some(SocketFrame::From { .. })));
}

#[tokio::test]
async fn sockets_are_bounded_and_a_replacement_needs_no_room() {
    let mut config = HubConfig::default();
    config.max_sockets = 2;
    let hub = hub(config);
    let (_a, _ta) = attached(&hub, &someone(1)).await;
    let (_b, _tb) = attached(&hub, &someone(2)).await;
    let (mut c, task) = dial(&hub, someone(3).peer());
    let Some(SocketFrame::Challenge { nonce, target }) = c.frame().await else { panic!() };
    c.say(&SocketFrame::Auth(someone(3).prove("WS", &target, &nonce))).await;
    assert!(matches!(c.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::Full, .. })));
    assert_eq!(task.await.unwrap().closed, Closed::Full);
    let (_again, _t) = attached(&hub, &someone(1)).await;
}

#[tokio::test]
async fn sockets_that_prove_nothing_are_bounded_per_address() {
    let hub = hub(HubConfig::default());
    let mut open = Vec::new();
    let come = |ip: &str| {
        let (here, there) = pipe(16);
        let mut arrival = Arrival::new(someone(1).peer());
        arrival.from = Some(ip.parse().unwrap());
        let hub = hub.clone();
        (here, tokio::spawn(async move { hub.serve(there, arrival).await }))
    };
    for _ in 0..limits::HALF_OPEN_PER_IP {
        let (mut end, task) = come("192.0.2.1");
        assert!(matches!(end.frame().await, Some(SocketFrame::Challenge { .. })));
        open.push((end, task));
    }
    let (mut end, _task) = come("192.0.2.1");
    assert!(matches!(end.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::Full, .. })));
    for ip in ["192.0.2.2", "127.0.0.1"] {
        let (mut end, task) = come(ip);
        assert!(matches!(end.frame().await, Some(SocketFrame::Challenge { .. })), "{ip}");
        open.push((end, task));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_socket_is_pinged_and_then_dropped() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (mut a, task) = attached(&hub, &alice).await;
    assert_eq!(a.next().await, Some(Ok(Packet::Ping)));
    a.send(Packet::Pong).await.unwrap();
    for _ in 0..2 {
        assert_eq!(a.next().await, Some(Ok(Packet::Ping)));
    }
    assert_eq!(task.await.unwrap().closed, Closed::Silent);
    assert!(!hub.is_attached(&alice.device()));
}

#[tokio::test]
async fn closing_ends_every_socket_and_waits_for_it() {
    let hub = hub(HubConfig::default());
    let local = hub.local(someone(9).device()).unwrap();
    let (mut a, ta) = attached(&hub, &someone(1)).await;
    let (mut half, th) = dial(&hub, someone(2).peer());
    assert!(matches!(half.frame().await, Some(SocketFrame::Challenge { .. })));
    hub.close().await;
    assert_eq!(hub.sockets(), 0);
    assert_eq!(ta.await.unwrap().closed, Closed::Stopping);
    assert_eq!(th.await.unwrap().closed, Closed::Stopping);
    assert!(matches!(a.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::ShuttingDown, .. })));
    assert_eq!(local.recv().await, None);
    let (mut late, _t) = dial(&hub, someone(3).peer());
    assert!(matches!(late.frame().await, Some(SocketFrame::Error { code: SocketErrorCode::ShuttingDown, .. })));
    hub.close().await;
}

#[tokio::test]
async fn a_dropped_socket_frees_its_place() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (a, task) = attached(&hub, &alice).await;
    drop(a);
    assert!(matches!(task.await.unwrap().closed, Closed::Remote | Closed::Lost(_)));
    assert_eq!((hub.sockets(), hub.is_attached(&alice.device())), (0, false));
    let (_end, task) = attached(&hub, &alice).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!((hub.sockets(), hub.is_attached(&alice.device())), (0, false));
}

#[tokio::test]
async fn an_appointment_reaches_the_device() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (mut a, _task) = attached(&hub, &alice).await;
    assert_eq!(hub.appoint(&alice.device()), Routed::Delivered);
    assert_eq!(a.frame().await, Some(SocketFrame::Appoint));
    assert_eq!(hub.appoint(&someone(2).device()), Routed::NoSuchPeer);
}

/// A bus of two hubs: what one does not know goes to the other.
#[derive(Debug)]
struct TwoHubs {
    other: Arc<std::sync::OnceLock<Hub>>,
    seen: mpsc::Sender<(Device, bool)>,
}

#[byway_api::async_trait]
impl SignalBus for TwoHubs {
    fn attached(&self, device: &Device, _: u64) {
        self.seen.try_send((device.clone(), true)).unwrap();
    }
    fn detached(&self, device: &Device, _: u64) {
        self.seen.try_send((device.clone(), false)).unwrap();
    }
    async fn route(&self, to: &Device, from: PeerId, envelope: Bytes) -> Routed {
        match self.other.get().unwrap().deliver(to, from, envelope) {
            Routed::Delivered => Routed::Forwarded,
            other => other,
        }
    }
}

#[tokio::test]
async fn a_bus_joins_two_hubs() {
    let (seen, mut events) = mpsc::channel(16);
    let (left_cell, right_cell) = (Arc::default(), Arc::default());
    let make = |other: &Arc<std::sync::OnceLock<Hub>>| {
        let bus = TwoHubs { other: Arc::clone(other), seen: seen.clone() };
        Hub::with_bus(HubConfig::default(), Arc::new(common::TestGate::default()), Arc::new(bus))
    };
    let (left, right) = (make(&right_cell), make(&left_cell));
    left_cell.set(left.clone()).unwrap();
    right_cell.set(right.clone()).unwrap();
    let (alice, bob) = (someone(1), someone(2));
    let (mut a, _ta) = attached(&left, &alice).await;
    let (mut b, tb) = attached(&right, &bob).await;
    a.say(&send(bob.peer(), "far", 1)).await;
    assert_eq!(b.frame().await, Some(SocketFrame::From { from: alice.peer(), envelope: mail(bob.peer(), "far") }));
    assert!(matches!(a.frame().await, Some(SocketFrame::Status { status: SocketStatus::Ok, .. })));
    drop(b);
    tb.await.unwrap();
    let mut log = Vec::new();
    while let Ok(event) = events.try_recv() {
        log.push(event);
    }
    assert_eq!(log, [(alice.device(), true), (bob.device(), true), (bob.device(), false)]);
    assert_eq!(network(), alice.device().network);
}
