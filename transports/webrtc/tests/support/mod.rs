//! A signalling network inside the test process, and shorthand.

#![allow(clippy::disallowed_methods)] // tests may spawn
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{
    BindContext, Connection, Endpoint, Incoming, NetworkId, PeerId, Signal, SignalAddress, SignalError,
    SignalErrorKind, SignalIn, SignalKind, SignalPort, Transport,
};
use byway_transport_webrtc::{Stats, WebRtc, WebRtcEndpoint};
use tokio::sync::mpsc;

/// Nothing in these tests takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What happens to a signal on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Deliver,
    Drop,
    Twice,
    /// Kept until `Hub::release`.
    Hold,
    Refuse,
    Replace(Bytes),
}

type Rule = Box<dyn Fn(PeerId, PeerId, &Signal) -> Fate + Send + Sync>;

#[derive(Default)]
struct State {
    inboxes: HashMap<PeerId, mpsc::Sender<SignalIn>>,
    held: Vec<(PeerId, SignalIn)>,
    sent: Vec<(PeerId, PeerId, SignalKind)>,
    rule: Option<Rule>,
}

/// The network.
#[derive(Clone, Default)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    arrived: Arc<tokio::sync::Notify>,
}

impl Hub {
    pub fn port(&self, me: PeerId) -> Arc<Port> {
        let (sender, receiver) = mpsc::channel(1024);
        self.state.lock().unwrap().inboxes.insert(me, sender);
        Arc::new(Port { me, hub: self.clone(), inbox: tokio::sync::Mutex::new(receiver) })
    }

    pub fn rule(&self, rule: impl Fn(PeerId, PeerId, &Signal) -> Fate + Send + Sync + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Delivers what was held, and everything from now on.
    pub fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.rule = None;
        for (to, signal) in std::mem::take(&mut state.held) {
            state.inboxes[&to].try_send(signal).unwrap();
        }
    }

    /// How often a signal of this kind was sent.
    pub fn count(&self, kind: SignalKind) -> usize {
        self.state.lock().unwrap().sent.iter().filter(|(_, _, sent)| *sent == kind).count()
    }

    /// Waits until that many signals of this kind were sent.
    pub async fn sent(&self, kind: SignalKind, count: usize) {
        let wait = async {
            loop {
                let notified = self.arrived.notified();
                if self.count(kind) >= count {
                    return;
                }
                notified.await;
            }
        };
        within(wait).await;
    }

    /// Hands a signal over as if `from` had sent it.
    pub fn inject(&self, from: PeerId, to: PeerId, signal: Signal) {
        let state = self.state.lock().unwrap();
        state.inboxes[&to].try_send(SignalIn::new(from, at(from), signal)).unwrap();
    }
}

/// One device's access to the network.
pub struct Port {
    me: PeerId,
    hub: Hub,
    inbox: tokio::sync::Mutex<mpsc::Receiver<SignalIn>>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Port({:?})", self.me)
    }
}

#[async_trait]
impl SignalPort for Port {
    async fn send(&self, to: PeerId, _: &SignalAddress, mut signal: Signal) -> Result<(), SignalError> {
        let mut state = self.hub.state.lock().unwrap();
        let fate = state.rule.as_ref().map_or(Fate::Deliver, |rule| rule(self.me, to, &signal));
        state.sent.push((self.me, to, signal.kind));
        self.hub.arrived.notify_waiters();
        let copies = match fate {
            Fate::Drop => 0,
            Fate::Twice => 2,
            Fate::Refuse => return Err(SignalError::new(SignalErrorKind::NoSuchPeer, "hub", "")),
            Fate::Hold => {
                state.held.push((to, SignalIn::new(self.me, at(self.me), signal.clone())));
                0
            }
            Fate::Replace(body) => {
                signal.body = body;
                1
            }
            Fate::Deliver => 1,
        };
        for _ in 0..copies {
            let inbox =
                state.inboxes.get(&to).ok_or_else(|| SignalError::new(SignalErrorKind::NoSuchPeer, "hub", ""))?;
            inbox
                .try_send(SignalIn::new(self.me, at(self.me), signal.clone()))
                .map_err(|_| SignalError::new(SignalErrorKind::Unreachable, "hub", ""))?;
        }
        Ok(())
    }

    async fn next(&self) -> Option<SignalIn> {
        self.inbox.lock().await.recv().await
    }
}

