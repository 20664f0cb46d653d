//! Attempts: who wins, who gives up, what is refused, and that nothing stays behind.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{CloseCode, Endpoint, Incoming, Signal, SignalAddress, SignalKind, TransportErrorKind};
use byway_transport_webrtc::{Config, WebRtc};
use support::*;

fn with(change: impl FnOnce(&mut Config)) -> WebRtc {
    let mut config = local().config().clone();
    change(&mut config);
    WebRtc::new(config)
}

#[tokio::test]
async fn when_both_dial_the_smaller_id_wins() {
    let hub = Hub::default();
    let often = with(|config| config.offer_burst = 100);
    let (a, b) = (open(&often, &hub, peer(1)).await, open(&often, &hub, peer(2)).await);
    for _ in 0..10 {
        let offers = hub.count(SignalKind::Offer);
        // both OFFERs are on their way before either arrives
        hub.rule(|_, _, signal| if signal.kind == SignalKind::Offer { Fate::Hold } else { Fate::Deliver });
        let (to_a, to_b) = (at(peer(1)), at(peer(2)));
        let release = async {
            hub.sent(SignalKind::Offer, offers + 2).await;
            hub.release();
        };
        let (won, lost, accepted, ()) =
            within(async { tokio::join!(a.dial(peer(2), &to_b), b.dial(peer(1), &to_a), accept(&*b), release) }).await;
        let won = won.unwrap();
        assert_eq!(lost.unwrap_err().kind(), TransportErrorKind::Superseded);
        won.send(Bytes::from_static(b"one")).await.unwrap();
        assert_eq!(frame(&*accepted).await, "one");
        assert_eq!(won.binding(), accepted.binding());
        assert_eq!((a.stats().connections, b.stats().connections), (1, 1));
        won.close(CloseCode::NORMAL).await;
        until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
    }
}

#[tokio::test]
async fn the_winner_repeats_an_offer_that_was_lost() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let first = AtomicUsize::new(0);
    hub.rule(move |from, _, signal| {
        let lost = from == peer(1) && signal.kind == SignalKind::Offer && first.fetch_add(1, Ordering::SeqCst) == 0;
        if lost { Fate::Drop } else { Fate::Deliver }
    });
    let (to_a, to_b) = (at(peer(1)), at(peer(2)));
    let second = async {
        hub.sent(SignalKind::Offer, 1).await;
        b.dial(peer(1), &to_a).await
    };
    let (won, lost, _accepted) = within(async { tokio::join!(a.dial(peer(2), &to_b), second, accept(&*b)) }).await;
    assert!(won.is_ok());
    assert_eq!(lost.unwrap_err().kind(), TransportErrorKind::Superseded);
}

#[tokio::test]
async fn a_dial_while_the_peers_offer_is_answered_is_superseded() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    hub.rule(|_, _, signal| if signal.kind == SignalKind::Answer { Fate::Hold } else { Fate::Deliver });
    let (to_a, to_b) = (at(peer(1)), at(peer(2)));
    let second = async {
        hub.sent(SignalKind::Answer, 1).await;
        let refused = a.dial(peer(2), &to_b).await.unwrap_err();
        hub.release();
        refused
    };
    let (dialled, refused, _) = within(async { tokio::join!(b.dial(peer(1), &to_a), second, accept(&*a)) }).await;
    assert!(dialled.is_ok());
    assert_eq!(refused.kind(), TransportErrorKind::Superseded);
}

