//! Plugins that fail, panic or change under the engine.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use byway_api::{
    Applied, BindContext, Connection, Endpoint, Incoming, Key, Load, Row, SignalAddress, StepErrorKind, StoreError,
    Transport, TransportCaps, TransportError, TransportErrorKind, Write,
};

use super::*;

#[derive(Debug)]
struct Panics(AtomicUsize);

#[async_trait]
impl DiscoveryStep for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    async fn find(&self, _: &dyn Lookup) -> Result<(), StepError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a bug in a plugin");
    }

    async fn announce(&self, _: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        Err(StepError::new(StepErrorKind::Unreachable, "panics", ""))
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_does_not_end_the_search() {
    let world = World::default();
    let step = Arc::new(Panics(AtomicUsize::new(0)));
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(MemoryStore::new()));
    config.steps.insert(0, Arc::clone(&step) as _);
    let (alice, _alice_inbox) = start(config).await.unwrap();
    let (bob, _bob_inbox) = world.join("bob").await;
    let sent = alice.send(message("bob", "hello")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
    assert_eq!(step.0.load(Ordering::Relaxed), 1);
    let explanation = alice.explain(user("bob")).await.unwrap().unwrap();
    assert!(explanation.steps[0].outcome.contains("panicked"), "{explanation:?}");
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
    assert_eq!(alice.tasks(), 0);
}

/// A store whose disk is full.
#[derive(Debug)]
struct Full(MemoryStore);

#[async_trait]
impl RouteStore for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        if batch.iter().any(|write| matches!(write, Write::Append(_))) {
            return Err(StoreError::new(StoreErrorKind::DiskFull, "full", ""));
        }
        self.0.apply(batch).await
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.0.load(what, after, limit).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_stored_is_refused_and_an_event_tells_why() {
    let world = World::default();
    let store = Arc::new(Full(MemoryStore::new()));
    let (alice, _inbox) = start(world.config("alice", Arc::new(MemoryKeys::new()), store)).await.unwrap();
    let mut events = alice.events();
    let error = alice.send(message("bob", "hello")).await.unwrap_err();
    assert_eq!(error, CommandError::Refused(Refusal::Store(StoreErrorKind::DiskFull)));
    while events.recv().await.unwrap() != Event::StoreFailed(StoreErrorKind::DiskFull) {}
    assert_eq!(alice.metrics().await.unwrap().core.queued, 0);
    alice.shutdown().await.unwrap();
}

/// The memory transport with an address that is another one after each change of the network.
#[derive(Debug)]
struct Moving(MemoryNetwork, Arc<AtomicU16>);

#[derive(Debug)]
struct MovingEndpoint(Arc<dyn Endpoint>, Arc<AtomicU16>);

#[async_trait]
impl Transport for Moving {
    fn name(&self) -> &'static str {
        "moving"
    }

    fn caps(&self) -> TransportCaps {
        self.0.transport().caps()
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(MovingEndpoint(self.0.transport().bind(cx).await?, Arc::clone(&self.1))))
    }
}

#[async_trait]
impl Endpoint for MovingEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        vec![format!("moving:{}", self.1.load(Ordering::Relaxed)).parse().unwrap()]
    }

    async fn dial(&self, _: PeerId, _: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Timeout, "moving", ""))
    }

    async fn next(&self) -> Option<Incoming> {
        self.0.next().await
    }

    async fn network_changed(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_network_reaches_the_plugins_and_the_new_addresses_are_announced() {
    let world = World::default();
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(MemoryStore::new()));
    config.transports = vec![Arc::new(Moving(world.network.clone(), Arc::default()))];
    let (alice, _inbox) = start(config).await.unwrap();
    let announced = || world.board.routes.lock().unwrap().get(&user("alice")).map(|(_, r)| r[0].address.to_string());
    timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
    assert_eq!(announced().as_deref(), Some("moving:0"));
    let seq = alice.me().record.seq();
    alice.network_changed();
    timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
    assert_eq!(announced().as_deref(), Some("moving:1"));
    assert!(alice.me().record.seq() > seq);
    alice.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_day_brings_a_new_seal_key_and_a_restart_goes_on_counting() {
    let world = World::default();
    let (keys, store) = (Arc::new(MemoryKeys::new()), MemoryStore::new());
    let config = world.config("alice", Arc::clone(&keys) as _, Arc::new(store.clone()));
    let (alice, _inbox) = start(config).await.unwrap();
    let first = alice.me().record;
    timeout(Duration::from_secs(25 * 60 * 60), std::future::pending::<()>()).await;
    let second = alice.me().record;
    assert!(second.seq() > first.seq());
    assert_ne!(second.seal_keys()[0].public_key, first.seal_keys()[0].public_key);
    assert_ne!(second.credential(), first.credential());
    assert_eq!(keys.load().unwrap().unwrap().seal.len(), 2);
    alice.shutdown().await.unwrap();

    // The clock of the second run is a day behind the first one's.
    let config = world.config("alice", keys, Arc::new(store.reopen().unwrap()));
    let (alice, _inbox) = start(config).await.unwrap();
    assert!(alice.me().record.seq() > second.seq());
    alice.shutdown().await.unwrap();
}
