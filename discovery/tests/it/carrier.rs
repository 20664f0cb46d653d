//! The socket carrier against real signalling servers.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::{Event, Named, Server, Setup, context, mail};
use crate::support::{Tokens, dead_port, network, peer, within};
use bytes::Bytes;
use byway_api::{Sealed, SignalAddress, SignalErrorKind, Signaling};
use byway_discovery::{CarrierConfig, Home, SocketCarrier};
use byway_socket::Device;
use tokio::net::TcpListener;

/// Short waits, so that what is due happens.
fn quick() -> CarrierConfig {
    let mut config = CarrierConfig::default();
    config.backoff = Duration::from_millis(1);
    config.backoff_max = Duration::from_millis(5);
    config.meter_wait = Duration::from_millis(5);
    config
}

async fn carrier(me: u8, config: CarrierConfig, homes: &[&str]) -> SocketCarrier {
    metered(me, config, homes, Tokens::new(1000)).await
}

async fn metered(me: u8, config: CarrierConfig, homes: &[&str], tokens: Arc<Tokens>) -> SocketCarrier {
    let carrier = SocketCarrier::new(config, homes.iter().map(|url| Home::new(url).unwrap()).collect());
    carrier.attach(context(peer(me), tokens)).await.unwrap();
    carrier
}

fn at(base: &str, n: u8) -> SignalAddress {
    SignalAddress::socket(base, peer(n)).unwrap()
}

/// A member's listener: its owner is attached to its own hub.
async fn listener(owner: u8) -> (Server, byway_socket::LocalDevice) {
    let mut server = Server::start(Setup { target: Some(peer(owner).to_string()), ..Setup::default() }).await;
    let local = server.hub.local(Device::new(network(), peer(owner))).unwrap();
    server.attached(peer(owner)).await;
    (server, local)
}

#[tokio::test]
async fn two_devices_talk_through_their_common_home() {
    let mut server = Server::start(Setup::default()).await;
    let alice = carrier(1, quick(), &[&server.url()]).await;
    server.attached(peer(1)).await;
    let bob = carrier(2, quick(), &[&format!("http://{}/", server.address)]).await;
    server.attached(peer(2)).await;

    assert_eq!(alice.addresses(), [at(&server.url(), 1)]);
    assert!(alice.serves(&bob.addresses()[0]));
    within(alice.send(&bob.addresses()[0], mail(peer(2), "offer"))).await.unwrap();
    let got = within(bob.recv()).await.unwrap();
    assert_eq!((got.mail, &got.back), (mail(peer(2), "offer"), &at(&server.url(), 1)));
    within(bob.send(&got.back, mail(peer(1), "answer"))).await.unwrap();
    assert_eq!(within(alice.recv()).await.unwrap().mail, mail(peer(1), "answer"));

    let home = alice.homes().next().unwrap();
    assert_eq!((home.calls(), home.signals(), alice.listener_sockets()), (1, 1, 0));
    within(alice.close()).await;
    within(bob.close()).await;
}

#[tokio::test]
async fn a_listener_is_dialled_when_something_is_to_be_sent() {
    let (mut server, bob) = listener(2).await;
    let alice = carrier(1, quick(), &[]).await;
    within(alice.send(&at(&server.url(), 2), mail(peer(2), "offer"))).await.unwrap();
    server.attached(peer(1)).await;
    assert_eq!(within(bob.recv()).await.unwrap(), (peer(1), mail(peer(2), "offer").envelope));
    // the answer comes back over the same socket
    within(bob.send(peer(1), mail(peer(1), "answer").envelope)).await;
    let got = within(alice.recv()).await.unwrap();
    assert_eq!((got.mail, got.back), (mail(peer(1), "answer"), at(&server.url(), 2)));
    assert!(alice.addresses().is_empty(), "a listener that we dial is no address of ours");
    within(alice.close()).await;
}

