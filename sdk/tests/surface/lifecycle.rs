use std::time::Duration;

use byway::presets::InMemory;
use byway::{Delivery, DeliveryError, MemoryKeys, MemoryStore, NodeError, SendError, Status};

use crate::{connect, member, next, pass, soon, start};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_blocked_member_is_refused_until_it_is_admitted_again() {
    let world = InMemory::new();
    let (store, keys) = (MemoryStore::new(), MemoryKeys::new());
    let (alice, _alices) = member(&world, "alice").store(store.clone()).keys(keys.clone()).spawn().await.unwrap();
    let (bob, _bobs) = start(&world, "bob").await;
    connect(&alice, "bob").await;
    alice.block("bob").await.unwrap();
    let blocked = |m: &byway::Roster| m.iter().any(|m| m.blocked && m.status() != Status::Direct);
    soon("the block to show", alice.members().wait_for(blocked)).await.unwrap();
    assert!(alice.path("bob").unwrap().ends_with("(blocked)"));
    assert_eq!(alice.chat("bob").unwrap().send("x").await.unwrap_err(), SendError::Blocked);
    alice.shutdown().await.unwrap();

    let again = member(&world, "alice").store(store.reopen().unwrap()).keys(keys);
    let (alice, mut alices) = again.spawn().await.unwrap();
    let sent = bob.chat("alice").unwrap().send("let me in").await.unwrap();
    assert!(pass(10 * MINUTE, &mut alices).await.is_none(), "bob is blocked, over a restart too");
    assert_eq!(sent.status(), Delivery::Sending);

    alice.unblock("bob").await.unwrap();
    alice.chat("bob").unwrap().send("welcome back").await.unwrap();
    assert_eq!(next(&mut alices).await.text(), Some("let me in"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_node_is_silent_and_goes_on_afterwards() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (bob, mut bobs) = start(&world, "bob").await;
    connect(&alice, "bob").await;
    alice.suspend().await;
    let gone = |roster: &byway::Roster| roster.iter().all(|m| m.status() != Status::Direct);
    soon("alice to be gone", bob.members().wait_for(gone)).await.unwrap();
    let sent = alice.chat("bob").unwrap().send("written in the tunnel").await.unwrap();
    assert!(pass(10 * MINUTE, &mut bobs).await.is_none(), "a suspended node sends nothing");
    assert_eq!(sent.status(), Delivery::Sending);
    alice.resume().await;
    assert_eq!(next(&mut bobs).await.text(), Some("written in the tunnel"));
    soon("delivery", sent.delivered()).await.unwrap();
}

/// A device that is suspended, or has blocked us, lets us connect and pass Hello, and ends it then. Each
/// time that counted as a success, so that it was dialled again a quarter of a second later, for ever.
#[tokio::test(start_paused = true)]
async fn a_member_who_does_not_want_us_is_not_dialled_for_ever() {
    for blocked in [false, true] {
        let world = InMemory::new();
        let (alice, _alices) = start(&world, "alice").await;
        let (bob, mut bobs) = start(&world, "bob").await;
        connect(&bob, "alice").await;
        if blocked {
            alice.block("bob").await.unwrap();
        } else {
            alice.suspend().await;
        }
        bob.chat("alice").unwrap().send("hello?").await.unwrap();
        assert!(pass(10 * MINUTE, &mut bobs).await.is_none());
        let connects = bob.metrics().await.unwrap().core.connects;
        assert!(connects <= 15, "{connects} connections in ten minutes, blocked: {blocked}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_everything_says_so_and_nothing_is_left() {
    let before = tasks();
    let world = InMemory::new();
    let store = MemoryStore::new();
    let (alice, mut alices) = member(&world, "alice").store(store.clone()).spawn().await.unwrap();
    let (bob, _bobs) = start(&world, "bob").await;
    connect(&alice, "bob").await;
    let waiting = alice.chat("nobody").unwrap().send("x").await.unwrap();

    let (first, second) = tokio::join!(alice.shutdown(), alice.shutdown());
    first.unwrap();
    second.unwrap();
    alice.shutdown().await.unwrap();
    assert!(soon("the end of the inbox", alices.next()).await.is_none());
    assert_eq!(soon("the end of the wait", waiting.delivered()).await, Err(DeliveryError::Stopped));
    assert_eq!(alice.chat("bob").unwrap().send("x").await.unwrap_err(), SendError::Stopped);
    assert_eq!(alice.block("bob").await, Err(NodeError::Stopped));
    assert!(soon("the end of the list", alice.members().wait_for(|_| false)).await.is_none());
    assert!(soon("the end of the events", alice.events().next()).await.is_none());
    store.reopen().expect("the store is closed");

    bob.shutdown().await.unwrap();
    assert_eq!(tasks(), before, "tasks are left");
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_ends_the_node() {
    let before = tasks();
    let world = InMemory::new();
    let (alice, alices) = start(&world, "alice").await;
    let chat = alice.chat("bob").unwrap();
    drop((alice, alices));
    chat.send("still there").await.expect("a chat is a handle, too");
    drop(chat);
    let gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of its tasks", gone).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_goes_out_after_a_restart() {
    let world = InMemory::new();
    let (store, keys) = (MemoryStore::new(), MemoryKeys::new());
    let (alice, _alices) = member(&world, "alice").store(store.clone()).keys(keys.clone()).spawn().await.unwrap();
    let sent = alice.chat("bob").unwrap().send("before the restart").await.unwrap();
    alice.shutdown().await.unwrap();
    let (_bob, mut bobs) = start(&world, "bob").await;
    let again = member(&world, "alice").store(store.reopen().unwrap()).keys(keys);
    let (alice, _alices) = again.spawn().await.unwrap();
    let sent = alice.sent(sent.id()).await.unwrap().expect("it is in the outbox");
    assert_eq!(next(&mut bobs).await.text(), Some("before the restart"));
    soon("delivery", sent.delivered()).await.unwrap();
    assert!(alice.sent(byway::MessageId::from_bytes([9; 16])).await.unwrap().is_none());
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
