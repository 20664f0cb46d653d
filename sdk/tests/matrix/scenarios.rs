//! What every combination must do.

use std::slice;

use byway::{Delivery, Status};

use crate::kit::{Keep, Member, Way, next, send_numbers, take, take_numbers};
use crate::soon;

pub(crate) async fn messages_both_ways_arrive_once_and_in_order(way: Way, keep: Keep) {
    const EACH: usize = 200;
    let (mut a, mut b) =
        (Member::new("alice", slice::from_ref(&way), keep), Member::new("bob", slice::from_ref(&way), keep));
    let (alice, mut alices) = a.start().await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;

    bob.chat("alice").unwrap().send("hello").await.unwrap();
    assert_eq!(take(&mut alices).await, "hello");
    soon("a direct way", bob.members().wait_for(|r| r.get("alice").is_some_and(|m| m.status() == Status::Direct)))
        .await
        .unwrap();

    let (there, back) = (send_numbers(&alice, "alice", "bob", 0..EACH), send_numbers(&bob, "bob", "alice", 0..EACH));
    let (at_bob, at_alice) = (take_numbers(&mut bobs, "alice", 0..EACH), take_numbers(&mut alices, "bob", 0..EACH));
    tokio::join!(there, back, at_bob, at_alice);

    let last = alice.chat("bob").unwrap().send("and that is all").await.unwrap();
    let message = next(&mut bobs).await;
    assert_eq!(message.text(), Some("and that is all"), "nothing came twice");
    soon("delivery", last.delivered()).await.unwrap();
    message.read().await.unwrap();
    soon("the tick", last.read()).await.unwrap();
    assert_eq!(last.status(), Delivery::Read);
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}

pub(crate) async fn what_was_sent_to_a_member_who_is_off_arrives_when_it_is_back(way: Way, keep: Keep) {
    let (mut a, mut b) =
        (Member::new("alice", slice::from_ref(&way), keep), Member::new("bob", slice::from_ref(&way), keep));
    let (alice, _alices) = a.start().await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;
    send_numbers(&alice, "alice", "bob", 0..5).await;
    take_numbers(&mut bobs, "alice", 0..5).await;
    drop(bobs);
    bob.shutdown().await.unwrap();

    send_numbers(&alice, "alice", "bob", 5..55).await;
    let (bob, mut bobs) = b.start().await;
    take_numbers(&mut bobs, "alice", 5..55).await;
    send_numbers(&alice, "alice", "bob", 55..60).await;
    take_numbers(&mut bobs, "alice", 55..60).await;
    bob.shutdown().await.unwrap();
    alice.shutdown().await.unwrap();
}

pub(crate) async fn what_was_sent_outlives_its_sender(way: Way, keep: Keep) {
    let (mut a, mut b) =
        (Member::new("alice", slice::from_ref(&way), keep), Member::new("bob", slice::from_ref(&way), keep));
    let (alice, alices) = a.start().await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;
    send_numbers(&alice, "alice", "bob", 0..1).await;
    take_numbers(&mut bobs, "alice", 0..1).await;
    drop(bobs);
    bob.shutdown().await.unwrap();
    send_numbers(&alice, "alice", "bob", 1..21).await;
    drop(alices);
    alice.shutdown().await.unwrap();

    let (alice, _alices) = a.start().await;
    send_numbers(&alice, "alice", "bob", 21..22).await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;
    take_numbers(&mut bobs, "alice", 1..22).await;
    bob.shutdown().await.unwrap();
    alice.shutdown().await.unwrap();
}

pub(crate) async fn a_message_that_was_not_finished_is_shown_again_after_a_restart(way: Way, keep: Keep) {
    let (mut a, mut b) =
        (Member::new("alice", slice::from_ref(&way), keep), Member::new("bob", slice::from_ref(&way), keep));
    let (alice, _alices) = a.start().await;
    let (bob, mut bobs) = b.start_knowing(&alice).await;
    let first = alice.chat("bob").unwrap().send("finished").await.unwrap();
    assert_eq!(take(&mut bobs).await, "finished");
    let second = alice.chat("bob").unwrap().send("not finished").await.unwrap();
    let message = next(&mut bobs).await;
    assert_eq!(message.text(), Some("not finished"));
    for sent in [&first, &second] {
        soon("delivery", sent.delivered()).await.unwrap();
    }
    drop((message, bobs));
    bob.shutdown().await.unwrap();

    let (bob, mut bobs) = b.start().await;
    assert_eq!(take(&mut bobs).await, "not finished", "delivered, shown, never finished");
    alice.chat("bob").unwrap().send("the next").await.unwrap();
    assert_eq!(take(&mut bobs).await, "the next", "and nothing else came again");
    bob.shutdown().await.unwrap();
    alice.shutdown().await.unwrap();
}
