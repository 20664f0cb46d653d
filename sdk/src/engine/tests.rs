//! The whole engine in one process, under virtual time: memory transport, memory store, a shared step.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{
    Announcement, CloseCode, DiscoveryStep, KeyStore, Lookup, MessageId, Meter, NetworkId, PeerId, Route, RouteStore,
    StepError, StoreErrorKind, UserId, async_trait,
};
use byway_core::io::{Event, Refusal};
use byway_core::status::Delivery;
use byway_store_memory::MemoryStore;
use byway_transport_memory::MemoryNetwork;
use byway_wire::OpenMembership;

use super::*;
use crate::keys_file::MemoryKeys;

mod hostile;
mod plugins;
mod signalling;

/// Remembers what is announced; the same for all members of a test.
#[derive(Debug, Default)]
struct Board {
    routes: Mutex<BTreeMap<UserId, (PeerId, Vec<Route>)>>,
}

#[async_trait]
impl DiscoveryStep for Board {
    fn name(&self) -> &'static str {
        "board"
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let routes = self.routes.lock().unwrap().get(&lookup.query().user).cloned();
        for route in routes.into_iter().flat_map(|(_, routes)| routes) {
            if lookup.found(route) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    async fn announce(&self, me: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        let user = byway_wire::claimed_user(&me.record).unwrap();
        let route = |at: &byway_api::SignalAddress| Route::new(me.peer, at.clone()).with_record(me.record.clone());
        let routes = me.addresses.iter().map(route).collect();
        if me.leaving {
            self.routes.lock().unwrap().remove(&user);
        } else {
            self.routes.lock().unwrap().insert(user, (me.peer, routes));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct World {
    network: MemoryNetwork,
    board: Arc<Board>,
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

impl World {
    fn config(&self, name: &str, keys: Arc<dyn KeyStore>, store: Arc<dyn RouteStore>) -> EngineConfig {
        let network: NetworkId = "test".parse().unwrap();
        let membership = Arc::new(OpenMembership::new(network.clone()));
        let mut config = EngineConfig::new(network, user(name), keys, Credential::SelfSigned, membership, store);
        config.transports.push(Arc::new(self.network.transport()));
        config.steps.push(Arc::clone(&self.board) as Arc<dyn DiscoveryStep>);
        config.clock = Clock::Ticks;
        config
    }

    async fn join(&self, name: &str) -> (EngineHandle, InboxReceiver) {
        let store = Arc::new(MemoryStore::new());
        start(self.config(name, Arc::new(MemoryKeys::new()), store)).await.unwrap()
    }
}

fn message(to: &str, body: &'static str) -> SendRequest {
    SendRequest {
        to: user(to),
        message: None,
        body: Bytes::from_static(body.as_bytes()),
        reply_to: None,
        expires_in: Duration::from_secs(3600),
    }
}

async fn reaches(status: &MessageStatus, wanted: Delivery) {
    let mut seen = status.now();
    while seen < wanted {
        seen = timeout(Duration::from_secs(120), status.changed(seen)).await.expect("in time").expect("running");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_queued_delivered_and_read() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let (bob, mut inbox) = world.join("bob").await;
    let sent = alice.send(message("bob", "hello")).await.unwrap();
    assert!(!sent.existing);
    let item = timeout(Duration::from_secs(30), inbox.next()).await.unwrap().unwrap();
    assert_eq!((item.from_user.as_str(), &item.body[..]), ("alice", &b"hello"[..]));
    assert_eq!(item.message, sent.message);
    reaches(&sent.status, Delivery::Delivered).await;
    bob.read(item.key).await.unwrap();
    bob.done(item.key).await.unwrap();
    reaches(&sent.status, Delivery::Read).await;

    let metrics = alice.metrics().await.unwrap();
    assert_eq!((metrics.core.sent, metrics.core.delivered, metrics.core.links), (1, 1, 1));
    assert_eq!(bob.metrics().await.unwrap().core.received, 1);
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
    assert_eq!((alice.tasks(), bob.tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn many_messages_arrive_once_each_and_in_order() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let (bob, mut inbox) = world.join("bob").await;
    let sending = async {
        for n in 0..2_000_u32 {
            let mut request = message("bob", "");
            request.body = Bytes::copy_from_slice(&n.to_be_bytes());
            alice.send(request).await.unwrap();
        }
    };
    let receiving = async {
        for n in 0..2_000_u32 {
            let item = timeout(Duration::from_secs(60), inbox.next()).await.unwrap().unwrap();
            assert_eq!(item.body[..], n.to_be_bytes());
            bob.done(item.key).await.unwrap();
        }
    };
    tokio::join!(sending, receiving);
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_a_recipient_that_restarts() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let (keys, store) = (Arc::new(MemoryKeys::new()), MemoryStore::new());
    let (bob, mut inbox) = start(world.config("bob", Arc::clone(&keys) as _, Arc::new(store.clone()))).await.unwrap();
    let first = alice.send(message("bob", "one")).await.unwrap();
    reaches(&first.status, Delivery::Delivered).await;
    let untaken = timeout(Duration::from_secs(30), inbox.next()).await.unwrap().unwrap();
    bob.shutdown().await.unwrap();
    drop((bob, inbox));

    let second = alice.send(message("bob", "two")).await.unwrap();
    assert_eq!(second.status.now(), Delivery::Sending);
    let store = store.reopen().unwrap();
    let (bob, mut inbox) = start(world.config("bob", keys, Arc::new(store))).await.unwrap();
    // What was shown and not done is shown again; what was missed arrives.
    let again = timeout(Duration::from_secs(30), inbox.next()).await.unwrap().unwrap();
    assert_eq!(again.key, untaken.key);
    let item = timeout(Duration::from_secs(120), inbox.next()).await.unwrap().unwrap();
    assert_eq!(item.body, "two");
    reaches(&second.status, Delivery::Delivered).await;
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_id_again_is_the_same_message() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let mut request = message("nobody", "once");
    request.message = Some(MessageId::from_bytes([7; 16]));
    let first = alice.send(request.clone()).await.unwrap();
    let second = alice.send(request).await.unwrap();
    assert_eq!((first.existing, second.existing), (false, true));
    assert_eq!(alice.metrics().await.unwrap().core.queued, 1);
    alice.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_refuses_and_a_stopped_node_says_so() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let mut refused = None;
    let mut last = None;
    for _ in 0..10_001 {
        match alice.send(message("nobody", "x")).await {
            Ok(sent) => last = Some(sent),
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(CommandError::Refused(Refusal::QueueFull)));
    alice.shutdown().await.unwrap();
    let stopped = alice.send(message("nobody", "x")).await.unwrap_err();
    assert_eq!(stopped, CommandError::Stopped);
    let last = last.unwrap().status;
    assert_eq!(last.changed(Delivery::Sending).await, Err(CommandError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_goodbye_closes_the_store_and_leaves_no_task() {
    let world = World::default();
    let store = MemoryStore::new();
    let config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(store.clone()));
    let (alice, mut alice_inbox) = start(config).await.unwrap();
    let (bob, _bob_inbox) = world.join("bob").await;
    let mut events = bob.events();
    let peer = alice.me().peer;
    let sent = alice.send(message("bob", "hello")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
    assert!(alice.tasks() > 0);
    let (one, two) = tokio::join!(alice.shutdown(), alice.shutdown());
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(alice.tasks(), 0);
    assert!(alice_inbox.next().await.is_none());
    let closed = store.load(byway_api::Load::Outbox, None, 1).await.unwrap_err();
    assert_eq!(closed.kind(), StoreErrorKind::Closed);
    assert!(!world.board.routes.lock().unwrap().contains_key(&user("alice")));
    let code = loop {
        if let Event::Disconnected { peer: gone, code, .. } = events.recv().await.unwrap() {
            assert_eq!(gone, peer);
            break code;
        }
    };
    assert_eq!(code, CloseCode::LEAVING);
    bob.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_ends_every_task() {
    let world = World::default();
    let (alice, mut inbox) = world.join("alice").await;
    let sent = alice.send(message("nobody", "x")).await.unwrap();
    let runtime = alice.inner.runtime.clone();
    drop(alice);
    runtime.join().await;
    assert_eq!(runtime.tasks(), 0);
    assert!(inbox.next().await.is_none());
    assert_eq!(sent.status.changed(Delivery::Sending).await, Err(CommandError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_user_is_disconnected_with_that_code() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let (bob, _bob_inbox) = world.join("bob").await;
    let sent = alice.send(message("bob", "hello")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
    let (mut theirs, mut ours) = (alice.events(), bob.events());
    bob.block(user("alice"), true).await.unwrap();
    for events in [&mut theirs, &mut ours] {
        let code = loop {
            if let Event::Disconnected { code, .. } = events.recv().await.unwrap() {
                break code;
            }
        };
        assert_eq!(code, CloseCode::BLOCKED);
    }
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_problem_is_reported_at_once() {
    let world = World::default();
    let store = MemoryStore::new();
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(store.clone()));
    config.transports.push(Arc::new(world.network.transport()));
    let peer = PeerId::from_bytes([1; 32]);
    let record = Bytes::from_static(b"no record");
    config.bootstrap.push(Route::new(peer, "mem:1".parse().unwrap()).with_record(record));
    let error = start(config).await.unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    let closed = store.load(byway_api::Load::Outbox, None, 1).await.unwrap_err();
    assert_eq!(closed.kind(), StoreErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_node_has_no_connection_and_resumes() {
    let world = World::default();
    let (alice, _alice_inbox) = world.join("alice").await;
    let (bob, mut inbox) = world.join("bob").await;
    let sent = alice.send(message("bob", "one")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
    let mut events = alice.events();
    alice.suspend().await.unwrap();
    while !matches!(events.recv().await.unwrap(), Event::Disconnected { .. }) {}
    assert_eq!(alice.metrics().await.unwrap().core.links, 0);
    alice.resume().await.unwrap();
    let sent = alice.send(message("bob", "two")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
    assert_eq!(inbox.next().await.unwrap().body, "one");
    assert_eq!(inbox.next().await.unwrap().body, "two");
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
