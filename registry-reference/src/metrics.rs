//! Numbers for whoever runs the registry, as a Prometheus text page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use byway_socket::{Closed, RouteCounts};

use crate::backend::Swept;

/// Counters since the start. Labels come from fixed sets, so the page cannot grow.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    closed: Mutex<BTreeMap<&'static str, u64>>,
    failed_auths: AtomicU64,
    sweeps: AtomicU64,
    swept: [AtomicU64; 3],
    appointed: AtomicU64,
}

/// What is counted elsewhere.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) sockets: usize,
    pub(crate) attached: usize,
    pub(crate) signals: RouteCounts,
    pub(crate) networks: usize,
    pub(crate) active_peers: usize,
}

impl Metrics {
    pub(crate) fn request(&self, route: &str, method: &Method, status: u16) {
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::OPTIONS => "OPTIONS",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), method, status)).or_default() += 1;
    }

    pub(crate) fn socket_closed(&self, why: &Closed) {
        let why = match why {
            Closed::Local | Closed::Stopping => "shutdown",
            Closed::Remote | Closed::Lost(_) => "left",
            Closed::Silent => "silent",
            Closed::TooLate | Closed::Refused(_) => "unauthorized",
            Closed::Malformed(_) | Closed::TooLarge(_) => "protocol",
            Closed::Flood => "flood",
            Closed::Slow => "slow",
            Closed::Replaced => "replaced",
            Closed::Full => "full",
            _ => "other",
        };
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    pub(crate) fn failed_auth(&self) {
        self.failed_auths.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn swept(&self, swept: &Swept) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        for (counter, n) in self.swept.iter().zip([swept.inactive, swept.records, swept.coordinators]) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn appointed(&self, n: usize) {
        self.appointed.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
    }

    /// The page, in Prometheus' text format 0.0.4.
    pub(crate) fn page(&self, now: &Now) -> String {
        let mut page = Page(String::new());
        page.head("requests_total", "counter", "HTTP requests answered");
        for ((route, method, status), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            page.line("requests_total", &format!("{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"), *n);
        }
        page.one("sockets_open", "gauge", "open signalling sockets", now.sockets);
        page.one("devices_attached", "gauge", "devices with a signalling socket", now.attached);
        page.head("sockets_closed_total", "counter", "ended signalling sockets by reason");
        for (why, n) in &*self.closed.lock().unwrap_or_else(PoisonError::into_inner) {
            page.line("sockets_closed_total", &format!("{{reason=\"{why}\"}}"), *n);
        }
        page.head("signals_total", "counter", "envelopes by what became of them");
        let s = &now.signals;
        for (status, n) in
            [("delivered", s.delivered), ("forwarded", s.forwarded), ("no_such_peer", s.no_such_peer), ("busy", s.busy)]
        {
            page.line("signals_total", &format!("{{status=\"{status}\"}}"), n);
        }
        page.one("networks", "gauge", "networks with active peers", now.networks);
        page.one("active_peers", "gauge", "active peers of all networks", now.active_peers);
        page.one("failed_auths_total", "counter", "proofs and credentials refused", read(&self.failed_auths));
        page.one("sweeps_total", "counter", "cleanups", read(&self.sweeps));
        page.head("swept_total", "counter", "what cleanups removed");
        for (what, n) in ["inactive", "records", "coordinators"].iter().zip(&self.swept) {
            page.line("swept_total", &format!("{{what=\"{what}\"}}"), read(n));
        }
        page.one("appointed_total", "counter", "coordinators appointed", read(&self.appointed));
        page.0
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP byway_registry_{name} {help}.\n# TYPE byway_registry_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "byway_registry_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }
}
