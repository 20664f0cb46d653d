//! A transport that needs signalling: the in-process transport, whose addresses it keeps to itself
//! and tells by signal to who wants to dial.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byway_api::{
    BindContext, Bytes, Connection, Endpoint, Incoming, PeerId, Signal, SignalAddress, SignalKind, SignalPort,
    Transport, TransportCaps, TransportError, TransportErrorKind, async_trait,
};
use byway_transport_memory::{MemoryNetwork, MemoryTransport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const NAME: &str = "signalled";
const PATIENCE: Duration = Duration::from_secs(5);

/// Which promise about signals it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A dial has no end of its own.
    WaitsForever,
    /// Dials once for each answer, although there was one dial.
    DialsPerAnswer,
    /// A signal that takes longer than this is of no use.
    Impatient(Duration),
}

#[derive(Debug)]
pub struct Signalled {
    inner: MemoryTransport,
    fault: Fault,
}

impl Signalled {
    pub fn new(network: &MemoryNetwork, fault: Fault) -> Self {
        Self { inner: network.transport(), fault }
    }
}

#[async_trait]
impl Transport for Signalled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> TransportCaps {
        let inner = self.inner.caps();
        TransportCaps::new(inner.max_frame, true, false, inner.security)
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        let Some(signals) = cx.signals.clone() else {
            return Err(TransportError::new(TransportErrorKind::Config, NAME, "no signal port"));
        };
        let inner = self.inner.bind(BindContext::new(cx.me, cx.network)).await?;
        let shared = Arc::new(Shared { inner, signals, fault: self.fault, pending: Mutex::default() });
        let task = tokio::spawn(Arc::clone(&shared).answer());
        Ok(Arc::new(SignalledEndpoint { shared, sessions: AtomicU64::new(0), task: Mutex::new(Some(task)) }))
    }
}

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Endpoint>,
    signals: Arc<dyn SignalPort>,
    fault: Fault,
    /// Dials that wait for an answer: to whom, and for which session.
    pending: Mutex<BTreeMap<(PeerId, Bytes), oneshot::Sender<SignalAddress>>>,
}

impl Shared {
    async fn answer(self: Arc<Self>) {
        while let Some(arrived) = self.signals.next().await {
            let (from, signal) = (arrived.from, arrived.signal);
            match signal.kind {
                SignalKind::Offer => {
                    let address = self.inner.addresses().remove(0).to_string();
                    let answer = Signal { kind: SignalKind::Answer, body: address.into(), ..signal };
                    let _lost = self.signals.send(from, &arrived.back, answer).await;
                }
                SignalKind::Answer => {
                    let address: SignalAddress = std::str::from_utf8(&signal.body).unwrap().parse().unwrap();
                    if self.fault == Fault::DialsPerAnswer {
                        let extra = self.inner.dial(from, &address).await;
                        std::mem::forget(extra);
                    }
                    if let Some(waiting) = self.pending.lock().unwrap().remove(&(from, signal.session)) {
                        let _dropped = waiting.send(address);
                    }
                }
                _ => {}
            }
        }
    }
}

#[derive(Debug)]
struct SignalledEndpoint {
    shared: Arc<Shared>,
    sessions: AtomicU64,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl Endpoint for SignalledEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        Vec::new()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        if !to.is_signalling() {
            return Err(TransportError::new(TransportErrorKind::BadAddress, NAME, to.to_string()));
        }
        if self.shared.inner.addresses().is_empty() {
            return Err(TransportError::new(TransportErrorKind::Closed, NAME, ""));
        }
        let session = Bytes::from(self.sessions.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec());
        let (answer, answered) = oneshot::channel();
        self.shared.pending.lock().unwrap().insert((peer, session.clone()), answer);
        let offer = Signal { kind: SignalKind::Offer, session, body: Bytes::new(), transport: NAME.to_owned() };
        let sent = self.shared.signals.send(peer, to, offer).await;
        sent.map_err(|e| TransportError::new(TransportErrorKind::Signaling, NAME, "").with_source(e))?;
        let patience = match self.shared.fault {
            Fault::WaitsForever => Duration::from_secs(100_000),
            Fault::Impatient(patience) => patience,
            _ => PATIENCE,
        };
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(address)) => self.shared.inner.dial(peer, &address).await,
            _ => Err(TransportError::new(TransportErrorKind::Timeout, NAME, "no answer")),
        }
    }

    async fn next(&self) -> Option<Incoming> {
        self.shared.inner.next().await
    }

    async fn close(&self) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _aborted = task.await;
        }
        self.shared.inner.close().await;
    }
}
