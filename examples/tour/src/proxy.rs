//! Stands before the registry and counts: every HTTP call and every socket that is opened, whether the
//! registry is there to answer or not.
//!
//! It changes one thing: each connection carries one request, so that none can pass uncounted. The
//! bytes of a WebSocket pass through.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::child::PATIENCE;
use crate::report::{Failure, Result};

/// The longest head, and the longest body, of a request.
const LONGEST: usize = 128 << 10;
/// Calls that are remembered.
const REMEMBERED: usize = 10_000;
/// How long a client may take to say what it wants.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `POST /network/{id}/announce`
    Announce,
    /// `GET /network/{id}/peer/{user}`
    Peer,
    /// `GET /network/{id}/active-peers`
    ActivePeers,
    /// The signalling socket.
    Socket,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(method: &str, path: &str, upgrade: bool) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", [_]) if upgrade => Self::Socket,
            ("POST", ["network", _, "announce"]) => Self::Announce,
            ("GET", ["network", _, "peer", _]) => Self::Peer,
            ("GET", ["network", _, "active-peers"]) => Self::ActivePeers,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Announce => "announce",
            Self::Peer => "peer",
            Self::ActivePeers => "active-peers",
            Self::Socket => "socket",
            Self::Other => "other",
        })
    }
}

/// One call, as it went by.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it was about.
    pub kind: Kind,
    /// The head of the request, as the client sent it.
    pub head: String,
    /// The body of the request.
    pub body: Vec<u8>,
    /// The status of the answer; `None` while there is none, and for ever if the registry was dead.
    pub status: Option<u16>,
    /// It has ended without an answer.
    pub in_vain: bool,
}

impl Call {
    /// The path.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Whether the registry took it.
    pub fn succeeded(&self) -> bool {
        matches!(self.status, Some(101 | 200..=299))
    }

    /// Whether it is about this device: its announcement, or its socket.
    pub fn is_of(&self, peer: &str) -> bool {
        match self.kind {
            Kind::Announce => {
                let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                body["peerId"] == peer
            }
            Kind::Socket => self.path().trim_start_matches('/') == peer,
            _ => false,
        }
    }
}

/// A moment in the list of calls; by default its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(usize);

/// The calls of a stretch of time.
#[derive(Clone, Debug)]
pub struct Stretch(Vec<Call>);

impl Stretch {
    /// Those that the registry answered.
    pub fn answered(&self) -> u64 {
        self.0.iter().filter(|call| !call.in_vain).count() as u64
    }

    /// Those to a registry that was dead.
    pub fn in_vain(&self) -> u64 {
        self.0.iter().filter(|call| call.in_vain).count() as u64
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.0.len() as u64
    }
}

