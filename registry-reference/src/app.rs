//! What every handler shares.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use byway_socket::{Device, Hub};
use tokio::sync::mpsc;

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
    /// Held by every upgraded socket's task: shutdown waits until the last one is dropped.
    pub(crate) running: mpsc::Sender<()>,
}