#[tokio::test]
async fn a_dropped_dial_leaves_nothing_on_either_side() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let to_b = at(peer(2));
    // at every stage: before and after the OFFER arrived, and once it was answered
    for (hold, seen) in [(SignalKind::Offer, SignalKind::Offer), (SignalKind::Answer, SignalKind::Answer)] {
        let (before, byes) = (hub.count(seen), hub.count(SignalKind::Bye));
        hub.rule(move |_, _, signal| if signal.kind == hold { Fate::Hold } else { Fate::Deliver });
        tokio::select! {
            result = a.dial(peer(2), &to_b) => panic!("connected: {result:?}"),
            () = hub.sent(seen, before + 1) => {}
        }
        assert!(is_idle(&a.stats()), "{:?}", a.stats());
        hub.sent(SignalKind::Bye, byes + 1).await;
        if hold == SignalKind::Answer {
            until("the Bye ends it there too", || is_idle(&b.stats())).await;
        }
        hub.release();
    }
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    here.send(Bytes::from_static(b"fine")).await.unwrap();
    assert_eq!(frame(&*there).await, "fine");
}

#[tokio::test]
async fn nobody_answers() {
    let hub = Hub::default();
    let transport = with(|config| config.connect_timeout = Duration::from_millis(300));
    let a = open(&transport, &hub, peer(1)).await;
    let b = open(&transport, &hub, peer(2)).await;
    hub.rule(|_, _, signal| if signal.kind == SignalKind::Answer { Fate::Drop } else { Fate::Deliver });
    let e = within(a.dial(peer(2), &at(peer(2)))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Timeout);
    hub.rule(|_, _, _| Fate::Refuse);
    let e = within(a.dial(peer(2), &at(peer(2)))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Signaling);
    until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
}

#[tokio::test]
async fn an_address_that_carries_no_signals_is_refused() {
    let hub = Hub::default();
    let (a, _b) = pair(&hub).await;
    let e = a.dial(peer(2), &SignalAddress::new("mem:4").unwrap()).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::BadAddress);
}

/// The certificate of the far side is not the one that its description named: someone stands
/// between, or the description was altered.
#[tokio::test]
async fn a_wrong_fingerprint_never_opens() {
    for tampered in [SignalKind::Offer, SignalKind::Answer] {
        let hub = Hub::default();
        let transport = with(|config| config.connect_timeout = Duration::from_secs(3));
        let a = open(&transport, &hub, peer(1)).await;
        let b = open(&transport, &hub, peer(2)).await;
        hub.rule(move |_, _, signal| {
            if signal.kind != tampered {
                return Fate::Deliver;
            }
            let mut body = String::from_utf8(signal.body.to_vec()).unwrap();
            let digits = body.find("sha-256 ").unwrap() + "sha-256 ".len();
            let other = if &body[digits..digits + 2] == "00" { "11" } else { "00" };
            body.replace_range(digits..digits + 2, other);
            Fate::Replace(body.into())
        });
        let to_b = at(peer(2));
        tokio::select! {
            result = within(a.dial(peer(2), &to_b)) => {
                let kind = result.unwrap_err().kind();
                assert!(matches!(kind, TransportErrorKind::Handshake | TransportErrorKind::Timeout), "{kind:?}");
            }
            incoming = b.next() => panic!("accepted {incoming:?}"),
        }
        until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
        assert_eq!(b.stats().accept_queue, 0);
    }
}

#[tokio::test]
async fn signals_may_come_twice() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    hub.rule(|_, _, _| Fate::Twice);
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    here.send(Bytes::from_static(b"once")).await.unwrap();
    assert_eq!(frame(&*there).await, "once");
    assert_eq!((b.stats().connections, b.stats().attempts), (1, 0));
}

