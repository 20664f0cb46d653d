//! What every handler shares.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use byway_socket::{Device, Hub};
use tokio::sync::watch;

use crate::Config;
use crate::backend::RegistryBackend;
use crate::base::Base;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::nonce::Nonces;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) public: Option<Base>,
    pub(crate) backend: Arc<dyn RegistryBackend>,
    pub(crate) hub: Hub,
    pub(crate) nonces: Arc<Nonces>,
    pub(crate) calls: Limiter<Device>,
    pub(crate) ip_calls: Limiter<IpAddr>,
    pub(crate) failed_auths: Limiter<IpAddr>,
    pub(crate) metrics: Metrics,
    pub(crate) closing: AtomicBool,
    /// Tasks of upgraded sockets; shutdown waits for the last one.
    pub(crate) upgraded: watch::Sender<usize>,
}

/// Counts one upgraded socket for as long as it lives.
#[derive(Debug)]
pub(crate) struct Upgraded(Arc<App>);

impl Upgraded {
    pub(crate) fn new(app: Arc<App>) -> Self {
        app.upgraded.send_modify(|n| *n += 1);
        Self(app)
    }

    pub(crate) fn app(&self) -> &App {
        &self.0
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.0.upgraded.send_modify(|n| *n -= 1);
    }
}
