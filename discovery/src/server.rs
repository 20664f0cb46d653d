//! What this node knows about one server, shared by everything that talks to it: whether it is worth a
//! call, its latest nonce, and how much was asked of it.

#![cfg_attr(not(feature = "registry"), allow(dead_code, reason = "only HTTP calls ask"))]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{StepError, StepErrorKind};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// Why a client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not the URL of a server.
    #[error(
        "a server is given as http(s)://host:port or ws(s)://host:port without user, query and fragment; got {0:?}"
    )]
    Url(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The longest nonce that is taken from a server, in bytes.
const NONCE_MAX: usize = byway_wire::limits::NAME_MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    down_for: Duration,
    health: Mutex<Health>,
    nonce: watch::Sender<Nonce>,
    calls: AtomicU64,
    signals: AtomicU64,
}

#[derive(Debug, Default)]
struct Health {
    socket_up: bool,
    /// Nobody answers. An open socket, an answer or a network change ends it.
    down: Option<Verdict>,
    /// The server asked to be left alone. Only time ends it.
    paused: Option<Verdict>,
}

#[derive(Debug)]
struct Verdict {
    until: Instant,
    why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Nonce {
    /// Nobody has one and nobody asks.
    Unknown,
    /// Somebody is getting one: a second caller does well to wait, since a call without a nonce is refused.
    Sought,
    Known(String),
}

/// Held while a first nonce is got; dropping it lets the next caller try.
#[derive(Debug)]
pub(crate) struct Seeking<'a>(&'a Server);

impl Drop for Seeking<'_> {
    fn drop(&mut self) {
        self.0.nonce.send_if_modified(|nonce| {
            let ours = *nonce == Nonce::Sought;
            if ours {
                *nonce = Nonce::Unknown;
            }
            ours
        });
    }
}

impl Server {
    /// `down_for` is how long it is left alone after nobody answered.
    pub(crate) fn new(url: String, down_for: Duration) -> Self {
        Self {
            url,
            down_for,
            health: Mutex::default(),
            nonce: watch::Sender::new(Nonce::Unknown),
            calls: AtomicU64::new(0),
            signals: AtomicU64::new(0),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call is worth making now.
    pub(crate) fn check(&self) -> Result<(), StepError> {
        let now = Instant::now();
        let health = self.health();
        let verdict = match (&health.paused, &health.down) {
            (Some(paused), _) if now < paused.until => paused,
            (_, Some(down)) if now < down.until && !health.socket_up => down,
            _ => return Ok(()),
        };
        let detail =
            format!("{}: {}; asked again in {} s at the earliest", self.url, verdict.why, seconds(verdict.until - now));
        Err(StepError::new(StepErrorKind::KnownDown, "registry", detail))
    }

    /// Nobody answered.
    pub(crate) fn is_down(&self, why: impl Into<String>) {
        self.health().down = Some(Verdict { until: Instant::now() + self.down_for, why: why.into() });
    }

    /// The server asked for a pause.
    pub(crate) fn wants_pause(&self, why: impl Into<String>, pause: Duration) {
        self.health().paused = Some(Verdict { until: Instant::now() + pause, why: why.into() });
    }

    /// The server answered.
    pub(crate) fn answered(&self) {
        self.health().down = None;
    }

    pub(crate) fn socket(&self, up: bool) {
        let mut health = self.health();
        health.socket_up = up;
        if up {
            health.down = None;
        }
    }

    pub(crate) fn socket_is_up(&self) -> bool {
        self.health().socket_up
    }

    /// What was true on the old network need not be true on the new one.
    pub(crate) fn network_changed(&self) {
        self.health().down = None;
    }

    /// Keeps a nonce for the next proof.
    pub(crate) fn remember_nonce(&self, nonce: &str) {
        if !nonce.is_empty() && nonce.len() <= NONCE_MAX && nonce.bytes().all(|b| b.is_ascii_graphic()) {
            self.nonce.send_replace(Nonce::Known(nonce.to_owned()));
        }
    }

    /// Says that a nonce is being got, unless one is known or sought already.
    pub(crate) fn seek_nonce(&self) -> Option<Seeking<'_>> {
        let first = self.nonce.send_if_modified(|nonce| {
            let first = *nonce == Nonce::Unknown;
            if first {
                *nonce = Nonce::Sought;
            }
            first
        });
        first.then(|| Seeking(self))
    }

    /// The latest nonce; waits for at most `patience` while somebody else is getting the first one.
    pub(crate) async fn nonce(&self, patience: Duration) -> Option<String> {
        let mut nonce = self.nonce.subscribe();
        let known = tokio::time::timeout(patience, nonce.wait_for(|n| *n != Nonce::Sought)).await;
        match known {
            Ok(Ok(known)) => match &*known {
                Nonce::Known(nonce) => Some(nonce.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_signal(&self) {
        self.signals.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn signals(&self) -> u64 {
        self.signals.load(Ordering::Relaxed)
    }
}

/// Whole seconds, rounded up.
fn seconds(d: Duration) -> u64 {
    d.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_left_alone_until_the_time_is_up() {
        let server = Server::new("http://registry".into(), 30 * S);
        server.is_down("connection refused");
        let e = server.check().unwrap_err();
        assert_eq!(e.kind(), StepErrorKind::KnownDown);
        assert!(e.to_string().contains("connection refused") && e.to_string().contains("30 s"), "{e}");
        tokio::time::advance(30 * S).await;
        assert!(server.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_socket_and_a_new_network_vouch_for_the_server() {
        let server = Server::new("http://registry".into(), 30 * S);
        server.is_down("timeout");
        server.network_changed();
        assert!(server.check().is_ok());
        server.socket(true);
        server.is_down("timeout");
        assert!(server.check().is_ok(), "its socket is open");
        server.socket(false);
        assert!(server.check().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_server_asked_for_holds_whatever_else_is_known() {
        let server = Server::new("http://registry".into(), 30 * S);
        server.wants_pause("429", 10 * S);
        server.socket(true);
        server.answered();
        server.network_changed();
        assert_eq!(server.check().unwrap_err().kind(), StepErrorKind::KnownDown);
        tokio::time::advance(10 * S).await;
        assert!(server.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_caller_waits_for_the_first_ones_nonce() {
        let server = Server::new("http://registry".into(), 30 * S);
        let seeking = server.seek_nonce().unwrap();
        assert!(server.seek_nonce().is_none());
        let (nonce, ()) = tokio::join!(server.nonce(S), async { server.remember_nonce("n1") });
        assert_eq!(nonce.as_deref(), Some("n1"));
        drop(seeking);
        assert_eq!(server.nonce(S).await.as_deref(), Some("n1"), "giving up the search forgets no nonce");
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_that_was_given_up_holds_nobody() {
        let server = Server::new("http://registry".into(), 30 * S);
        let seeking = server.seek_nonce();
        let (nonce, ()) = tokio::join!(server.nonce(3600 * S), async { drop(seeking) });
        assert_eq!(nonce, None);
        assert!(server.seek_nonce().is_some());
    }

    #[test]
    fn only_a_printable_nonce_is_kept() {
        let server = Server::new("http://registry".into(), 30 * S);
        for wrong in ["", "a b", "n\u{e9}", &"n".repeat(NONCE_MAX + 1)] {
            server.remember_nonce(wrong);
            assert!(server.seek_nonce().is_some(), "{wrong:?}");
        }
    }
}