#[tokio::test]
async fn offers_are_limited() {
    let hub = Hub::default();
    let b = open(&with(|config| config.offer_burst = 4), &hub, peer(2)).await;
    let a = open(&with(|config| config.connect_timeout = Duration::from_secs(30)), &hub, peer(1)).await;
    let sample = sample_offer(&hub, &a).await;
    let byes = hub.count(SignalKind::Bye);
    // somebody takes the answers
    let _ports: Vec<_> = (100..110).map(|from| hub.port(peer(from))).collect();
    let offer = |from: u32, n: u32| {
        let session = Bytes::copy_from_slice(&[from.to_be_bytes(), n.to_be_bytes()].concat());
        hub.inject(peer(from), peer(2), Signal { session, ..sample.clone() });
    };
    // one device: its burst, and no more
    (0..10).for_each(|n| offer(100, n));
    until("the rest is refused", || b.stats().refused_offers == 6).await;
    assert_eq!(b.stats().sessions, 4);
    // all devices: 16, and the others are told
    (101..110).for_each(|from| (0..4).for_each(|n| offer(from, n)));
    until("the rest is refused", || b.stats().refused_offers == 6 + 24).await;
    assert_eq!(b.stats().sessions, 16);
    hub.sent(SignalKind::Bye, byes + 24).await;
    within(b.close()).await;
    assert!(is_idle(&b.stats()));
}

/// An OFFER of `a`, which then gave up.
async fn sample_offer(hub: &Hub, a: &Arc<byway_transport_webrtc::WebRtcEndpoint>) -> Signal {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    hub.rule(move |_, _, signal| {
        if signal.kind == SignalKind::Offer {
            sender.send(signal.clone()).unwrap();
        }
        Fate::Drop
    });
    let offers = hub.count(SignalKind::Offer);
    let address = at(peer(2));
    tokio::select! {
        _ = a.dial(peer(2), &address) => panic!("connected"),
        () = hub.sent(SignalKind::Offer, offers + 1) => {}
    }
    hub.sent(SignalKind::Bye, 1).await;
    hub.release();
    receiver.recv().unwrap()
}

#[tokio::test]
async fn malformed_signals_change_nothing() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let sample = sample_offer(&hub, &a).await;
    let good = sample.body.clone();
    let mut bodies: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"\x01"),
        Bytes::from_static(b"\x01hello"),
        Bytes::from_static(b"\x02v=0"),
        Bytes::from(vec![1; 16 * 1024]),
        Bytes::from([&b"\x01"[..], "v=0\r\n".repeat(1000).as_bytes()].concat()),
    ];
    bodies.extend((0..good.len()).step_by(37).map(|cut| good.slice(..cut)));
    let mut session = 0u32;
    for kind in [SignalKind::Offer, SignalKind::Answer, SignalKind::Candidate, SignalKind::Bye] {
        for body in &bodies {
            session += 1;
            let from = peer(1000 + session);
            let _ = hub.port(from);
            let session = Bytes::copy_from_slice(&session.to_be_bytes());
            hub.inject(from, peer(2), Signal { kind, session, body: body.clone(), transport: "webrtc".into() });
        }
    }
    for (session, transport) in [(&b""[..], "webrtc"), (&[1; 17], "webrtc"), (&[1; 16], "other")] {
        let session = Bytes::copy_from_slice(session);
        hub.inject(peer(1), peer(2), Signal { session, transport: transport.into(), ..sample.clone() });
    }
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    here.send(Bytes::from_static(b"unharmed")).await.unwrap();
    assert_eq!(frame(&*there).await, "unharmed");
}

/// A device was killed and came back at the same address: its old connection, of which the other
/// side knows nothing bad yet, must not keep it out.
#[tokio::test]
async fn a_restarted_peer_does_not_lose_to_its_own_corpse() {
    let hub = Hub::default();
    let wire = Wire::lay(&hub).await;
    let b = open(&local(), &hub, peer(2)).await;
    let quick = with(|config| config.linger = Duration::from_millis(10));
    for it_dials in [true, false] {
        let a = open(&quick, &hub, peer(1)).await;
        let (_killed, corpse) = connect(&*a, &*b, peer(2)).await;
        // no word of its end reaches the other side
        wire.cut(true);
        a.close().await;
        wire.cut(false);
        assert_eq!(b.stats().connections, 1, "nobody has noticed");
        let a = open(&quick, &hub, peer(1)).await;
        let (here, there) = if it_dials { connect(&*a, &*b, peer(2)).await } else { connect(&*b, &*a, peer(1)).await };
        assert_eq!(closed(&*corpse).await, CloseCode::SUPERSEDED);
        here.send(Bytes::from_static(b"back")).await.unwrap();
        assert_eq!(frame(&*there).await, "back");
        assert_eq!(b.stats().connections, 1);
        here.close(CloseCode::NORMAL).await;
        until("nothing is left", || is_idle(&b.stats())).await;
        a.close().await;
    }
}

