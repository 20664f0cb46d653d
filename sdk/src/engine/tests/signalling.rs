//! A transport that needs signals, and what carries them.

use std::sync::atomic::{AtomicBool, Ordering};

use byway_api::{
    BindContext, Carried, Connection, Endpoint, Incoming, Sealed, Security, Signal, SignalAddress, SignalContext,
    SignalError, SignalErrorKind, SignalKind, SignalPort, Signaling, Transport, TransportCaps, TransportError,
    TransportErrorKind,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use super::*;

/// A post office that every member of a test is attached to: what a registry's sockets are.
#[derive(Debug, Default)]
struct Post {
    boxes: Mutex<BTreeMap<PeerId, mpsc::Sender<Carried>>>,
    down: AtomicBool,
    twice: AtomicBool,
}

const BASE: &str = "ws://post";

#[derive(Debug)]
struct Carrier {
    post: Arc<Post>,
    me: Mutex<Option<PeerId>>,
    mail: AsyncMutex<mpsc::Receiver<Carried>>,
    put: Mutex<Option<mpsc::Sender<Carried>>>,
}

impl Carrier {
    fn new(post: &Arc<Post>) -> Arc<Self> {
        let (put, mail) = mpsc::channel(64);
        let (mail, put) = (AsyncMutex::new(mail), Mutex::new(Some(put)));
        Arc::new(Self { post: Arc::clone(post), me: Mutex::default(), mail, put })
    }
}

#[async_trait]
impl Signaling for Carrier {
    fn name(&self) -> &'static str {
        "post"
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        *self.me.lock().unwrap() = Some(cx.me);
        let put = self.put.lock().unwrap().take().unwrap();
        self.post.boxes.lock().unwrap().insert(cx.me, put);
        Ok(())
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        at.socket_parts().is_some_and(|(base, _)| base == BASE)
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        let me = *self.me.lock().unwrap();
        me.into_iter().map(|me| SignalAddress::socket(BASE, me).unwrap()).collect()
    }

    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        let error = |kind| Err(SignalError::new(kind, "post", ""));
        if self.post.down.load(Ordering::Relaxed) {
            return error(SignalErrorKind::Unreachable);
        }
        let (_, to) = at.socket_parts().unwrap();
        assert_eq!(to, mail.to);
        let me = self.me.lock().unwrap().unwrap();
        let carried = Carried { mail, back: SignalAddress::socket(BASE, me).unwrap() };
        let boxes = self.post.boxes.lock().unwrap();
        let Some(put) = boxes.get(&to) else { return error(SignalErrorKind::NoSuchPeer) };
        if self.post.twice.load(Ordering::Relaxed) {
            put.try_send(carried.clone()).unwrap();
        }
        put.try_send(carried).unwrap();
        Ok(())
    }

    async fn recv(&self) -> Option<Carried> {
        self.mail.lock().await.recv().await
    }

    async fn close(&self) {
        let me = *self.me.lock().unwrap();
        if let Some(me) = me {
            self.post.boxes.lock().unwrap().remove(&me);
        }
    }
}

/// The memory transport behind a handshake: its address travels in an offer and an answer.
#[derive(Debug)]
struct Shy(MemoryNetwork);

#[derive(Debug)]
struct ShyEndpoint {
    inner: Arc<dyn Endpoint>,
    port: Arc<dyn SignalPort>,
    answers: Mutex<BTreeMap<Bytes, oneshot::Sender<SignalAddress>>>,
    pump: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

fn signal(kind: SignalKind, session: &Bytes, body: &SignalAddress) -> Signal {
    let body = Bytes::copy_from_slice(body.as_str().as_bytes());
    Signal { kind, session: session.clone(), body, transport: String::new() }
}

#[async_trait]
impl Transport for Shy {
    fn name(&self) -> &'static str {
        "shy"
    }

    fn caps(&self) -> TransportCaps {
        TransportCaps::new(65_536, true, false, Security::InProcess)
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        let port = cx.signals.clone().expect("a port for a transport that needs one");
        let inner = self.0.transport().bind(BindContext::new(cx.me, cx.network)).await?;
        let endpoint = Arc::new(ShyEndpoint { inner, port, answers: Mutex::default(), pump: Mutex::default() });
        let pumping = Arc::clone(&endpoint);
        #[expect(clippy::disallowed_methods, reason = "aborted by close")]
        let pump = tokio::spawn(async move { pumping.pump().await });
        *endpoint.pump.lock().unwrap() = Some(pump);
        Ok(endpoint)
    }
}

impl ShyEndpoint {
    async fn pump(&self) {
        while let Some(incoming) = self.port.next().await {
            let Signal { kind, session, body, transport } = incoming.signal;
            assert_eq!(transport, "shy");
            match kind {
                SignalKind::Offer => {
                    let answer = signal(SignalKind::Answer, &session, &self.inner.addresses()[0]);
                    let _ = self.port.send(incoming.from, &incoming.back, answer).await;
                }
                SignalKind::Answer => {
                    let waiting = self.answers.lock().unwrap().remove(&session);
                    let at = std::str::from_utf8(&body).unwrap().parse().unwrap();
                    waiting.expect("each answer comes once").send(at).unwrap();
                }
                _ => {}
            }
        }
    }
}