impl fmt::Display for Stretch {
    /// `2: announce, socket`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.len())?;
        for (n, call) in self.0.iter().enumerate() {
            write!(f, "{} {}", if n == 0 { ":" } else { "," }, call.kind)?;
            if call.in_vain {
                f.write_str(" in vain")?;
            }
        }
        Ok(())
    }
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: watch::Sender<Option<SocketAddr>>,
    calls: watch::Sender<Vec<Call>>,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// If the system gives none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { upstream: watch::Sender::new(None), calls: watch::Sender::new(Vec::new()) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// What members know as the registry.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the registry is.
    pub fn forward_to(&self, upstream: SocketAddr) {
        self.shared.upstream.send_replace(Some(upstream));
    }

    /// Where the registry is, without the proxy.
    pub fn upstream(&self) -> Option<SocketAddr> {
        *self.shared.upstream.borrow()
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(self.shared.calls.borrow().len())
    }

    /// The calls since then.
    pub fn since(&self, mark: Mark) -> Stretch {
        Stretch(self.shared.calls.borrow().iter().skip(mark.0).cloned().collect())
    }

    /// Waits for a call, which may have been before now.
    ///
    /// # Errors
    /// [`Failure`] if there is none in time.
    pub async fn until(&self, what: &str, mark: Mark, wanted: impl Fn(&Call) -> bool) -> Result<Call> {
        let mut calls = self.shared.calls.subscribe();
        let find = |calls: &Vec<Call>| calls.iter().skip(mark.0).find(|call| wanted(call)).cloned();
        let found = timeout(PATIENCE, calls.wait_for(|calls| find(calls).is_some())).await;
        let found = found.ok().and_then(|calls| calls.ok().and_then(|calls| find(&calls)));
        found.ok_or_else(|| Failure::new(format!("no {what} at the registry; its calls: {}", self.since(mark))))
    }

    /// Whether there was such a call since then.
    pub fn any(&self, mark: Mark, wanted: impl Fn(&Call) -> bool) -> bool {
        self.shared.calls.borrow().iter().skip(mark.0).any(wanted)
    }

    /// Waits until something changes, but not for long.
    pub async fn changed(&self, wait: Duration) {
        let mut calls = self.shared.calls.subscribe();
        let _ = timeout(wait, calls.changed()).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let _ = client.set_nodelay(true);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // Whatever breaks, breaks for both ends.
                    let _ = forward(client, &shared).await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn forward(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Ok(Ok((head, body))) = timeout(HEAD_WAIT, read_request(&mut client)).await else { return Ok(()) };
    let method = head.split(' ').next().unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let upgrade = header(&head, "upgrade").is_some_and(|what| what.eq_ignore_ascii_case("websocket"));
    let kind = Kind::of(method, path, upgrade);
    let mut number = 0;
    shared.calls.send_modify(|calls| {
        number = calls.len();
        if number < REMEMBERED {
            calls.push(Call { kind, head: head.clone(), body: body.clone(), status: None, in_vain: false });
        }
    });
    let answered = relay(&mut client, shared, number, &head, &body, upgrade).await;
    shared.calls.send_if_modified(|calls| match calls.get_mut(number) {
        Some(call) if call.status.is_none() => {
            call.in_vain = true;
            true
        }
        _ => false,
    });
    answered
}

async fn relay(
    client: &mut TcpStream,
    shared: &Shared,
    number: usize,
    head: &str,
    body: &[u8],
    upgrade: bool,
) -> io::Result<()> {
    let Some(address) = *shared.upstream.borrow() else { return Ok(()) };
    let mut registry = TcpStream::connect(address).await?;
    registry.set_nodelay(true)?;
    let head = if upgrade { head.to_owned() } else { closing(head) };
    registry.write_all(head.as_bytes()).await?;
    registry.write_all(body).await?;

    let mut first = vec![0; 4096];
    let length = registry.read(&mut first).await?;
    let status = status_of(&first[..length]);
    shared.calls.send_modify(|calls| {
        if let Some(call) = calls.get_mut(number) {
            call.status = status;
        }
    });
    client.write_all(&first[..length]).await?;
    if upgrade && status == Some(101) {
        copy_bidirectional(client, &mut registry).await?;
    } else {
        copy(&mut registry, client).await?;
        client.shutdown().await?;
    }
    Ok(())
}

async fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > LONGEST || client.read_buf(&mut bytes).await? == 0 {
            return Err(broken("no request"));
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).map_err(|_| broken("no text"))?;
    let length = header(&head, "content-length").map_or(Ok(0), str::parse::<usize>);
    let length = length.ok().filter(|length| *length <= LONGEST).ok_or_else(|| broken("too long"))?;
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(broken("half a body"));
        }
    }
    Ok((head, body))
}

/// The head, with the wish to close the connection after the answer.
fn closing(head: &str) -> String {
    let kept = head.split("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !line.is_empty() && !name.eq_ignore_ascii_case("connection")
    });
    kept.chain(["connection: close", "", ""]).collect::<Vec<_>>().join("\r\n")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /network/n/announce HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nA: b c\r\n\r\n";

    #[test]
    fn a_call_is_told_by_method_and_path() {
        assert_eq!(Kind::of("POST", "/network/n/announce", false), Kind::Announce);
        assert_eq!(Kind::of("GET", "/network/n/peer/bob", false), Kind::Peer);
        assert_eq!(Kind::of("GET", "/network/n/active-peers?limit=3", false), Kind::ActivePeers);
        assert_eq!(Kind::of("GET", "/12D3KooW", true), Kind::Socket);
        assert_eq!(Kind::of("GET", "/health", false), Kind::Other);
    }

    #[test]
    fn a_connection_carries_one_request() {
        let head = closing(HEAD);
        assert_eq!(header(&head, "connection"), Some("close"));
        assert_eq!(header(&head, "a"), Some("b c"));
        assert!(head.ends_with("\r\n\r\n") && !head.contains("keep-alive"), "{head:?}");
    }

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status_of(b"HTTP/1.1 401 Unauthorized\r\nA: b\r\n\r\n"), Some(401));
        assert_eq!(status_of(b""), None);
        assert_eq!(status_of(b"HTTP/1.1"), None);
    }

    #[tokio::test]
    async fn a_call_to_a_dead_registry_is_counted_and_in_vain() {
        let proxy = Proxy::start().await.unwrap();
        let mark = proxy.mark();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(HEAD.as_bytes()).await.unwrap();
        assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        proxy.until("announcement", mark, |call| call.kind == Kind::Announce && call.in_vain).await.unwrap();
        let calls = proxy.since(mark);
        assert_eq!((calls.all(), calls.answered(), calls.in_vain()), (1, 0, 1));
        assert_eq!(calls.to_string(), "1: announce in vain");
    }
}
