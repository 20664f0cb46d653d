//! Signals of transports, sealed, over whatever carries them: neighbours, listeners, the registry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use byway_api::{PeerId, Signal, SignalAddress, SignalError, SignalIn, SignalPort, Signaling, async_trait};
use byway_core::OpId;
use tokio::sync::mpsc;

use super::shared::Shared;
use super::stop::Stop;

mod incoming;
mod outgoing;
mod replay;

pub(super) use incoming::{Mail, open_mail, receive};

use replay::Replay;

const NODE: &str = "node";

/// The router between transports and carriers.
pub(super) struct Signals {
    shared: Arc<Shared>,
    listeners: Vec<Arc<dyn Signaling>>,
    carriers: Vec<Arc<dyn Signaling>>,
    ports: BTreeMap<&'static str, mpsc::Sender<SignalIn>>,
    dialing: Mutex<BTreeMap<OpId, Dialing>>,
    replay: Mutex<Replay>,
    stopped: Stop,
}

struct Dialing {
    peer: PeerId,
    addresses: Vec<SignalAddress>,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("ports", &self.ports.keys()).finish_non_exhaustive()
    }
}

impl Signals {
    /// A router with a port for each of `transports`.
    pub(super) fn new(
        shared: Arc<Shared>,
        listeners: Vec<Arc<dyn Signaling>>,
        carriers: Vec<Arc<dyn Signaling>>,
        transports: &[&'static str],
    ) -> (Arc<Self>, Vec<Arc<dyn SignalPort>>) {
        let capacity = shared.settings.signal_queue;
        let (senders, receivers): (Vec<_>, Vec<_>) = transports.iter().map(|_| mpsc::channel(capacity)).unzip();
        let replay = Replay::new(shared.settings.replay_ids, shared.settings.replay_ids_per_sender);
        let signals = Arc::new(Self {
            shared,
            listeners,
            carriers,
            ports: transports.iter().copied().zip(senders).collect(),
            dialing: Mutex::default(),
            replay: Mutex::new(replay),
            stopped: Stop::new(),
        });
        let port = |(transport, inbox): (&&'static str, _)| -> Arc<dyn SignalPort> {
            let inbox = tokio::sync::Mutex::new(inbox);
            Arc::new(Port { transport, signals: Arc::clone(&signals), inbox })
        };
        let ports = transports.iter().zip(receivers).map(port).collect();
        (signals, ports)
    }

    /// Every carrier, our own listeners first.
    pub(super) fn carriers(&self) -> impl Iterator<Item = &Arc<dyn Signaling>> {
        self.listeners.iter().chain(&self.carriers)
    }

    /// Whether a carrier understands the address.
    pub(super) fn serves(&self, address: &SignalAddress) -> bool {
        self.carriers().any(|carrier| carrier.serves(address))
    }

    /// Our own addresses through carriers: listeners first, homes last.
    pub(super) fn addresses(&self) -> (Vec<SignalAddress>, Vec<SignalAddress>) {
        let of = |carriers: &[Arc<dyn Signaling>]| carriers.iter().flat_map(|carrier| carrier.addresses()).collect();
        (of(&self.listeners), of(&self.carriers))
    }

    /// From now on every port yields `None`.
    pub(super) fn stop(&self) {
        self.stopped.raise();
    }

    /// Says that `peer` is being dialled, until the result is dropped: its answer is reported, and its
    /// signals may also go by these addresses.
    pub(super) fn dialing(self: &Arc<Self>, op: OpId, peer: PeerId, addresses: Vec<SignalAddress>) -> DialGuard {
        let mut dialing = self.dialing.lock().unwrap_or_else(PoisonError::into_inner);
        dialing.insert(op, Dialing { peer, addresses });
        DialGuard { signals: Arc::clone(self), op }
    }

    fn dials_to(&self, peer: PeerId) -> Vec<OpId> {
        let dialing = self.dialing.lock().unwrap_or_else(PoisonError::into_inner);
        dialing.iter().filter(|(_, d)| d.peer == peer).map(|(op, _)| *op).collect()
    }

    fn dialed_addresses(&self, peer: PeerId) -> Vec<SignalAddress> {
        let dialing = self.dialing.lock().unwrap_or_else(PoisonError::into_inner);
        dialing.values().filter(|d| d.peer == peer).flat_map(|d| d.addresses.iter().cloned()).collect()
    }
}

/// Ends [`Signals::dialing`].
pub(super) struct DialGuard {
    signals: Arc<Signals>,
    op: OpId,
}

impl Drop for DialGuard {
    fn drop(&mut self) {
        self.signals.dialing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.op);
    }
}

/// Lent to one transport.
struct Port {
    transport: &'static str,
    signals: Arc<Signals>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<SignalIn>>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("transport", &self.transport).finish_non_exhaustive()
    }
}

#[async_trait]
impl SignalPort for Port {
    async fn send(&self, to: PeerId, at: &SignalAddress, mut signal: Signal) -> Result<(), SignalError> {
        // A transport speaks only for itself.
        self.transport.clone_into(&mut signal.transport);
        self.signals.send(to, at, signal).await
    }

    async fn next(&self) -> Option<SignalIn> {
        let mut inbox = self.inbox.lock().await;
        tokio::select! {
            biased;
            () = self.signals.stopped.raised() => None,
            signal = inbox.recv() => signal,
        }
    }
}