pub fn peer(n: u32) -> PeerId {
    let mut key = [1; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(key)
}

/// The signalling address of a device.
pub fn at(peer: PeerId) -> SignalAddress {
    SignalAddress::socket("ws://127.0.0.1:1", peer).unwrap()
}

pub fn context(hub: &Hub, me: PeerId) -> BindContext {
    BindContext::new(me, NetworkId::new("test").unwrap()).with_signals(hub.port(me))
}

/// A transport that stays on this machine.
pub fn local() -> WebRtc {
    WebRtc::default().bind("127.0.0.1:0".parse().unwrap())
}

pub async fn open(transport: &WebRtc, hub: &Hub, me: PeerId) -> Arc<WebRtcEndpoint> {
    Arc::new(transport.open(context(hub, me)).await.unwrap())
}

pub async fn bind(transport: &dyn Transport, hub: &Hub, me: PeerId) -> Arc<dyn Endpoint> {
    transport.bind(context(hub, me)).await.unwrap()
}

/// Two endpoints of devices 1 and 2.
pub async fn pair(hub: &Hub) -> (Arc<WebRtcEndpoint>, Arc<WebRtcEndpoint>) {
    (open(&local(), hub, peer(1)).await, open(&local(), hub, peer(2)).await)
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened in time")
}

/// The next accepted connection.
pub async fn accept(endpoint: &dyn Endpoint) -> Arc<dyn Connection> {
    match within(endpoint.next()).await {
        Some(Incoming::Connection(connection)) => connection,
        other => panic!("expected a connection, got {other:?}"),
    }
}

/// `a` dials device `to` at `b`: the dialled and the accepted connection.
pub async fn connect(a: &dyn Endpoint, b: &dyn Endpoint, to: PeerId) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let address = at(to);
    let (dialled, accepted) = tokio::join!(within(a.dial(to, &address)), accept(b));
    (dialled.unwrap(), accepted)
}

pub async fn frame(connection: &dyn Connection) -> Bytes {
    match within(connection.recv()).await.unwrap() {
        byway_api::Received::Frame(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}

pub async fn closed(connection: &dyn Connection) -> byway_api::CloseCode {
    loop {
        if let byway_api::Received::Closed(code) = within(connection.recv()).await.unwrap() {
            return code;
        }
    }
}

/// True if nothing of a connection or attempt is left.
pub fn is_idle(stats: &Stats) -> bool {
    (stats.connections, stats.attempts, stats.sessions, stats.ufrags, stats.transactions, stats.remotes, stats.timers)
        == (0, 0, 0, 0, 0, 0, 0)
}

/// Waits until `condition` holds, looking whenever the runtime has nothing else to do.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A wire between devices 1 and 2 that can be cut: each sees the other at an address of the wire.
pub struct Wire {
    faces: [std::net::SocketAddr; 2],
    state: Arc<WireState>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct WireState {
    cut: std::sync::atomic::AtomicBool,
    real: Mutex<[Option<std::net::SocketAddr>; 2]>,
}

impl Wire {
    /// Lays the wire and rewrites the candidates in `hub`'s signals.
    pub async fn lay(hub: &Hub) -> Self {
        let bind = || tokio::net::UdpSocket::bind("127.0.0.1:0");
        let sockets = [bind().await.unwrap(), bind().await.unwrap()];
        let faces = [sockets[0].local_addr().unwrap(), sockets[1].local_addr().unwrap()];
        let state = Arc::new(WireState::default());
        let rule_state = Arc::clone(&state);
        hub.rule(move |from, _, signal| {
            if !matches!(signal.kind, SignalKind::Offer | SignalKind::Answer) {
                return Fate::Deliver;
            }
            let side = usize::from(from == peer(2));
            let body = String::from_utf8(signal.body.to_vec()).unwrap();
            let line = body.lines().find(|line| line.starts_with("a=candidate")).unwrap();
            let port: u16 = line.split(' ').nth(5).unwrap().parse().unwrap();
            rule_state.real.lock().unwrap()[side] = Some(([127, 0, 0, 1], port).into());
            Fate::Replace(body.replace(&format!(" {port} typ"), &format!(" {} typ", faces[side].port())).into())
        });
        let task_state = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut buffers = [vec![0; 65_536], vec![0; 65_536]];
            loop {
                // what arrives at one face leaves from the other
                let [a, b] = &mut buffers;
                let (side, len) = tokio::select! {
                    got = sockets[0].recv_from(a) => (0, got.unwrap().0),
                    got = sockets[1].recv_from(b) => (1, got.unwrap().0),
                };
                let real = task_state.real.lock().unwrap()[side];
                if let (false, Some(real)) = (task_state.cut.load(std::sync::atomic::Ordering::SeqCst), real) {
                    let _ = sockets[1 - side].send_to(&buffers[side][..len], real).await;
                }
            }
        });
        Self { faces, state, task }
    }

    /// Lets nothing through, or everything again.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
