//! Plugins that fail, panic or change under the engine.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use byway_api::{
    Applied, BindContext, Connection, Endpoint, Incoming, Key, Load, Row, Security, SignalAddress, StepErrorKind,
    StoreError, Transport, TransportCaps, TransportError, TransportErrorKind, Write,
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

/// A store that does not take messages.
#[derive(Debug)]
struct Faulty(MemoryStore, Fault);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Full,
    Panics,
    Hangs,
}

#[async_trait]
impl RouteStore for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        if batch.iter().any(|write| matches!(write, Write::Append(_))) {
            match self.1 {
                Fault::Full => return Err(StoreError::new(StoreErrorKind::DiskFull, "faulty", "")),
                Fault::Panics => panic!("a bug in a store"),
                Fault::Hangs => std::future::pending().await,
            }
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
    for (fault, kind) in [(Fault::Full, StoreErrorKind::DiskFull), (Fault::Panics, StoreErrorKind::Io)] {
        let world = World::default();
        let store = Arc::new(Faulty(MemoryStore::new(), fault));
        let (alice, _inbox) = start(world.config("alice", Arc::new(MemoryKeys::new()), store)).await.unwrap();
        let mut events = alice.events();
        // Twice: one failure does not spoil the next answer.
        for _ in 0..2 {
            let error = alice.send(message("bob", "hello")).await.unwrap_err();
            assert_eq!(error, CommandError::Refused(Refusal::Store(kind)), "{fault:?}");
        }
        while events.recv().await.unwrap() != Event::StoreFailed(kind) {}
        assert_eq!(alice.metrics().await.unwrap().core.queued, 0);
        alice.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_up_a_shutdown() {
    let world = World::default();
    let store = Arc::new(Faulty(MemoryStore::new(), Fault::Hangs));
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), store);
    config.settings.store_queue = 4;
    let (alice, _inbox) = start(config).await.unwrap();
    let sending = async {
        let mut sends = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let alice = alice.clone();
            sends.spawn(async move { alice.send(message("bob", "hello")).await });
        }
        while let Some(sent) = sends.join_next().await {
            assert_eq!(sent.unwrap().unwrap_err(), CommandError::Stopped);
        }
    };
    let before = alice.inner.runtime.now().tick;
    let stopping = async {
        timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
        alice.shutdown().await
    };
    let ((), closed) = tokio::join!(sending, stopping);
    closed.unwrap();
    let took = alice.inner.runtime.now().tick.since(before);
    assert!(took <= Duration::from_secs(1) + 4 * Settings::default().shutdown_wait, "{took:?}");
    assert_eq!(alice.tasks(), 0);
}

/// A transport that sends plain bytes.
#[derive(Debug)]
struct Plain;

#[async_trait]
impl Transport for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn caps(&self) -> TransportCaps {
        TransportCaps::new(65_536, false, false, Security::Insecure)
    }

    async fn bind(&self, _: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        unreachable!("it is refused before")
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_does_not_encrypt_is_refused() {
    let world = World::default();
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(MemoryStore::new()));
    config.transports.push(Arc::new(Plain));
    let error = start(config).await.unwrap_err();
    assert!(matches!(error.problems[..], [StartProblem::Insecure("plain")]), "{error}");
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