#[async_trait]
impl Endpoint for ShyEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        Vec::new()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        let session = Bytes::copy_from_slice(&runtime::random::<16>().unwrap());
        let (answered, answer) = oneshot::channel();
        self.answers.lock().unwrap().insert(session.clone(), answered);
        let failed = |e| TransportError::new(TransportErrorKind::Signaling, "shy", "").with_source(e);
        let offer = signal(SignalKind::Offer, &session, &self.inner.addresses()[0]);
        self.port.send(peer, to, offer).await.map_err(failed)?;
        let at = answer.await.map_err(|_| TransportError::new(TransportErrorKind::Closed, "shy", ""))?;
        self.inner.dial(peer, &at).await
    }

    async fn next(&self) -> Option<Incoming> {
        self.inner.next().await
    }

    async fn close(&self) {
        let pump = self.pump.lock().unwrap().take();
        if let Some(pump) = pump {
            pump.abort();
            let _ = pump.await;
        }
        self.inner.close().await;
    }
}

impl World {
    async fn join_shyly(&self, name: &str, post: &Arc<Post>) -> (EngineHandle, InboxReceiver) {
        let mut config = self.config(name, Arc::new(MemoryKeys::new()), Arc::new(MemoryStore::new()));
        config.transports = vec![Arc::new(Shy(self.network.clone()))];
        config.carriers.push(Carrier::new(post));
        start(config).await.unwrap()
    }
}

async fn deliver(from: &EngineHandle, to: &str) {
    let sent = from.send(message(to, "hello")).await.unwrap();
    reaches(&sent.status, Delivery::Delivered).await;
}

#[tokio::test(start_paused = true)]
async fn strangers_connect_by_sealed_signals_over_a_carrier() {
    let (world, post) = (World::default(), Arc::new(Post::default()));
    let (alice, _alice_inbox) = world.join_shyly("alice", &post).await;
    let (bob, _bob_inbox) = world.join_shyly("bob", &post).await;
    assert_eq!(alice.me().record.addresses(), [SignalAddress::socket(BASE, alice.me().peer).unwrap()]);
    deliver(&alice, "bob").await;
    let (a, b) = (alice.metrics().await.unwrap(), bob.metrics().await.unwrap());
    assert_eq!((a.core.links, b.core.links), (1, 1));
    // The carrier is a home: its signals are counted apart, and cost no call.
    assert_eq!((a.registry_signals, b.registry_signals), (1, 1));
    assert_eq!((a.signals_received, a.signals_dropped, a.registry_calls), (1, 0, 0));
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
    assert_eq!((alice.tasks(), bob.tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_played_twice_arrives_once() {
    let (world, post) = (World::default(), Arc::new(Post::default()));
    post.twice.store(true, Ordering::Relaxed);
    let (alice, _alice_inbox) = world.join_shyly("alice", &post).await;
    let (bob, _bob_inbox) = world.join_shyly("bob", &post).await;
    deliver(&alice, "bob").await;
    let (a, b) = (alice.metrics().await.unwrap(), bob.metrics().await.unwrap());
    assert_eq!((a.signals_received, a.signals_dropped), (1, 1));
    assert_eq!((b.signals_received, b.signals_dropped), (1, 1));
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_server_signals_go_through_a_mutual_neighbour() {
    let (world, post) = (World::default(), Arc::new(Post::default()));
    let (carol, _carol_inbox) = world.join_shyly("carol", &post).await;
    let (alice, _alice_inbox) = world.join_shyly("alice", &post).await;
    let (bob, _bob_inbox) = world.join_shyly("bob", &post).await;
    deliver(&alice, "carol").await;
    deliver(&bob, "carol").await;
    post.down.store(true, Ordering::Relaxed);
    deliver(&alice, "bob").await;
    let metrics = [alice.metrics().await.unwrap(), bob.metrics().await.unwrap()];
    for m in &metrics {
        assert_eq!(m.core.links, 2);
    }
    assert!(metrics.iter().map(|m| m.neighbour_signals).sum::<u64>() >= 2, "{metrics:?}");
    assert!(carol.metrics().await.unwrap().core.relayed >= 2);
    for node in [alice, bob, carol] {
        node.shutdown().await.unwrap();
        assert_eq!(node.tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn signals_of_a_blocked_user_reach_no_transport() {
    let (world, post) = (World::default(), Arc::new(Post::default()));
    let (alice, _alice_inbox) = world.join_shyly("alice", &post).await;
    let (bob, _bob_inbox) = world.join_shyly("bob", &post).await;
    bob.block(user("alice"), true).await.unwrap();
    let sent = alice.send(message("bob", "hello")).await.unwrap();
    let wait = timeout(Duration::from_secs(60), sent.status.changed(Delivery::Sending)).await;
    assert!(wait.is_none(), "{wait:?}");
    let b = bob.metrics().await.unwrap();
    assert_eq!((b.signals_received, b.core.connects), (0, 0));
    assert!(b.signals_dropped > 0);
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
