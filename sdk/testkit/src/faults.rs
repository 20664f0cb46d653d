//! Faults on demand over real transports, through public API only.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byway_api::{
    BindContext, CloseCode, Connection, Endpoint, Incoming, PeerId, Signal, SignalAddress, SignalError, SignalIn,
    SignalKind, SignalPort, Transport, TransportCaps, TransportError, TransportErrorKind, async_trait,
};

/// The pairs of devices that [`Refusing`] keeps apart. Cheap to clone; every clone is the same set,
/// and a change acts at once.
///
/// Connections that are open when a pair is added stay open: close them at one end, or use the
/// transport's own means.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    pairs: Arc<Mutex<BTreeSet<(PeerId, PeerId)>>>,
}

impl Refusals {
    /// Nobody is kept apart.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `a` and `b` do not connect, whoever dials.
    pub fn refuse(&self, a: PeerId, b: PeerId) {
        self.lock().insert(ordered(a, b));
    }

    /// From now on `a` and `b` may connect again.
    pub fn permit(&self, a: PeerId, b: PeerId) {
        self.lock().remove(&ordered(a, b));
    }

    /// From now on all may connect.
    pub fn permit_all(&self) {
        self.lock().clear();
    }

    /// Whether `a` and `b` are kept apart now.
    pub fn contains(&self, a: PeerId, b: PeerId) -> bool {
        self.lock().contains(&ordered(a, b))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(PeerId, PeerId)>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ordered(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

/// A transport that does not connect the pairs in [`Refusals`]; everything else goes through.
///
/// A dial to a named device fails with `Refused` at once. An offer from a named device is dropped
/// before the transport sees it, and a connection from a device that the transport itself knows to be
/// named is closed with [`REFUSED`](CloseCode::REFUSED). Wrap both devices: a transport that neither
/// signals nor knows its peers can only be stopped at the dialler.
#[derive(Clone, Debug)]
pub struct Refusing {
    inner: Arc<dyn Transport>,
    refusals: Refusals,
}

impl Refusing {
    /// Wraps a transport.
    pub fn new(inner: Arc<dyn Transport>, refusals: &Refusals) -> Self {
        Self { inner, refusals: refusals.clone() }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for Refusing {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn caps(&self) -> TransportCaps {
        self.inner.caps()
    }

    async fn bind(&self, mut cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        let (me, refusals) = (cx.me, self.refusals.clone());
        cx.signals = cx.signals.map(|inner| {
            let refusals = refusals.clone();
            Arc::new(RefusingSignals { inner, me, refusals }) as Arc<dyn SignalPort>
        });
        let (inner, name) = (self.inner.bind(cx).await?, self.inner.name());
        Ok(Arc::new(RefusingEndpoint { inner, name, me, refusals }))
    }
}

#[derive(Debug)]
struct RefusingSignals {
    inner: Arc<dyn SignalPort>,
    me: PeerId,
    refusals: Refusals,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SignalPort for RefusingSignals {
    async fn send(&self, to: PeerId, at: &SignalAddress, signal: Signal) -> Result<(), SignalError> {
        self.inner.send(to, at, signal).await
    }

    async fn next(&self) -> Option<SignalIn> {
        loop {
            let signal = self.inner.next().await?;
            let offered = signal.signal.kind == SignalKind::Offer;
            if !(offered && self.refusals.contains(self.me, signal.from)) {
                return Some(signal);
            }
        }
    }
}

#[derive(Debug)]
struct RefusingEndpoint {
    inner: Arc<dyn Endpoint>,
    name: &'static str,
    me: PeerId,
    refusals: Refusals,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Endpoint for RefusingEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        self.inner.addresses()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        if self.refusals.contains(self.me, peer) {
            let detail = format!("{} and {} are kept apart on purpose", self.me, peer);
            return Err(TransportError::new(TransportErrorKind::Refused, self.name, detail));
        }
        self.inner.dial(peer, to).await
    }

    async fn next(&self) -> Option<Incoming> {
        loop {
            match self.inner.next().await? {
                Incoming::Connection(c) if c.peer().is_some_and(|peer| self.refusals.contains(self.me, peer)) => {
                    c.close(CloseCode::REFUSED).await;
                }
                other => return Some(other),
            }
        }
    }

    async fn network_changed(&self) {
        self.inner.network_changed().await;
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