#[tokio::test]
async fn sends_at_the_same_time_share_one_socket() {
    let (mut server, bob) = listener(2).await;
    let alice = carrier(1, quick(), &[]).await;
    let address = at(&server.url(), 2);
    let sends = (0..10).map(|_| alice.send(&address, mail(peer(2), "x")));
    for sent in within(futures_util::future::join_all(sends)).await {
        sent.unwrap();
    }
    for _ in 0..10 {
        within(bob.recv()).await.unwrap();
    }
    server.attached(peer(1)).await;
    assert_eq!(alice.listener_sockets(), 1);
    within(alice.close()).await;
    server.ended().await;
    assert!(server.events.try_recv().is_err(), "one socket and no other");
}

#[tokio::test]
async fn a_device_that_is_not_attached_is_no_such_peer() {
    let (server, _bob) = listener(2).await;
    let alice = carrier(1, quick(), &[]).await;
    let e = within(alice.send(&at(&server.url(), 2), mail(peer(9), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::NoSuchPeer);
    within(alice.close()).await;
}

#[tokio::test]
async fn a_refused_connection_fails_at_once() {
    let alice = carrier(1, quick(), &[]).await;
    let address = SignalAddress::socket(&format!("ws://{}", dead_port().await), peer(2)).unwrap();
    let e = within(alice.send(&address, mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Unreachable);
    assert_eq!(alice.listener_sockets(), 0);
    within(alice.close()).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_in_time() {
    // it accepts in the backlog and never answers
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = quick();
    config.connect_timeout = Duration::from_millis(50);
    let alice = carrier(1, config, &[]).await;
    let base = format!("ws://{}", silent.local_addr().unwrap());
    let e = within(alice.send(&at(&base, 2), mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Unreachable);
    assert!(e.to_string().contains("50 ms"), "{e}");
    within(alice.close()).await;
}

#[tokio::test]
async fn a_refused_proof_is_told() {
    let server = Server::start(Setup { refuse: true, ..Setup::default() }).await;
    let alice = carrier(1, quick(), &[]).await;
    let e = within(alice.send(&at(&server.url(), 2), mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Refused);
    assert!(e.to_string().contains("not you"), "{e}");
    within(alice.close()).await;
}

/// A false listener could hand a proof on to the listener it is good for, and attach there as us.
#[tokio::test]
async fn no_proof_is_made_for_another_listener_or_server() {
    for elsewhere in
        [peer(3).to_string(), "ws://registry.example".to_owned(), format!("ws://registry.example/{}", peer(1))]
    {
        let server = Server::start(Setup { target: Some(elsewhere), ..Setup::default() }).await;
        let named = Named::new(peer(1));
        let alice = SocketCarrier::new(quick(), vec![]);
        let cx = byway_api::SignalContext::new(peer(1), network(), Arc::clone(&named) as _, Tokens::new(0));
        alice.attach(cx).await.unwrap();
        let e = within(alice.send(&at(&server.url(), 2), mail(peer(2), "x"))).await.unwrap_err();
        assert_eq!(e.kind(), SignalErrorKind::Refused);
        assert!(named.asked.lock().unwrap().is_empty(), "nothing was signed");
        within(alice.close()).await;
    }
}

#[tokio::test]
async fn what_is_no_address_of_a_socket_is_not_served() {
    let alice = carrier(1, quick(), &[]).await;
    for wrong in
        [format!("peer:{}", peer(2)), "mem:1".into(), "ws://h:1/nobody".into(), format!("ws://u@h/{}", peer(2))]
    {
        let address: SignalAddress = wrong.parse().unwrap();
        assert!(!alice.serves(&address), "{wrong}");
        let e = within(alice.send(&address, mail(peer(2), "x"))).await.unwrap_err();
        assert_eq!(e.kind(), SignalErrorKind::BadAddress, "{wrong}");
    }
    let wide = Bytes::from(vec![0; 60 * 1024 + 1]);
    for wrong in [wide, Bytes::new(), Bytes::from_static(b"no envelope"), mail(peer(3), "for another").envelope] {
        let wrong = Sealed { to: peer(2), envelope: wrong };
        let e = within(alice.send(&at("ws://127.0.0.1:1", 2), wrong)).await.unwrap_err();
        assert_eq!(e.kind(), SignalErrorKind::Refused, "{e}");
    }
    within(alice.close()).await;
}

#[tokio::test]
async fn a_home_comes_back_after_its_server_restarts() {
    let mut server = Server::start(Setup::default()).await;
    let alice = carrier(1, quick(), &[&server.url()]).await;
    server.attached(peer(1)).await;
    let before = alice.addresses();
    let address = server.stop().await;
    let mut server = Server::start(Setup { at: Some(address), ..Setup::default() }).await;
    server.attached(peer(1)).await;
    let bob = server.hub.local(Device::new(network(), peer(2))).unwrap();
    within(async {
        // the server knows of the socket a moment before the carrier does
        while let Err(e) = alice.send(&at(&server.url(), 2), mail(peer(2), "x")).await {
            assert_eq!(e.kind(), SignalErrorKind::Unreachable, "{e}");
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within(bob.recv()).await.unwrap().0, peer(1));
    assert_eq!(alice.addresses(), before, "the address stayed the same");
    within(alice.close()).await;
}

#[tokio::test]
async fn a_home_that_is_down_is_said_to_be_at_once() {
    let base = format!("ws://{}", dead_port().await);
    let mut config = quick();
    config.backoff = Duration::from_secs(3600);
    config.backoff_max = Duration::from_secs(3600);
    let alice = carrier(1, config, &[&base]).await;
    // while it is being opened a send waits for the outcome
    let e = within(alice.send(&at(&base, 2), mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Unreachable);
    assert_eq!(alice.addresses(), [at(&base, 1)], "a home that is down is an address all the same");
    assert_eq!(alice.homes().next().unwrap().calls(), 1, "and no other socket was tried");
    within(alice.close()).await;
}

#[tokio::test]
async fn every_connect_to_a_home_takes_a_token_and_waits_for_one() {
    let mut server = Server::start(Setup::default()).await;
    let tokens = Tokens::new(0);
    let alice = metered(1, quick(), &[&server.url()], Arc::clone(&tokens)).await;
    let e = within(async {
        loop {
            let e = alice.send(&at(&server.url(), 2), mail(peer(2), "x")).await.unwrap_err();
            if e.to_string().contains("budget") {
                return e;
            }
        }
    })
    .await;
    assert_eq!(e.kind(), SignalErrorKind::Unreachable);
    assert_eq!(alice.homes().next().unwrap().calls(), 0);
    tokens.add(1);
    server.attached(peer(1)).await;
    assert_eq!((tokens.spent(), alice.homes().next().unwrap().calls()), (vec!["socket"], 1));
    within(alice.close()).await;
}

#[tokio::test]
async fn listeners_cost_no_token() {
    let (server, _bob) = listener(2).await;
    let tokens = Tokens::new(0);
    let alice = metered(1, quick(), &[], Arc::clone(&tokens)).await;
    within(alice.send(&at(&server.url(), 2), mail(peer(2), "x"))).await.unwrap();
    assert!(tokens.spent().is_empty());
    within(alice.close()).await;
}

#[tokio::test]
async fn a_new_network_ends_the_wait() {
    let address = dead_port().await;
    let base = format!("ws://{address}");
    let mut config = quick();
    config.backoff = Duration::from_secs(3600);
    config.backoff_max = Duration::from_secs(3600);
    let alice = carrier(1, config, &[&base]).await;
    within(alice.send(&at(&base, 2), mail(peer(2), "x"))).await.unwrap_err();
    let mut server = Server::start(Setup { at: Some(address), ..Setup::default() }).await;
    alice.network_changed().await;
    server.attached(peer(1)).await;
    // and what is up is connected anew, since nobody knows what became of it
    alice.network_changed().await;
    let mut events = [server.event().await, server.event().await];
    events.sort_by_key(|e| matches!(e, Event::Ended(_)));
    assert_eq!(events[0], Event::Attached(peer(1)));
    assert!(matches!(&events[1], Event::Ended(served) if served.device.is_some()));
    within(alice.close()).await;
}

#[tokio::test]
async fn without_a_token_a_home_that_is_up_survives_a_new_network() {
    let mut server = Server::start(Setup::default()).await;
    let alice = metered(1, quick(), &[&server.url()], Tokens::new(1)).await;
    server.attached(peer(1)).await;
    alice.network_changed().await;
    let bob = server.hub.local(Device::new(network(), peer(2))).unwrap();
    within(alice.send(&at(&server.url(), 2), mail(peer(2), "x"))).await.unwrap();
    assert_eq!(within(bob.recv()).await.unwrap().0, peer(1));
    within(alice.close()).await;
}

#[tokio::test]
async fn an_idle_socket_to_a_listener_is_closed_and_opened_again_when_needed() {
    let (mut server, bob) = listener(2).await;
    let mut config = quick();
    config.idle = Duration::from_millis(20);
    let alice = carrier(1, config, &[]).await;
    for _ in 0..2 {
        within(alice.send(&at(&server.url(), 2), mail(peer(2), "x"))).await.unwrap();
        within(bob.recv()).await.unwrap();
        server.attached(peer(1)).await;
        assert_eq!(server.ended().await.device, Some(Device::new(network(), peer(1))));
        assert_eq!(alice.listener_sockets(), 0);
    }
    within(alice.close()).await;
}

#[tokio::test]
async fn the_number_of_sockets_is_bounded() {
    let (mut one, _bob) = listener(2).await;
    let (two, _carol) = listener(3).await;
    let mut config = quick();
    config.sockets = 1;
    config.evictable = Duration::from_secs(3600);
    let alice = carrier(1, config.clone(), &[]).await;
    within(alice.send(&at(&one.url(), 2), mail(peer(2), "x"))).await.unwrap();
    let e = within(alice.send(&at(&two.url(), 3), mail(peer(3), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Busy);
    within(alice.close()).await;
    one.attached(peer(1)).await;
    one.ended().await;

    // what was not used for long enough gives way
    config.evictable = Duration::ZERO;
    let alice = carrier(1, config, &[]).await;
    within(alice.send(&at(&one.url(), 2), mail(peer(2), "x"))).await.unwrap();
    within(alice.send(&at(&two.url(), 3), mail(peer(3), "x"))).await.unwrap();
    assert_eq!(alice.listener_sockets(), 1);
    one.attached(peer(1)).await;
    one.ended().await;
    within(alice.close()).await;
}

#[tokio::test]
async fn after_close_nothing_is_left() {
    let mut home = Server::start(Setup::default()).await;
    let (mut member, _bob) = listener(2).await;
    let alice = Arc::new(carrier(1, quick(), &[&home.url(), &format!("ws://{}", dead_port().await)]).await);
    home.attached(peer(1)).await;
    within(alice.send(&at(&member.url(), 2), mail(peer(2), "x"))).await.unwrap();
    member.attached(peer(1)).await;
    let waiting = tokio::spawn({
        let alice = Arc::clone(&alice);
        async move { alice.recv().await }
    });
    within(async { tokio::join!(alice.close(), alice.close()) }).await;
    assert_eq!(within(waiting).await.unwrap(), None);
    assert_eq!(within(alice.recv()).await, None);
    home.ended().await;
    member.ended().await;
    assert_eq!(alice.listener_sockets(), 0);
    let e = within(alice.send(&at(&member.url(), 2), mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Closed);
    let e = alice.attach(context(peer(1), Tokens::new(1))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Closed);
    within(alice.close()).await;
}

#[tokio::test]
async fn a_dropped_carrier_leaves_no_socket() {
    let mut home = Server::start(Setup::default()).await;
    let (mut member, _bob) = listener(2).await;
    let alice = carrier(1, quick(), &[&home.url()]).await;
    home.attached(peer(1)).await;
    within(alice.send(&at(&member.url(), 2), mail(peer(2), "x"))).await.unwrap();
    member.attached(peer(1)).await;
    drop(alice);
    home.ended().await;
    member.ended().await;
}

#[tokio::test]
async fn a_carrier_that_nobody_reads_slows_its_senders_down_and_loses_nothing() {
    let (_server, bob) = listener(2).await;
    let mut config = quick();
    config.inbox = 1;
    config.socket.queue = 1;
    let alice = carrier(1, config, &[]).await;
    within(alice.send(&at(&_server.url(), 2), mail(peer(2), "x"))).await.unwrap();
    within(bob.recv()).await.unwrap();
    for _ in 0..20 {
        within(bob.send(peer(1), mail(peer(1), "m").envelope)).await;
    }
    for _ in 0..20 {
        within(alice.recv()).await.unwrap();
    }
    within(alice.close()).await;
}
