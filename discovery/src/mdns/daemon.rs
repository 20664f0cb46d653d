//! The thread that speaks multicast DNS, and how it ends.

use std::fmt;
use std::time::Duration;

use byway_api::{StepError, StepErrorKind};
use mdns_sd::{DaemonStatus, IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::config::{Interfaces, MdnsConfig};
use super::piece::Piece;

/// The counters of what the daemon remembers.
const REMEMBERED: [&str; 6] =
    ["cached-ptr", "cached-srv", "cached-addr", "cached-txt", "cached-nsec", "cached-subtype"];
/// It also remembers when to look at each of them again, more than once. So many times weigh as much as
/// one record.
const TIMERS: &str = "timer";
const TIMERS_PER_RECORD: u64 = 16;

/// A running daemon. Dropping it ends its thread, without waiting; everything that was registered is
/// withdrawn with a goodbye then.
pub(super) struct Daemon {
    handle: ServiceDaemon,
    wait: Duration,
}

/// Asks a daemon that somebody else owns.
pub(super) struct Observer {
    handle: ServiceDaemon,
    wait: Duration,
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").finish_non_exhaustive()
    }
}

pub(super) fn error(kind: StepErrorKind, detail: impl Into<String>) -> StepError {
    StepError::new(kind, super::Mdns::NAME, detail)
}

fn failed(what: &str, cause: mdns_sd::Error) -> StepError {
    error(StepErrorKind::LocalFault, what).with_source(cause)
}

/// Of a running daemon's errors, a text is about what it was asked for; the others are its own.
fn refused(what: &str, cause: mdns_sd::Error) -> StepError {
    let kind = if matches!(cause, mdns_sd::Error::Msg(_)) { StepErrorKind::Other } else { StepErrorKind::LocalFault };
    error(kind, what).with_source(cause)
}

impl Daemon {
    pub(super) fn start(config: &MdnsConfig) -> Result<Self, StepError> {
        let start = || {
            let handle = ServiceDaemon::new_with_port(config.port)?;
            let daemon = Self { handle, wait: config.daemon_wait };
            let only: Vec<IfKind> = match &config.interfaces {
                Interfaces::Every => return Ok(daemon),
                Interfaces::Loopback => vec![IfKind::LoopbackV4, IfKind::LoopbackV6],
                Interfaces::Named(names) => names.iter().map(IfKind::from).collect(),
                Interfaces::Having(addresses) => addresses.iter().copied().map(IfKind::from).collect(),
            };
            daemon.handle.disable_interface(IfKind::All)?;
            daemon.handle.enable_interface(only)?;
            Ok(daemon)
        };
        start().map_err(|e| failed("multicast DNS cannot be started", e))
    }

    /// Asks for everybody, and tells who answers, those first who have answered before.
    pub(super) fn browse(&self, service: &str) -> Result<Receiver<ServiceEvent>, StepError> {
        self.handle.browse(service).map_err(|e| refused("the LAN cannot be searched", e))
    }

    /// Announces, anew if it was announced before.
    pub(super) fn register(&self, info: ServiceInfo) -> Result<(), StepError> {
        self.handle.register(info).map_err(|e| refused("this device cannot be announced", e))
    }

    pub(super) fn observer(&self) -> Observer {
        Observer { handle: self.handle.clone(), wait: self.wait }
    }

    /// Says goodbye and waits until the thread has ended.
    pub(super) async fn stop(self) {
        let Ok(answer) = self.handle.shutdown() else { return };
        match tokio::time::timeout(self.wait, answer.recv_async()).await {
            Ok(Ok(DaemonStatus::Shutdown)) => {}
            other => tracing::warn!(target: "byway::mdns", ?other, "the daemon does not end"),
        }
    }
}

impl Observer {
    /// Withdraws one instance with a goodbye.
    pub(super) async fn withdraw(&self, instance: &str) {
        let Ok(done) = self.handle.unregister(instance) else { return };
        let _ = tokio::time::timeout(self.wait, done.recv_async()).await;
    }

    /// How many DNS records it remembers; `None` if it does not answer.
    pub(super) async fn remembered(&self) -> Option<u64> {
        let answer = self.handle.get_metrics().ok()?;
        let counts = tokio::time::timeout(self.wait, answer.recv_async()).await.ok()?.ok()?;
        let count = |name: &&str| counts.get(*name).and_then(|n| u64::try_from(*n).ok()).unwrap_or(0);
        Some(REMEMBERED.iter().map(count).sum::<u64>() + count(&TIMERS) / TIMERS_PER_RECORD)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // an error says that it has ended
        let _ = self.handle.shutdown();
    }
}

/// What is registered for a piece. Whoever knows the instance's name knows the device: names are taken
/// from keys, so nobody needs to be asked whether they are free.
pub(super) fn instance(service: &str, piece: &Piece, port: u16) -> Result<ServiceInfo, StepError> {
    // a host of its own: the goodbye of one piece takes the addresses of its host along
    let host = format!("{}.local.", piece.name());
    let mut info = ServiceInfo::new(service, &piece.name(), &host, "", port, piece.properties())
        .map_err(|e| error(StepErrorKind::Other, "this device cannot be described").with_source(e))?
        .enable_addr_auto();
    info.set_requires_probe(false);
    Ok(info)
}
