//! The client side of the signalling socket, for as many servers as a node has to do with.

mod backoff;
mod config;
mod home;
mod listeners;
mod open;
mod shared;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use byway_api::{Carried, Sealed, SignalAddress, SignalContext, SignalError, SignalErrorKind, Signaling};
use byway_wire::peek;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinSet;

pub use config::CarrierConfig;
pub use home::Home;
use listeners::Listeners;
use open::canonical;
use shared::Shared;

const NAME: &str = "socket";

/// Carries sealed envelopes over signalling sockets: `ws:` and `wss:` addresses.
///
/// # Sockets
/// * A *home* ([`Home`]) is connected to when the carrier is attached, and again whenever its socket
///   ends, after a growing, jittered wait. Every connect takes a token from the
///   [`Meter`](byway_api::Meter) first (`"socket"`) and waits if there is none. A home that refuses our
///   proof, or that another process attached to with the same key, is tried at the longest interval.
/// * A socket to a *listener* is opened by `send`, shared by all sends to the same server, and closed
///   when nothing was sent or received on it for [`CarrierConfig::idle`]. It costs no token. Its proof
///   is good for the PeerId in the address only, so a false listener cannot use it anywhere else.
/// * `send` to a home uses the home's socket and opens no other: it fails at once while that is down,
///   and waits for at most [`CarrierConfig::connect_timeout`] while it is being opened.
///
/// # Addresses
/// [`addresses`](Signaling::addresses) are `ws://home/{me}` of every home, whether it is up or not: the
/// address stays the same over an outage, and a record need not be signed and announced again after it.
///
/// # Not carried
/// A registry may ask a device over its socket to be a coordinator. That is a hint for the node, and no
/// mail: the carrier drops it.
///
/// # Network changes
/// Waits end, a home that is up is connected to anew (if there is a token), sockets to listeners are
/// closed. A `send` that runs meanwhile fails with `Unreachable`.
///
/// # Shutdown
/// [`close`](Signaling::close) says goodbye on every socket and joins every task; sends that run fail.
/// Dropping the carrier aborts the tasks and drops the sockets.
#[derive(Debug)]
pub struct SocketCarrier {
    config: Arc<CarrierConfig>,
    homes: Vec<Arc<Home>>,
    listeners: Arc<Listeners>,
    shared: OnceLock<Arc<Shared>>,
    to_inbox: mpsc::Sender<Carried>,
    inbox: Mutex<mpsc::Receiver<Carried>>,
    network: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    closed: OnceCell<()>,
    tasks: Mutex<JoinSet<()>>,
}

impl SocketCarrier {
    /// A carrier with these homes; none is fine. Nothing happens before it is attached.
    pub fn new(config: CarrierConfig, homes: Vec<Home>) -> Self {
        let (to_inbox, inbox) = mpsc::channel(config.inbox.max(1));
        Self {
            config: Arc::new(config),
            homes: homes.into_iter().map(Arc::new).collect(),
            listeners: Arc::default(),
            shared: OnceLock::new(),
            to_inbox,
            inbox: Mutex::new(inbox),
            network: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            closed: OnceCell::new(),
            tasks: Mutex::default(),
        }
    }

    /// Its homes.
    pub fn homes(&self) -> impl Iterator<Item = &Home> {
        self.homes.iter().map(|home| &**home)
    }

    /// Open sockets to listeners, those being opened included.
    pub fn listener_sockets(&self) -> usize {
        self.listeners.len()
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // those that are done need not be kept until the end
        while tasks.try_join_next().is_some() {}
        if !*self.closing.borrow() {
            tasks.spawn(task);
        }
    }
}

fn error(kind: SignalErrorKind, detail: impl Into<String>) -> SignalError {
    SignalError::new(kind, NAME, detail)
}

#[async_trait]
impl Signaling for SocketCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        let shared = Arc::new(Shared {
            cx,
            config: Arc::clone(&self.config),
            inbox: self.to_inbox.clone(),
            network: self.network.subscribe(),
            closing: self.closing.subscribe(),
        });
        if *self.closing.borrow() || self.shared.set(Arc::clone(&shared)).is_err() {
            return Err(error(SignalErrorKind::Closed, "a carrier serves one node, once; make another one"));
        }
        for home in &self.homes {
            home.lend(&shared.cx.prover);
            self.spawn(Arc::clone(home).keep(Arc::clone(&shared)));
        }
        Ok(())
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        at.socket_parts().is_some_and(|(base, _)| canonical(base).is_some())
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        let Some(shared) = self.shared.get() else { return Vec::new() };
        self.homes.iter().filter_map(|home| SignalAddress::socket(home.url(), shared.cx.me).ok()).collect()
    }

    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        let bad = || error(SignalErrorKind::BadAddress, format!("{at}; a socket is ws(s)://host:port/{{peerId}}"));
        let (base, device) = at.socket_parts().ok_or_else(bad)?;
        let base = canonical(base).ok_or_else(bad)?;
        let shared = self.shared.get().ok_or_else(|| error(SignalErrorKind::Unreachable, "not attached yet"))?;
        let closed = || error(SignalErrorKind::Closed, "the carrier is closed");
        if *self.closing.borrow() {
            return Err(closed());
        }
        // nothing is dialled for what no server takes
        if !peek(&mail.envelope).is_ok_and(|head| head.to == mail.to) {
            let detail = "a carrier takes sealed envelopes of at most 60 KiB that are for the device they are sent to";
            return Err(error(SignalErrorKind::Refused, detail));
        }
        let Sealed { to, envelope } = mail;
        let sending = async {
            match self.homes.iter().find(|home| home.url() == base) {
                Some(home) => home.send(to, envelope, self.config.connect_timeout).await,
                None => {
                    let spawn = |task: listeners::Task| self.spawn(task.run());
                    self.listeners.send(shared, &base, device, (to, envelope), spawn).await
                }
            }
        };
        tokio::select! {
            biased;
            () = shared.closing() => Err(closed()),
            sent = sending => sent,
        }
    }

    async fn recv(&self) -> Option<Carried> {
        let mut closing = self.closing.subscribe();
        let next = poll_fn(|cx| self.inbox.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx));
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            mail = next => mail,
        }
    }

    async fn network_changed(&self) {
        for home in &self.homes {
            home.network_changed();
        }
        self.network.send_modify(|n| *n += 1);
    }

    async fn close(&self) {
        self.closing.send_replace(true);
        self.closed
            .get_or_init(|| async {
                let mut tasks = std::mem::take(&mut *self.tasks());
                while tasks.join_next().await.is_some() {}
            })
            .await;
    }
}
