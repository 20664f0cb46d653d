//! Doubles that the tests of this crate share: a scripted HTTP server, a lookup, a meter, a prover.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use byway_api::{
    Lookup, Meter, Neighbour, NetworkId, PeerId, Proof, Prover, Query, Route, Sightings, StepError, StepErrorKind,
    UserId, async_trait,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("team-blue").unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// What nothing in these tests should come near.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within 20 s")
}

/// So many tokens, and what they were spent on.
#[derive(Debug)]
pub(crate) struct Tokens {
    left: AtomicU64,
    pub(crate) spent: Mutex<Vec<&'static str>>,
}

impl Tokens {
    pub(crate) fn new(n: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(n), spent: Mutex::default() })
    }

    pub(crate) fn add(&self, n: u64) {
        self.left.fetch_add(n, Ordering::SeqCst);
    }

    pub(crate) fn spent(&self) -> Vec<&'static str> {
        self.spent.lock().unwrap().clone()
    }
}

impl Meter for Tokens {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .map_err(|_| StepError::new(StepErrorKind::NoBudget, "test", what))?;
        self.spent.lock().unwrap().push(what);
        Ok(())
    }
}

/// A prover whose proofs can be read.
#[derive(Debug, Default)]
pub(crate) struct Readable;

impl Prover for Readable {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        Proof { credential: "credential".into(), proof: format!("{method}_{target}_{nonce}") }
    }
}

/// A lookup for "bob" that writes down what it is told.
pub(crate) struct Search {
    pub(crate) query: Query,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) remembered: Vec<Route>,
    pub(crate) answers: Vec<(PeerId, Vec<Route>)>,
    pub(crate) found: Mutex<Vec<Route>>,
    pub(crate) enough: usize,
    pub(crate) tokens: Arc<Tokens>,
}

impl Search {
    pub(crate) fn of(name: &str) -> Self {
        Self {
            query: Query::new(network(), user(name)),
            neighbours: Vec::new(),
            remembered: Vec::new(),
            answers: Vec::new(),
            found: Mutex::default(),
            enough: usize::MAX,
            tokens: Tokens::new(100),
        }
    }

    pub(crate) fn found(&self) -> Vec<Route> {
        self.found.lock().unwrap().clone()
    }

    /// The devices and addresses, as text.
    pub(crate) fn ways(&self) -> Vec<(PeerId, String)> {
        self.found().into_iter().map(|r| (r.peer, r.address.to_string())).collect()
    }

    fn note(&self, route: Route) -> ControlFlow<()> {
        let mut found = self.found.lock().unwrap();
        assert!(found.len() < self.enough, "reported {route:?} after the search was over");
        found.push(route);
        if found.len() == self.enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[async_trait]
impl Lookup for Search {
    fn query(&self) -> &Query {
        &self.query
    }
    fn connected(&self) -> Vec<Neighbour> {
        self.neighbours.clone()
    }
    async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, StepError> {
        let answer = self.answers.iter().find(|(who, _)| *who == neighbour);
        answer.map(|(_, routes)| routes.clone()).ok_or_else(|| StepError::new(StepErrorKind::Timeout, "test", "gone"))
    }
    async fn recall(&self, limit: usize) -> Result<Vec<Route>, StepError> {
        Ok(self.remembered.iter().take(limit).cloned().collect())
    }
    fn found(&self, route: Route) -> ControlFlow<()> {
        self.note(route)
    }
    fn meter(&self) -> &dyn Meter {
        &*self.tokens
    }
}

impl Sightings for Search {
    fn network(&self) -> &NetworkId {
        &self.query.network
    }
    fn seen(&self, route: Route) -> ControlFlow<()> {
        self.note(route)
    }
    fn meter(&self) -> &dyn Meter {
        &*self.tokens
    }
}

/// What a scripted server answers.
pub(crate) enum Say {
    Status(u16, &'static [(&'static str, &'static str)], String),
    /// A body of so many bytes without a length in front.
    Endless(usize),
    /// Nothing, ever.
    Nothing,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// An HTTP server that answers from a script; 200 `{}` when it is at its end.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(script: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let notes = Arc::clone(&asked);
        let app = Router::new().fallback(move |request: Request| {
            let (notes, script) = (Arc::clone(&notes), Arc::clone(&script));
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                notes.lock().unwrap().push(Asked {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body,
                });
                let next = script.lock().unwrap().pop_front();
                answer(next.unwrap_or(Say::Status(200, &[], "{}".into()))).await
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(say: Say) -> Response {
    match say {
        Say::Status(status, headers, body) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
        Say::Endless(bytes) => {
            let chunks =
                futures_util::stream::iter((0..bytes / 4096).map(|_| Ok::<_, std::io::Error>(vec![b' '; 4096])));
            Body::from_stream(chunks).into_response()
        }
        Say::Nothing => std::future::pending().await,
    }
}

/// A port on which nobody listens.
pub(crate) async fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
