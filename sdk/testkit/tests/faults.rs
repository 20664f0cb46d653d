//! Keeping devices apart, and delaying them, through public API only.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use byway_api::{Bytes, CloseCode, Connection, PeerId, Signal, SignalKind, SignalPort, Transport, TransportErrorKind};
use byway_testkit::delay::{DelayConfig, DelayedSignals, UdpDelayer};
use byway_testkit::faults::{Refusals, Refusing};
use byway_testkit::promise::Broken;
use byway_testkit::signals::{Fate, Switchboard, switchboard};
use byway_testkit::transport::{Pair, TransportFixture};
use byway_transport_memory::MemoryNetwork;
use support::signalled::{Fault, Signalled};
use tokio::time::Instant;

async fn kept_apart(pair: &Pair, refusals: &Refusals) -> Result<(), Broken> {
    let (open, open_far) = pair.connect().await?;
    refusals.refuse(pair.far.peer, pair.near.peer);
    pair.exchange(&*open, &*open_far).await?;
    for (from, to) in [(&pair.near, &pair.far), (&pair.far, &pair.near)] {
        let refused = from.endpoint.dial(to.peer, &to.address).await.unwrap_err();
        assert_eq!(refused.kind(), TransportErrorKind::Refused);
    }
    refusals.permit(pair.near.peer, pair.far.peer);
    let (near, far) = pair.connect().await?;
    pair.exchange(&*near, &*far).await
}

#[tokio::test(start_paused = true)]
async fn pairs_are_kept_apart_at_run_time() {
    let refusals = Refusals::new();
    let direct: Arc<dyn Transport> = Arc::new(MemoryNetwork::new().transport());
    let signalled: Arc<dyn Transport> = Arc::new(Signalled::new(&MemoryNetwork::new(), Fault::None));
    for transport in [direct, signalled] {
        let fixture = TransportFixture::new(Arc::new(Refusing::new(transport, &refusals)));
        for pair in fixture.pairs().await.unwrap() {
            kept_apart(&pair, &refusals).await.unwrap();
            pair.close().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_is_not_wrapped_is_refused_too() {
    let refusals = Refusals::new();
    let direct: Arc<dyn Transport> = Arc::new(MemoryNetwork::new().transport());
    let signalled: Arc<dyn Transport> = Arc::new(Signalled::new(&MemoryNetwork::new(), Fault::None));
    for (transport, by_signal) in [(direct, false), (signalled, true)] {
        let wrapped = Arc::new(Refusing::new(Arc::clone(&transport), &refusals));
        let [pair, _] = TransportFixture::mixed(transport, wrapped).pairs().await.unwrap();
        refusals.refuse(pair.near.peer, pair.far.peer);
        let dialled = pair.near.endpoint.dial(pair.far.peer, &pair.far.address).await;
        if by_signal {
            assert_eq!(dialled.unwrap_err().kind(), TransportErrorKind::Timeout, "the offer was dropped");
        } else {
            let accepted = pair.far.accept_if_any(&pair.limits).await;
            assert!(accepted.is_none(), "the connection does not come out of next");
            let end = pair.expect_end(&*dialled.unwrap(), "the refusal").await.unwrap();
            assert_eq!(end, CloseCode::REFUSED);
        }
    }
}

fn signal(number: u8) -> Signal {
    Signal {
        kind: SignalKind::Offer,
        session: Bytes::from(vec![number]),
        body: Bytes::from_static(b"a=candidate:1 1 udp 1 10.0.0.7 5000 typ host\r\n"),
        transport: "t".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn signals_are_lost_late_and_repeated_on_demand() {
    let (a, b) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    let board = switchboard();
    let (from, to) = (board.port(a, "t"), board.port(b, "t"));
    let late = Duration::from_secs(3);
    board.decide(move |sender, _, signal| {
        assert_eq!(sender, a);
        match signal.session[0] {
            0 => Fate::Lost,
            1 => Fate::Late(late),
            2 => Fate::Twice,
            _ => Fate::Arrives,
        }
    });
    let started = Instant::now();
    for number in 0..4 {
        from.send(b, &Switchboard::address(b), signal(number)).await.unwrap();
    }
    for (number, after) in [(2, Duration::ZERO), (2, Duration::ZERO), (3, Duration::ZERO), (1, late)] {
        let arrived = to.next().await.unwrap();
        assert_eq!((arrived.signal.session[0], arrived.from), (number, a));
        assert!(started.elapsed() >= after, "{number} came after {:?}", started.elapsed());
        assert_eq!(arrived.back, Switchboard::address(a));
    }
    assert_eq!(board.carried(), 4);
    drop(to);
    assert!(from.send(b, &Switchboard::address(b), signal(9)).await.is_err(), "a port that is gone is not reached");
}

#[tokio::test]
async fn candidates_become_fronts_of_the_delayer() {
    let (a, b) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
    let board = switchboard();
    let delayer = UdpDelayer::start(DelayConfig::new(Duration::from_millis(5))).unwrap();
    let fronts = delayer.clone();
    let from = DelayedSignals::new(board.port(a, "t"), move |real| fronts.front(real).unwrap());
    let to = board.port(b, "t");
    from.send(b, &Switchboard::address(b), signal(0)).await.unwrap();
    let front = delayer.front("10.0.0.7:5000".parse().unwrap()).unwrap();
    assert!(front.ip().is_loopback(), "10.0.0.7 is no address of this machine: {front}");
    let wanted = format!("a=candidate:1 1 udp 1 {} {} typ host\r\n", front.ip(), front.port());
    assert_eq!(to.next().await.unwrap().signal.body, wanted.as_bytes());
}

/// A handle is all that a dropped connection needs: the compiler checks that faults keep none.
#[tokio::test(start_paused = true)]
async fn a_refusing_transport_keeps_no_handle() {
    let transport: Arc<dyn Transport> = Arc::new(MemoryNetwork::new().transport());
    let fixture = TransportFixture::new(Arc::new(Refusing::new(transport, &Refusals::new())));
    let [pair, _] = fixture.pairs().await.unwrap();
    let (near, far): (Arc<dyn Connection>, Arc<dyn Connection>) = pair.connect().await.unwrap();
    drop(near);
    assert_eq!(pair.expect_end(&*far, "the end").await.unwrap(), CloseCode::LOST);
}
