//! A carrier inside one process: the reference for the suite, and a double for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use byway_api::{
    Carried, PeerId, Sealed, SignalAddress, SignalContext, SignalError, SignalErrorKind, Signaling, async_trait,
};
use byway_wire::limits::ENVELOPE_MAX;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::world::{SignalFixture, SignalWorld};

const NAME: &str = "memory";
/// The scheme of its addresses: `hub:{peerId}`.
const SCHEME: &str = "hub";
/// Envelopes that wait for one device; more are `Busy`.
const INBOX: usize = 64;
/// Wait before a refused connect is tried again.
const WAIT: Duration = Duration::from_millis(10);

/// Where [`MemoryCarrier`]s meet. Cheap to clone; clones are the same hub.
#[derive(Clone)]
pub struct MemoryHub {
    attached: Arc<Mutex<BTreeMap<PeerId, mpsc::Sender<Carried>>>>,
    state: watch::Sender<State>,
    connects: Arc<AtomicU64>,
}

/// Outages are counted, so that one that is over at once is noticed too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    down: bool,
    outages: u64,
}

impl Default for MemoryHub {
    fn default() -> Self {
        Self { attached: Arc::default(), state: watch::Sender::new(State::default()), connects: Arc::default() }
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryHub").field("attached", &self.attached().keys()).finish_non_exhaustive()
    }
}

impl MemoryHub {
    /// A hub with nobody attached.
    pub fn new() -> Self {
        Self::default()
    }

    /// A carrier that keeps itself attached here.
    pub fn carrier(&self) -> MemoryCarrier {
        let (to_inbox, inbox) = mpsc::channel(INBOX);
        MemoryCarrier {
            hub: self.clone(),
            me: OnceLock::new(),
            to_inbox,
            inbox: Mutex::new(inbox),
            closing: watch::Sender::new(false),
            tasks: tokio::sync::Mutex::default(),
        }
    }

    /// Where `peer` is reached through a hub.
    pub fn address_of(peer: PeerId) -> SignalAddress {
        match SignalAddress::new(&format!("{SCHEME}:{peer}")) {
            Ok(address) => address,
            Err(error) => unreachable!("a short scheme and a peer id: {error}"),
        }
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<PeerId, mpsc::Sender<Carried>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SignalWorld for MemoryHub {
    async fn carrier(&self, _: usize) -> Arc<dyn Signaling> {
        Arc::new(Self::carrier(self))
    }

    fn address(&self, peer: PeerId) -> SignalAddress {
        Self::address_of(peer)
    }

    fn attached(&self, peer: PeerId) -> Option<bool> {
        Some(Self::attached(self).contains_key(&peer))
    }

    fn calls(&self) -> Option<u64> {
        Some(self.connects.load(Ordering::SeqCst))
    }

    async fn cut(&self) -> bool {
        self.state.send_modify(|state| *state = State { down: true, outages: state.outages + 1 });
        Self::attached(self).clear();
        true
    }

    async fn restore(&self) {
        self.state.send_modify(|state| state.down = false);
    }
}

#[async_trait]
impl SignalFixture for MemoryHub {
    async fn world(&self) -> Box<dyn SignalWorld> {
        Box::new(Self::new())
    }
}

/// Carries envelopes between the devices attached to one [`MemoryHub`]. Its addresses have a scheme of their
/// own, `hub:`, which the suite takes and a node does not: see [`Signaling`].
pub struct MemoryCarrier {
    hub: MemoryHub,
    me: OnceLock<PeerId>,
    to_inbox: mpsc::Sender<Carried>,
    inbox: Mutex<mpsc::Receiver<Carried>>,
    closing: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl fmt::Debug for MemoryCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCarrier").field("me", &self.me.get()).finish_non_exhaustive()
    }
}

/// Attached as long as it lives.
struct Seat {
    hub: MemoryHub,
    me: PeerId,
    inbox: mpsc::Sender<Carried>,
}

impl Seat {
    fn take(hub: MemoryHub, me: PeerId, inbox: mpsc::Sender<Carried>) -> Self {
        hub.connects.fetch_add(1, Ordering::SeqCst);
        hub.attached().insert(me, inbox.clone());
        Self { hub, me, inbox }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut attached = self.hub.attached();
        if attached.get(&self.me).is_some_and(|other| other.same_channel(&self.inbox)) {
            attached.remove(&self.me);
        }
    }
}

/// Keeps the device attached: again after each outage, with a token each.
async fn keep(hub: MemoryHub, cx: SignalContext, inbox: mpsc::Sender<Carried>) {
    let mut state = hub.state.subscribe();
    loop {
        let Ok(up) = state.wait_for(|state| !state.down).await.map(|state| *state) else { return };
        if cx.meter.spend("connect").is_err() {
            tokio::time::sleep(WAIT).await;
            continue;
        }
        let _seat = Seat::take(hub.clone(), cx.me, inbox.clone());
        if state.wait_for(|state| *state != up).await.is_err() {
            return;
        }
    }
}

fn error(kind: SignalErrorKind, detail: impl Into<String>) -> SignalError {
    SignalError::new(kind, NAME, detail)
}

#[async_trait]
impl Signaling for MemoryCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        let mut tasks = self.tasks.lock().await;
        if *self.closing.borrow() || self.me.set(cx.me).is_err() {
            return Err(error(SignalErrorKind::Closed, "a carrier is attached once"));
        }
        let (hub, inbox) = (self.hub.clone(), self.to_inbox.clone());
        let mut closing = self.closing.subscribe();
        tasks.spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = keep(hub, cx, inbox) => {}
            }
        });
        Ok(())
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        at.scheme() == SCHEME && at.rest().parse::<PeerId>().is_ok()
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        self.me.get().map(|me| MemoryHub::address_of(*me)).into_iter().collect()
    }

    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        if !self.serves(at) {
            return Err(error(SignalErrorKind::BadAddress, at.as_str()));
        }
        if mail.envelope.len() > ENVELOPE_MAX {
            return Err(error(SignalErrorKind::Refused, "an envelope has at most 60 KiB"));
        }
        if *self.closing.borrow() {
            return Err(error(SignalErrorKind::Closed, "the carrier is closed"));
        }
        let attached = self.hub.attached();
        let me = self.me.get().filter(|me| attached.contains_key(me));
        let me = me.ok_or_else(|| error(SignalErrorKind::Unreachable, "not attached to the hub now"))?;
        let inbox = attached.get(&mail.to);
        let inbox = inbox.ok_or_else(|| error(SignalErrorKind::NoSuchPeer, format!("{:?}", mail.to)))?;
        inbox.try_send(Carried { mail, back: MemoryHub::address_of(*me) }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => error(SignalErrorKind::Busy, format!("{INBOX} envelopes wait")),
            mpsc::error::TrySendError::Closed(_) => error(SignalErrorKind::NoSuchPeer, "it is gone"),
        })
    }

    async fn recv(&self) -> Option<Carried> {
        let mut closing = self.closing.subscribe();
        let next = poll_fn(|cx| self.inbox.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx));
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            carried = next => carried,
        }
    }

    async fn close(&self) {
        self.closing.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}
