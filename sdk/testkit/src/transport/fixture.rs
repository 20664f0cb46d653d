use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use byway_api::{
    BindContext, Bytes, Connection, Endpoint, Incoming, NetworkId, PeerId, Received, Secret, SignalAddress, Transport,
    TransportCaps,
};
use byway_wire::DeviceKey;

use crate::promise::{Broken, ensure, within};
use crate::signals::{Switchboard, switchboard};

/// What the suite grants a transport.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 60 s.
    pub deadline: Duration,
    /// A dial ends, with whatever result, and anything else that is owed comes. Default 15 s.
    pub patience: Duration,
    /// After this long without an event the suite takes it that none will come. Default 500 ms.
    pub quiet: Duration,
    /// The most a connection may take while nobody reads, in bytes. Default 64 MiB.
    pub buffered_bytes: usize,
    /// The same in frames. Default 262,144.
    pub buffered_frames: usize,
    /// The most connections that may wait for `next`. Default 128.
    pub accepted: usize,
    /// How many dials the transport stands at once. Default 16.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            patience: Duration::from_secs(15),
            quiet: Duration::from_millis(500),
            buffered_bytes: 64 << 20,
            buffered_frames: 1 << 18,
            accepted: 128,
            parallel: 16,
        }
    }
}

/// The transport under test, or two that must understand each other. What it needs for its life, such as a
/// temporary directory, belongs into a transport of the test that wraps it.
#[derive(Debug)]
pub struct TransportFixture {
    a: Arc<dyn Transport>,
    b: Arc<dyn Transport>,
    limits: Limits,
    peers: AtomicU64,
    /// Of the devices made here.
    seeds: Mutex<BTreeMap<PeerId, Secret>>,
}

impl TransportFixture {
    /// Both sides use `transport`.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self::mixed(Arc::clone(&transport), transport)
    }

    /// Two implementations of the same transport. Every promise is tested in both directions.
    pub fn mixed(a: Arc<dyn Transport>, b: Arc<dyn Transport>) -> Self {
        Self { a, b, limits: Limits::default(), peers: AtomicU64::new(0), seeds: Mutex::default() }
    }

    /// Other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What both transports can do.
    pub fn caps(&self) -> TransportCaps {
        let (a, b) = (self.a.caps(), self.b.caps());
        TransportCaps::new(
            a.max_frame.min(b.max_frame),
            a.needs_signaling,
            a.traverses_nat && b.traverses_nat,
            a.security,
        )
    }

    /// The transports.
    pub fn transports(&self) -> [&Arc<dyn Transport>; 2] {
        [&self.a, &self.b]
    }

    /// Fresh pairs of endpoints, one for each direction: with each transport as dialler, and with
    /// each side having the smaller [`PeerId`].
    ///
    /// # Errors
    /// [`Broken`] if a transport cannot be bound or has no address.
    pub async fn pairs(&self) -> Result<[Pair; 2], Broken> {
        Ok([self.pair(&self.a, &self.b, true).await?, self.pair(&self.b, &self.a, false).await?])
    }

    async fn pair(&self, near: &Arc<dyn Transport>, far: &Arc<dyn Transport>, smaller: bool) -> Result<Pair, Broken> {
        let signals = switchboard();
        let (x, y) = (self.new_peer(), self.new_peer());
        let (low, high) = (x.min(y), x.max(y));
        let (near_peer, far_peer) = if smaller { (low, high) } else { (high, low) };
        let near = self.side(near, near_peer, &signals).await?;
        let far = self.side(far, far_peer, &signals).await?;
        Ok(Pair { near, far, signals, caps: self.caps(), limits: self.limits })
    }

    /// Binds `transport` for the device `peer`, with a port of `signals` and the seed of the device's key if
    /// it needs them.
    ///
    /// # Errors
    /// [`Broken`] if it cannot be bound or has no address, or needs a seed and `peer` was not made here.
    pub async fn side(
        &self,
        transport: &Arc<dyn Transport>,
        peer: PeerId,
        signals: &Switchboard,
    ) -> Result<Side, Broken> {
        let network = NetworkId::new("conformance").map_err(|e| Broken::new(e.to_string()))?;
        let mut cx = BindContext::new(peer, network);
        let signalled = transport.caps().needs_signaling;
        if signalled {
            cx = cx.with_signals(signals.port(peer, transport.name()));
        }
        if transport.caps().proves_identity {
            let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
            cx = cx.with_identity(seed.ok_or_else(|| Broken::new(format!("the seed of {peer} is not known")))?);
        }
        let endpoint = within(self.limits.patience, "bind", transport.bind(cx)).await?;
        let endpoint = endpoint.map_err(|e| Broken::new(format!("bind failed: {e}")))?;
        let address =
            if signalled { Some(Switchboard::address(peer)) } else { endpoint.addresses().into_iter().next() };
        let address = address.ok_or_else(|| Broken::new("a transport without signalling has no address to dial"))?;
        Ok(Side { peer, endpoint, address, transport: Arc::clone(transport) })
    }

    /// A device that no endpoint has.
    pub fn new_peer(&self) -> PeerId {
        let mut numbers = Numbers(self.peers.fetch_add(1, Ordering::Relaxed));
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&numbers.next().to_be_bytes());
        }
        let seed = Secret::new(seed);
        let peer = DeviceKey::from_seed(&seed).peer();
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, seed);
        peer
    }
}

/// One bound endpoint and how others reach it.
#[derive(Debug)]
pub struct Side {
    /// Its device.
    pub peer: PeerId,
    /// The endpoint.
    pub endpoint: Arc<dyn Endpoint>,
    /// What the other side dials.
    pub address: SignalAddress,
    transport: Arc<dyn Transport>,
}

