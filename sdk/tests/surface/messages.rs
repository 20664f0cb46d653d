use std::time::Duration;

use byway::presets::InMemory;
use byway::{Body, Delivery, DeliveryError, MemoryKeys, MemoryStore, MessageId, Retry, SendError, SendOptions};

use crate::{PATIENCE, member, next, pass, soon, start};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_answered_and_read() {
    let world = InMemory::new();
    let (alice, mut alices) = start(&world, "alice").await;
    let (_bob, mut bobs) = start(&world, "bob").await;

    let sent = alice.chat("bob").unwrap().send("hello").await.unwrap();
    let message = next(&mut bobs).await;
    assert_eq!(message.from().as_str(), "alice");
    assert_eq!(message.device(), alice.peer());
    assert_eq!(message.id(), sent.id());
    assert_eq!((message.text(), message.reply_to(), message.late()), (Some("hello"), None, false));
    soon("delivery", sent.delivered()).await.unwrap();
    assert_eq!(sent.status(), Delivery::Delivered);

    let answer = message.reply("hi").await.unwrap();
    let answered = next(&mut alices).await;
    assert_eq!((answered.text(), answered.reply_to()), (Some("hi"), Some(sent.id())));
    soon("delivery of the answer", answer.delivered()).await.unwrap();

    message.read().await.unwrap();
    soon("the tick", sent.read()).await.unwrap();
    message.done().await.unwrap();
    message.done().await.unwrap();

    let devices = sent.devices().await.unwrap();
    assert!(devices.iter().all(|device| device.delivery == Delivery::Read), "{devices:?}");
}

#[tokio::test(start_paused = true)]
async fn the_ticks_of_a_message_come_once_each_and_end_with_read() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, mut bobs) = start(&world, "bob").await;
    let mut sent = alice.chat("bob").unwrap().send("hello").await.unwrap();
    assert_eq!(soon("the first tick", sent.changed()).await, Some(Delivery::Delivered));
    next(&mut bobs).await.read().await.unwrap();
    assert_eq!(soon("the second tick", sent.changed()).await, Some(Delivery::Read));
    assert_eq!(sent.changed().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_a_member_who_is_not_there_yet() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let sent = alice.chat("bob").unwrap().send("for later").await.unwrap();
    assert_eq!(sent.status(), Delivery::Sending);
    let (_bob, mut bobs) = start(&world, "bob").await;
    assert_eq!(next(&mut bobs).await.text(), Some("for later"));
    soon("delivery", sent.delivered()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_member_come_in_order() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let chat = alice.chat("bob").unwrap();
    for n in 0..20 {
        chat.send(format!("early {n}")).await.unwrap();
    }
    let (_bob, mut bobs) = start(&world, "bob").await;
    for n in 0..20 {
        chat.send(format!("late {n}")).await.unwrap();
    }
    for n in (0..20).map(|n| format!("early {n}")).chain((0..20).map(|n| format!("late {n}"))) {
        assert_eq!(next(&mut bobs).await.text(), Some(n.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_id_again_gives_the_message_that_is_there() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, mut bobs) = start(&world, "bob").await;
    let chat = alice.chat("bob").unwrap();
    let id = MessageId::from_bytes([7; 16]);
    let first = chat.send_with("once", SendOptions::default().id(id)).await.unwrap();
    let second = chat.send_with("once", SendOptions::default().id(id)).await.unwrap();
    assert_eq!((first.id(), first.existing()), (id, false));
    assert_eq!((second.id(), second.existing()), (id, true));
    assert_eq!(next(&mut bobs).await.id(), id);
    soon("delivery by the first handle", first.delivered()).await.unwrap();
    soon("delivery by the second handle", second.delivered()).await.unwrap();
    let third = chat.send_with("once", SendOptions::default().id(id)).await.unwrap();
    assert!(third.existing());
    soon("delivery by a handle made afterwards", third.delivered()).await.unwrap();
    assert!(pass(PATIENCE, &mut bobs).await.is_none(), "it came twice");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_not_text() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, mut bobs) = start(&world, "bob").await;
    let chat = alice.chat("bob").unwrap();
    let largest = vec![0xff; Body::MAX];
    chat.send(largest.clone()).await.unwrap();
    chat.send("").await.unwrap();
    let message = next(&mut bobs).await;
    assert_eq!(message.text(), None);
    assert_eq!(message.bytes(), &largest);
    assert_eq!(next(&mut bobs).await.text(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_at_once() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let chat = alice.chat("bob").unwrap();
    let error = chat.send(vec![0; Body::MAX + 1]).await.unwrap_err();
    assert_eq!(error, SendError::TooLarge { max: Body::MAX, got: Body::MAX + 1 });
    for life in [Duration::ZERO, SendOptions::MAX_LIFE + Duration::from_millis(1)] {
        let error = chat.send_with("x", SendOptions::default().expires_in(life)).await.unwrap_err();
        assert!(matches!(error, SendError::Expiry { .. }), "{error}");
        assert_eq!(error.retry(), Retry::Never);
    }
    assert!(alice.chat("a\nb").is_err());
    assert_eq!(alice.metrics().await.unwrap().core.queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_refuses_and_stores_nothing() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let chat = alice.chat("nobody").unwrap();
    let body = byway::api::Bytes::from(vec![0; Body::MAX]);
    let mut taken = 0;
    let error = loop {
        match chat.send(&body).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken * Body::MAX <= 64 << 20, "the outbox has no bound");
    };
    assert_eq!((error.clone(), error.retry()), (SendError::QueueFull, Retry::Later));
    assert_eq!(alice.metrics().await.unwrap().core.queued, taken);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_takes_expires() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let options = SendOptions::default().expires_in(HOUR);
    let mut sent = alice.chat("nobody").unwrap().send_with("x", options).await.unwrap();
    assert_eq!(sent.delivered().await, Err(DeliveryError::Expired));
    assert_eq!(soon("the tick", sent.changed()).await, Some(Delivery::Expired));
    assert_eq!(sent.changed().await, None);
    let metrics = alice.metrics().await.unwrap();
    assert_eq!((metrics.core.queued, metrics.core.expired), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_done_comes_again_after_a_restart() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (store, keys) = (MemoryStore::new(), MemoryKeys::new());
    let (bob, mut bobs) = member(&world, "bob").store(store.clone()).keys(keys.clone()).spawn().await.unwrap();
    let chat = alice.chat("bob").unwrap();
    for text in ["done", "not done"] {
        soon("delivery", chat.send(text).await.unwrap().delivered()).await.unwrap();
    }
    next(&mut bobs).await.done().await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("not done"));
    bob.shutdown().await.unwrap();

    let again = member(&world, "bob").store(store.reopen().unwrap()).keys(keys);
    let (bob_again, mut bobs) = again.spawn().await.unwrap();
    assert_eq!(bob_again.peer(), bob.peer());
    assert_eq!(next(&mut bobs).await.text(), Some("not done"));
    chat.send("new").await.unwrap();
    assert_eq!(next(&mut bobs).await.text(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn read_receipts_can_be_switched_off() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, mut bobs) = member(&world, "bob").tuning(|t| t.read_receipts = false).spawn().await.unwrap();
    let sent = alice.chat("bob").unwrap().send("secretly").await.unwrap();
    next(&mut bobs).await.read().await.unwrap();
    soon("delivery", sent.delivered()).await.unwrap();
    assert!(pass(PATIENCE, &mut bobs).await.is_none());
    assert_eq!(sent.status(), Delivery::Delivered);
}
