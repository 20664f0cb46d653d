//! The client's rules, against a real hub and against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{SignalErrorKind, WallTime};
use byway_socket::{Client, ClientConfig, Closed, HubConfig, Incoming, Packet, Routed};
use byway_wire::{SocketFrame, SocketStatus, limits};
use common::{End, Someone, TARGET, connect, dial, hub, mail, mail_of, pipe, someone};
use futures_util::SinkExt;

fn kind<T: std::fmt::Debug>(result: Result<T, byway_api::SignalError>) -> SignalErrorKind {
    result.unwrap_err().kind()
}

/// A client attached to a server that we play by hand.
async fn by_hand(who: &Someone) -> (Client, End) {
    let (here, mut server) = pipe(16);
    let target = format!("{TARGET}/{}", who.peer());
    let play = async {
        server.say(&SocketFrame::Challenge { nonce: "n".to_owned(), target }).await;
        assert!(matches!(server.frame().await, Some(SocketFrame::Auth(_))));
        server.say(&SocketFrame::Status { to: who.peer(), status: SocketStatus::Ok, seq: 0 }).await;
        server
    };
    let client = Client::connect(here, who, |_| true, ClientConfig::default());
    let (client, server) = tokio::join!(client, play);
    (client.unwrap(), server)
}

#[tokio::test]
async fn two_clients_exchange_envelopes() {
    let (alice, bob, hub) = (someone(1), someone(2), hub(HubConfig::default()));
    let a = connect(&hub, &alice).await.unwrap();
    let b = connect(&hub, &bob).await.unwrap();
    a.send(bob.peer(), mail(bob.peer(), "hi")).await.unwrap();
    assert_eq!(b.recv().await, Some(Incoming::Mail { from: alice.peer(), envelope: mail(bob.peer(), "hi") }));
    b.send(alice.peer(), mail(alice.peer(), "ho")).await.unwrap();
    assert_eq!(a.recv().await, Some(Incoming::Mail { from: bob.peer(), envelope: mail(alice.peer(), "ho") }));
    assert_eq!(kind(a.send(someone(3).peer(), mail(someone(3).peer(), "x")).await), SignalErrorKind::NoSuchPeer);
    let largest = mail_of(bob.peer(), limits::ENVELOPE_MAX);
    a.send(bob.peer(), largest.clone()).await.unwrap();
    assert_eq!(b.recv().await, Some(Incoming::Mail { from: alice.peer(), envelope: largest }));
    let larger = mail_of(bob.peer(), limits::ENVELOPE_MAX + 1);
    for wrong in [larger, mail(alice.peer(), "misaddressed"), Bytes::from_static(b"none")] {
        assert_eq!(kind(a.send(bob.peer(), wrong).await), SignalErrorKind::Refused);
    }
    a.send(bob.peer(), mail(bob.peer(), "still there")).await.unwrap();
    assert_eq!(hub.appoint(&bob.device()), Routed::Delivered);
    assert!(matches!(b.recv().await, Some(Incoming::Mail { .. })));
    assert_eq!(b.recv().await, Some(Incoming::Appoint));
}

#[tokio::test]
async fn several_sends_to_one_peer_get_their_own_answers() {
    let (alice, bob) = (someone(1), someone(2).peer());
    let (client, mut server) = by_hand(&alice).await;
    let answers = async {
        let mut seqs = Vec::new();
        for _ in 0..3 {
            let Some(SocketFrame::Send { seq, envelope, .. }) = server.frame().await else { panic!() };
            seqs.push((seq, envelope));
        }
        for (seq, envelope) in seqs.into_iter().rev() {
            let status = if envelope == mail(bob, "b") { SocketStatus::Busy } else { SocketStatus::Ok };
            server.say(&SocketFrame::Status { to: bob, status, seq }).await;
        }
    };
    let (a, b, c, ()) = tokio::join!(
        client.send(bob, mail(bob, "a")),
        client.send(bob, mail(bob, "b")),
        client.send(bob, mail(bob, "c")),
        answers
    );
    a.unwrap();
    c.unwrap();
    assert_eq!(kind(b), SignalErrorKind::Busy);
}