#[tokio::test]
async fn a_vanished_peer_is_lost_after_a_while() {
    let hub = Hub::default();
    let wire = Wire::lay(&hub).await;
    let transport = with(|config| {
        config.keepalive = Duration::from_millis(100);
        config.lost_after = Duration::from_millis(600);
        config.quiet_after = Duration::ZERO;
    });
    let a = open(&transport, &hub, peer(1)).await;
    let b = open(&transport, &hub, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    wire.cut(true);
    assert_eq!(closed(&*here).await, CloseCode::LOST);
    assert_eq!(closed(&*there).await, CloseCode::LOST);
    until("nothing is left", || is_idle(&a.stats()) && is_idle(&b.stats())).await;
}

#[tokio::test]
async fn a_second_dial_over_the_same_addresses_takes_over() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (old_here, old_there) = connect(&*a, &*b, peer(2)).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    assert_eq!(closed(&*old_here).await, CloseCode::SUPERSEDED);
    assert_eq!(closed(&*old_there).await, CloseCode::SUPERSEDED);
    here.send(Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(frame(&*there).await, "new");
    assert_eq!((a.stats().connections, b.stats().connections), (1, 1));
}

#[tokio::test]
async fn an_offer_that_leads_nowhere_costs_the_open_connection_nothing() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let (here, there) = connect(&*a, &*b, peer(2)).await;
    let answers = hub.count(SignalKind::Answer);
    hub.rule(|_, _, signal| if signal.kind == SignalKind::Answer { Fate::Drop } else { Fate::Deliver });
    let address = at(peer(2));
    tokio::select! {
        _ = a.dial(peer(2), &address) => panic!("connected"),
        () = hub.sent(SignalKind::Answer, answers + 1) => {}
    }
    here.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(frame(&*there).await, "still here");
}

/// Once, a dial failed when the peer accepted, spoke and closed before the dialling task had run.
#[tokio::test]
async fn what_was_said_before_a_quick_close_can_be_read() {
    let hub = Hub::default();
    let (a, b) = pair(&hub).await;
    let answer = async {
        let there = accept(&*b).await;
        there.send(Bytes::from_static(b"no")).await.unwrap();
        there.close(CloseCode::REFUSED).await;
    };
    let address = at(peer(2));
    let dial = async {
        let here = within(a.dial(peer(2), &address)).await.unwrap();
        assert_eq!(frame(&*here).await, "no");
        assert_eq!(closed(&*here).await, CloseCode::REFUSED);
    };
    // the answerer runs first whenever both can
    tokio::select! { biased; ((), ()) = async { tokio::join!(answer, dial) } => {} }
}

#[tokio::test]
async fn the_accept_queue_is_bounded() {
    let hub = Hub::default();
    let b = open(&with(|config| config.accept_queue = 2), &hub, peer(2)).await;
    let mut dialled = Vec::new();
    for n in 10..12 {
        let a = open(&local(), &hub, peer(n)).await;
        let connection = within(a.dial(peer(2), &at(peer(2)))).await.unwrap();
        dialled.push((a, connection));
    }
    let surplus = open(&local(), &hub, peer(12)).await;
    let e = within(surplus.dial(peer(2), &at(peer(2)))).await.unwrap_err();
    assert_eq!(e.kind(), TransportErrorKind::Busy);
    assert_eq!(b.stats().accept_queue, 2);
    for _ in 0..2 {
        assert!(matches!(within(b.next()).await, Some(Incoming::Connection(_))));
    }
}
