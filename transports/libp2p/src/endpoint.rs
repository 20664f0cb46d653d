//! A bound transport.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{
    BindContext, Connection, Endpoint, Incoming, PeerId, SignalAddress, TransportError, TransportErrorKind as Kind,
};
use libp2p::identity::Keypair;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::behaviour::Behaviour;
use crate::crossing::Crossing;
use crate::driver::{Dial, Driver, closed};
use crate::guard::NextDial;
use crate::task::Tasks;
use crate::{Config, address, error, stack};

/// Dropping it aborts its tasks; `close` is the polite way.
#[derive(Debug)]
pub(crate) struct Libp2pEndpoint {
    me: PeerId,
    config: Arc<Config>,
    tasks: Tasks,
    dials: mpsc::Sender<Dial>,
    addresses: watch::Receiver<Vec<SignalAddress>>,
    arrivals: Mutex<Arrivals>,
    stop: watch::Sender<bool>,
    done: watch::Receiver<()>,
}

/// What `next` waits for.
#[derive(Debug)]
struct Arrivals {
    accepted: mpsc::Receiver<Arc<dyn Connection>>,
    addresses: watch::Receiver<Vec<SignalAddress>>,
    stop: watch::Receiver<bool>,
}

impl Libp2pEndpoint {
    pub(crate) async fn open(config: Config, cx: BindContext) -> Result<Self, TransportError> {
        let config = Arc::new(config);
        let wrong = |text: &str| error(Kind::Config, text);
        let seed = cx.identity.ok_or_else(|| wrong("the seed of the device key is needed"))?;
        // What it is given is erased by it.
        let key = Keypair::ed25519_from_bytes(*seed.expose()).map_err(|e| wrong("the device key").with_source(e))?;
        drop(seed);
        if address::from_libp2p(&key.public().to_peer_id()) != Some(cx.me) {
            return Err(wrong("the seed is not that of the device"));
        }
        let advertised = config.advertise.iter().map(|text| address::configured(text)).collect::<Result<_, _>>()?;
        let (tasks, next_dial) = (Tasks::default(), NextDial::default());
        let behaviour = Behaviour::new(cx.me, Arc::clone(&config));
        let swarm = stack::build(&key, &config, behaviour, next_dial.clone(), tasks.clone())?;
        let (dials, asked) = mpsc::channel(config.dial_queue.max(1));
        let (accept, accepted) = mpsc::channel(config.accept_queue.max(1));
        let (addresses, told) = watch::channel(Vec::new());
        let (stop, stopping) = watch::channel(false);
        let (finished, done) = watch::channel(());
        let mut driver = Driver {
            swarm,
            next_dial,
            config: Arc::clone(&config),
            advertised,
            listened: Vec::new(),
            addresses,
            dials: asked,
            accepted: accept,
            crossing: Crossing::new(cx.me),
            open: HashMap::new(),
            stop: stopping.clone(),
            done: finished,
        };
        if let Err(e) = driver.listen().await {
            drop(driver);
            tasks.shutdown().await;
            return Err(e);
        }
        let mut seen = told.clone();
        seen.mark_unchanged();
        tasks.spawn(driver.run());
        let arrivals = Arrivals { accepted, addresses: seen, stop: stopping };
        Ok(Self { me: cx.me, config, tasks, dials, addresses: told, arrivals: Mutex::new(arrivals), stop, done })
    }
}

#[async_trait]
impl Endpoint for Libp2pEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        if *self.stop.borrow() { Vec::new() } else { self.addresses.borrow().clone() }
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        if *self.stop.borrow() {
            return Err(closed());
        }
        let address = address::to_dial(&peer, to)?;
        if peer == self.me {
            return Err(error(Kind::BadAddress, "this device itself"));
        }
        let (answer, answered) = oneshot::channel();
        // Dropping this future drops the caller's end, and with it every part of the attempt.
        let (_caller, alive) = watch::channel(());
        self.dials.try_send(Dial { peer, to: address, alive, answer }).map_err(|e| match e {
            TrySendError::Full(_) => error(Kind::Busy, format!("{} dials wait", self.config.dial_queue)),
            TrySendError::Closed(_) => closed(),
        })?;
        match timeout(self.config.connect_timeout, answered).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(error(Kind::Timeout, format!("nobody answered at {to}"))),
        }
    }

    async fn next(&self) -> Option<Incoming> {
        let mut arrivals = self.arrivals.lock().await;
        let Arrivals { accepted, addresses, stop } = &mut *arrivals;
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => None,
            Ok(()) = addresses.changed() => Some(Incoming::AddressesChanged),
            accepted = accepted.recv() => accepted.map(Incoming::Connection),
        }
    }

    async fn close(&self) {
        self.stop.send_replace(true);
        let mut done = self.done.clone();
        while done.changed().await.is_ok() {}
        self.tasks.shutdown().await;
        let accepted = &mut self.arrivals.lock().await.accepted;
        while accepted.try_recv().is_ok() {}
    }
}

impl Drop for Libp2pEndpoint {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}