#[tokio::test]
async fn every_waiting_send_is_answered_once_when_the_socket_dies() {
    let (alice, bob) = (someone(1), someone(2).peer());
    let (client, mut server) = by_hand(&alice).await;
    let client = Arc::new(client);
    let sends: Vec<_> = (0..5)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.send(bob, mail(bob, "x")).await })
        })
        .collect();
    for _ in 0..5 {
        assert!(matches!(server.frame().await, Some(SocketFrame::Send { .. })));
    }
    server.say(&SocketFrame::From { from: bob, envelope: mail(alice.peer(), "last") }).await;
    drop(server);
    for send in sends {
        assert_eq!(kind(send.await.unwrap()), SignalErrorKind::Unreachable);
    }
    assert!(client.recv().await.is_some(), "what had arrived is still handed over");
    assert_eq!(client.recv().await, None);
    assert_eq!(client.recv().await, None);
    assert!(matches!(client.closed().await, Closed::Remote | Closed::Lost(_)));
    assert_eq!(kind(client.send(bob, mail(bob, "x")).await), SignalErrorKind::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_send_without_an_answer_ends_in_time_and_a_late_answer_harms_nobody() {
    let (alice, bob) = (someone(1), someone(2).peer());
    let (client, mut server) = by_hand(&alice).await;
    assert_eq!(kind(client.send(bob, mail(bob, "x")).await), SignalErrorKind::Unreachable);
    let Some(SocketFrame::Send { seq, .. }) = server.frame().await else { panic!() };
    server.say(&SocketFrame::Status { to: bob, status: SocketStatus::Busy, seq }).await;
    let answer = async {
        let Some(SocketFrame::Send { seq, .. }) = server.frame().await else { panic!() };
        server.say(&SocketFrame::Status { to: bob, status: SocketStatus::Ok, seq }).await;
    };
    let (sent, ()) = tokio::join!(client.send(bob, mail(bob, "y")), answer);
    sent.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sends_in_flight_are_bounded_and_given_back() {
    let (alice, bob) = (someone(1), someone(2).peer());
    let (client, _server) = by_hand(&alice).await;
    let client = Arc::new(client);
    let waiting: Vec<_> = (0..32)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.send(bob, mail(bob, "x")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(kind(client.send(bob, mail(bob, "x")).await), SignalErrorKind::Busy);
    for send in waiting {
        send.abort();
        let _ = send.await;
    }
    assert_eq!(kind(client.send(bob, mail(bob, "x")).await), SignalErrorKind::Unreachable, "room again, no answer");
}

#[tokio::test]
async fn nothing_is_lost_while_the_app_does_not_read() {
    let (alice, bob) = (someone(1), someone(2).peer());
    let (client, mut server) = by_hand(&alice).await;
    let me = alice.peer();
    let flood = tokio::spawn(async move {
        for n in 0..200 {
            server.say(&SocketFrame::From { from: bob, envelope: mail(me, &n.to_string()) }).await;
        }
        server
    });
    for n in 0..200 {
        let Some(Incoming::Mail { envelope, .. }) = client.recv().await else { panic!() };
        assert_eq!(envelope, mail(me, &n.to_string()));
    }
    drop(flood.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_noticed() {
    let (client, server) = by_hand(&someone(1)).await;
    assert_eq!(client.closed().await, Closed::Silent);
    drop(server);
}

#[tokio::test]
async fn closing_leaves_nothing_behind() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (end, task) = dial(&hub, alice.peer());
    let client = Client::connect(end, &alice, |_| true, ClientConfig::default()).await.unwrap();
    client.close().await;
    client.close().await;
    assert_eq!(client.ended(), Some(Closed::Local));
    assert_eq!(client.recv().await, None);
    assert_eq!(kind(client.send(alice.peer(), mail(alice.peer(), "x")).await), SignalErrorKind::Closed);
    assert_eq!(task.await.unwrap().closed, Closed::Remote);
    assert_eq!(hub.sockets(), 0);
}

#[tokio::test]
async fn dropping_a_client_drops_its_socket() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let (end, task) = dial(&hub, alice.peer());
    drop(Client::connect(end, &alice, |_| true, ClientConfig::default()).await.unwrap());
    assert!(matches!(task.await.unwrap().closed, Closed::Remote | Closed::Lost(_)));
}

#[tokio::test]
async fn the_older_of_two_clients_learns_that_it_was_replaced() {
    let (alice, hub) = (someone(1), hub(HubConfig::default()));
    let older = connect(&hub, &alice).await.unwrap();
    let newer = connect(&hub, &alice).await.unwrap();
    assert_eq!(older.closed().await, Closed::Replaced);
    assert!(!Closed::Replaced.is_temporary(), "reconnecting would only start a fight");
    assert_eq!(newer.ended(), None);
}

/// A server that relays the registry's challenge would attach there in our name.
#[tokio::test]
async fn no_proof_is_made_for_a_target_that_was_not_dialled() {
    let (here, mut server) = pipe(16);
    let play = async {
        let target = "wss://registry.example/someone".to_owned();
        server.say(&SocketFrame::Challenge { nonce: "n".to_owned(), target }).await;
        server.frame().await
    };
    let alice = someone(1);
    let client = Client::connect(here, &alice, |target| target == "ws://mallory.example/x", ClientConfig::default());
    let (client, heard) = tokio::join!(client, play);
    assert_eq!(kind(client), SignalErrorKind::Refused);
    assert_eq!(heard, None, "not even an answer");
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_the_hub() {
    let (alice, mallory, hub) = (someone(1), someone(2), hub(HubConfig::default()));
    let (end, _task) = dial(&hub, alice.peer());
    let refused = Client::connect(end, &mallory, |_| true, ClientConfig::default()).await;
    assert_eq!(kind(refused), SignalErrorKind::Refused);
}

#[tokio::test]
async fn servers_that_talk_nonsense_are_left() {
    let alice = someone(1);
    for nonsense in [Bytes::from_static(b"\xff\xff"), SocketFrame::Appoint.encode(), Bytes::from(vec![0; 70_000])] {
        let (here, mut server) = pipe(16);
        server.send(Packet::Frame(nonsense)).await.unwrap();
        let client = Client::connect(here, &alice, |_| true, ClientConfig::default()).await;
        assert_eq!(kind(client), SignalErrorKind::Unreachable);
    }
    let (client, mut server) = by_hand(&alice).await;
    server.say(&SocketFrame::Send { to: alice.peer(), envelope: mail(alice.peer(), "x"), seq: 1 }).await;
    assert!(matches!(client.closed().await, Closed::Malformed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left_in_time() {
    let (here, server) = pipe(16);
    let begun = tokio::time::Instant::now();
    let client = Client::connect(here, &someone(1), |_| true, ClientConfig::default()).await;
    assert_eq!(kind(client), SignalErrorKind::Unreachable);
    assert!(begun.elapsed() <= Duration::from_secs(7));
    drop(server);
    assert!(common::NOW > WallTime::from_millis(0));
}