impl Side {
    /// Dials `far`, without taking the connection at the far side.
    ///
    /// # Errors
    /// [`Broken`] if it fails or takes too long.
    pub async fn dial(&self, far: &Self, limits: &Limits) -> Result<Arc<dyn Connection>, Broken> {
        let dialled = within(limits.patience, "dial", self.endpoint.dial(far.peer, &far.address)).await?;
        dialled.map_err(|e| Broken::new(format!("dial failed: {e}")))
    }

    /// The next connection out of `next`; address changes are passed over.
    ///
    /// # Errors
    /// [`Broken`] if none comes.
    pub async fn accept(&self, limits: &Limits) -> Result<Arc<dyn Connection>, Broken> {
        within(limits.patience, "an accepted connection", async {
            loop {
                match self.endpoint.next().await {
                    Some(Incoming::Connection(connection)) => return Ok(connection),
                    Some(_) => {}
                    None => return Err(Broken::new("next yielded None though the endpoint is open")),
                }
            }
        })
        .await?
    }

    /// A connection out of `next` if one comes before all is quiet.
    pub async fn accept_if_any(&self, limits: &Limits) -> Option<Arc<dyn Connection>> {
        let accepted = async {
            loop {
                if let Incoming::Connection(connection) = self.endpoint.next().await? {
                    return Some(connection);
                }
            }
        };
        tokio::time::timeout(limits.quiet, accepted).await.unwrap_or(None)
    }
}

/// Both ends of one connection: the dialled one, then the accepted one.
pub type Ends = (Arc<dyn Connection>, Arc<dyn Connection>);

/// Two endpoints that can reach each other.
#[derive(Debug)]
pub struct Pair {
    /// The one that dials.
    pub near: Side,
    /// The one that is dialled.
    pub far: Side,
    /// Carries the signals of both, if the transport needs any.
    pub signals: Switchboard,
    /// What both can do.
    pub caps: TransportCaps,
    /// What the suite grants.
    pub limits: Limits,
}

impl Pair {
    /// The near side dials and the far side accepts.
    ///
    /// # Errors
    /// [`Broken`] if either fails.
    pub async fn connect(&self) -> Result<Ends, Broken> {
        tokio::try_join!(self.near.dial(&self.far, &self.limits), self.far.accept(&self.limits))
    }

    /// So many further devices of the near side's kind.
    ///
    /// # Errors
    /// [`Broken`] if the transport cannot be bound again.
    pub async fn newcomers(&self, fixture: &TransportFixture, count: usize) -> Result<Vec<Side>, Broken> {
        let mut newcomers = Vec::new();
        for _ in 0..count {
            newcomers.push(fixture.side(&self.near.transport, fixture.new_peer(), &self.signals).await?);
        }
        Ok(newcomers)
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// [`Broken`] if it cannot be sent.
    pub async fn send(&self, on: &dyn Connection, frame: impl Into<Bytes>) -> Result<(), Broken> {
        let sent = within(self.limits.patience, "room for a frame", on.send(frame.into())).await?;
        sent.map_err(|e| Broken::new(format!("send failed: {e}")))
    }

    /// What `recv` yields next.
    ///
    /// # Errors
    /// [`Broken`] if nothing comes or `recv` fails.
    pub async fn recv(&self, on: &dyn Connection, what: &str) -> Result<Received, Broken> {
        let received = within(self.limits.patience, what, on.recv()).await?;
        received.map_err(|e| Broken::new(format!("{what}: recv failed: {e}")))
    }

    /// Receives one frame and compares it.
    ///
    /// # Errors
    /// [`Broken`] if another one or none comes.
    pub async fn expect(&self, on: &dyn Connection, frame: &[u8]) -> Result<(), Broken> {
        match self.recv(on, "a frame").await? {
            Received::Frame(got) if got == frame => Ok(()),
            Received::Frame(got) => {
                Err(Broken::new(format!("sent {}, but {} arrived", describe(frame), describe(&got))))
            }
            other => Err(Broken::new(format!("sent {}, but {other:?} arrived", describe(frame)))),
        }
    }

    /// A connection works: one frame each way.
    ///
    /// # Errors
    /// [`Broken`] if not.
    pub async fn exchange(&self, near: &dyn Connection, far: &dyn Connection) -> Result<(), Broken> {
        self.send(near, &b"ping"[..]).await?;
        self.expect(far, b"ping").await?;
        self.send(far, &b"pong"[..]).await?;
        self.expect(near, b"pong").await
    }

    /// The connection ends; frames before that are passed over.
    ///
    /// # Errors
    /// [`Broken`] if it does not.
    pub async fn expect_end(&self, on: &dyn Connection, what: &str) -> Result<byway_api::CloseCode, Broken> {
        loop {
            if let Received::Closed(code) = self.recv(on, what).await? {
                return Ok(code);
            }
        }
    }

    /// Closes both endpoints.
    ///
    /// # Errors
    /// [`Broken`] if that takes too long.
    pub async fn close(self) -> Result<(), Broken> {
        let both = async { tokio::join!(self.near.endpoint.close(), self.far.endpoint.close()) };
        within(self.limits.patience, "closing both endpoints", both).await?;
        let rest = self.near.endpoint.next().await;
        ensure!(rest.is_none(), "after close next yields {rest:?}");
        Ok(())
    }
}

/// A frame in a few words.
pub(super) fn describe(frame: &[u8]) -> String {
    let head: Vec<u8> = frame.iter().copied().take(8).collect();
    format!("{} bytes {head:02x?}..", frame.len())
}

/// A reproducible sequence of numbers (SplitMix64); a test prints its seed when it fails.
#[derive(Clone, Debug)]
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
