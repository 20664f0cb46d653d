//! Peers that do what they should not, spoken to without an engine at their end.

use byway_api::{BindContext, Connection, Endpoint, Instance, Received, Secret, SignalAddress, Transport};
use byway_wire::{DeviceKey, Handshake, HelloConfig, HelloStep, Role, issue_self_token, limits};

use super::*;

/// A device that speaks only what a test makes it speak.
struct Raw {
    key: DeviceKey,
    endpoint: Arc<dyn Endpoint>,
    credential: String,
    network: NetworkId,
    membership: OpenMembership,
}

impl Raw {
    async fn new(world: &World, name: &str) -> Self {
        let network: NetworkId = "test".parse().unwrap();
        let key = DeviceKey::from_seed(&Secret::new([9; 32]));
        let life = Duration::from_secs(3600);
        let peer = key.peer();
        let credential = issue_self_token(&key, &network, &user(name), &peer, now_wall(), life, [1; 16]);
        let endpoint = world.network.transport().bind(BindContext::new(peer, network.clone())).await.unwrap();
        let membership = OpenMembership::new(network.clone());
        Self { key, endpoint, credential, network, membership }
    }

    async fn open(&self, to: &EngineHandle) -> Arc<dyn Connection> {
        let me = to.me();
        self.endpoint.dial(me.peer, &me.record.addresses()[0]).await.unwrap()
    }

    async fn hello(&self, to: &EngineHandle) -> Arc<dyn Connection> {
        let connection = self.open(to).await;
        let config = HelloConfig {
            network: self.network.clone(),
            credential: self.credential.clone(),
            record_seq: 1,
            capabilities: Vec::new(),
            max_frame: limits::FRAME_MAX,
            instance: Instance::from_bytes([3; 16]),
            revocation_seq: 0,
        };
        let now = now_wall();
        let (mut handshake, first) =
            Handshake::start(Role::Dialer, &config, &self.key, &connection.binding(), [5; 32], now);
        connection.send(first).await.unwrap();
        loop {
            let Received::Frame(frame) = connection.recv().await.unwrap() else { panic!("closed in Hello") };
            match handshake.receive(frame, &self.key, &self.membership, now).unwrap() {
                HelloStep::Send(frame) => connection.send(frame).await.unwrap(),
                HelloStep::Done { send, .. } => {
                    if let Some(frame) = send {
                        connection.send(frame).await.unwrap();
                    }
                    return connection;
                }
                _ => {}
            }
        }
    }
}

async fn end(connection: &dyn Connection) -> CloseCode {
    loop {
        if let Received::Closed(code) = connection.recv().await.unwrap() {
            return code;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_hello_is_closed_after_five_seconds() {
    let world = World::default();
    let (alice, _inbox) = world.join("alice").await;
    let mallory = Raw::new(&world, "mallory").await;
    let silent = mallory.open(&alice).await;
    let before = alice.inner.runtime.now().tick;
    assert_eq!(end(&*silent).await, CloseCode::TIMEOUT);
    assert_eq!(alice.inner.runtime.now().tick.since(before), limits::HELLO_TIMEOUT);

    let babbling = mallory.open(&alice).await;
    babbling.send(Bytes::from_static(b"GET / HTTP/1.1")).await.unwrap();
    assert_eq!(end(&*babbling).await, CloseCode::REFUSED);
    let metrics = alice.metrics().await.unwrap();
    assert_eq!((metrics.handshakes_failed, metrics.core.connects), (2, 0));
    alice.shutdown().await.unwrap();
    mallory.endpoint.close().await;
}

#[tokio::test(start_paused = true)]
async fn at_most_64_connections_are_half_open() {
    let world = World::default();
    let (alice, _inbox) = world.join("alice").await;
    let mallory = Raw::new(&world, "mallory").await;
    let mut open = Vec::new();
    for _ in 0..limits::HALF_OPEN {
        open.push(mallory.open(&alice).await);
        tokio::task::yield_now().await;
    }
    let one_more = mallory.open(&alice).await;
    let before = alice.inner.runtime.now().tick;
    assert_eq!(end(&*one_more).await, CloseCode::LOST);
    assert_eq!(alice.inner.runtime.now().tick, before);
    assert_eq!(alice.metrics().await.unwrap().half_open_refused, 1);
    // An honest member gets in as soon as the others have been thrown out.
    for connection in &open {
        assert_eq!(end(&**connection).await, CloseCode::TIMEOUT);
    }
    mallory.hello(&alice).await;
    alice.shutdown().await.unwrap();
    mallory.endpoint.close().await;
}

#[tokio::test(start_paused = true)]
async fn garbage_after_hello_is_counted_and_ends_the_link() {
    let world = World::default();
    let (alice, _inbox) = world.join("alice").await;
    let mallory = Raw::new(&world, "mallory").await;
    let connection = mallory.hello(&alice).await;
    for _ in 0..=limits::PROTOCOL_ERRORS {
        let _ = connection.send(Bytes::from_static(&[0xff; 40])).await;
    }
    assert_eq!(end(&*connection).await, CloseCode::PROTOCOL);
    assert!(alice.metrics().await.unwrap().core.protocol_errors >= u64::from(limits::PROTOCOL_ERRORS));
    alice.shutdown().await.unwrap();
    mallory.endpoint.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_up_neither_the_node_nor_its_shutdown() {
    let world = World::default();
    let (alice, _inbox) = world.join("alice").await;
    let mallory = Raw::new(&world, "mallory").await;
    let connection = mallory.hello(&alice).await;
    let mut queued = 0;
    for _ in 0..2_000 {
        let mut request = message("mallory", "");
        request.body = Bytes::from(vec![7; 4_096]);
        alice.send(request).await.unwrap();
        queued += 1;
    }
    assert_eq!(alice.metrics().await.unwrap().core.queued, queued);
    let before = alice.inner.runtime.now().tick;
    alice.shutdown().await.unwrap();
    let took = alice.inner.runtime.now().tick.since(before);
    assert!(took <= 3 * Settings::default().shutdown_wait, "{took:?}");
    assert_eq!(alice.tasks(), 0);
    drop(connection);
    mallory.endpoint.close().await;
}

/// Says that a user is at another one's address.
#[derive(Debug)]
struct Liar(PeerId, SignalAddress);

#[async_trait]
impl DiscoveryStep for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let _ = lookup.found(Route::new(self.0, self.1.clone()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn another_device_at_the_address_gets_nothing() {
    let world = World::default();
    let (bob, _bob_inbox) = world.join("bob").await;
    let ghost = PeerId::from_bytes(*DeviceKey::from_seed(&Secret::new([8; 32])).peer().as_bytes());
    let mut config = world.config("alice", Arc::new(MemoryKeys::new()), Arc::new(MemoryStore::new()));
    config.steps = vec![Arc::new(Liar(ghost, bob.me().record.addresses()[0].clone()))];
    let (alice, _alice_inbox) = start(config).await.unwrap();
    let sent = alice.send(message("ghost", "secret")).await.unwrap();
    let moved = timeout(Duration::from_secs(20), sent.status.changed(Delivery::Sending)).await;
    assert!(moved.is_none(), "{moved:?}");
    let metrics = alice.metrics().await.unwrap();
    assert_eq!((metrics.core.connects, metrics.core.links), (0, 0));
    assert_eq!(bob.metrics().await.unwrap().core.received, 0);
    let explanation = alice.explain(user("ghost")).await.unwrap().unwrap();
    assert!(!explanation.dials.is_empty(), "it was tried: {explanation:?}");
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
