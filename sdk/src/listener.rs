//! The signalling socket that a member serves: who knows our address finds us without any server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use byway_api::{
    Carried, Membership, NetworkId, PeerId, Proof, Sealed, SignalAddress, SignalContext, SignalError, SignalErrorKind,
    Signaling,
};
use byway_socket::{
    Arrival, Challenge, Device, Entry, Gate, Hub, HubConfig, LocalDevice, Refusal, Routed, over_websocket,
    websocket_config,
};
use byway_wire::base64url;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::engine::now_wall;

/// Addresses of interfaces that a wildcard bind puts into our record. A record has room for 8 of all
/// kinds.
const INTERFACES: usize = 4;

/// The numbers and names of a [`Listener`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Where to listen. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// If the port is in use, take a free one instead of failing. Default no.
    pub or_any_port: bool,
    /// The URLs (`ws://host:port`) under which others reach us, instead of those of our own addresses:
    /// behind a port forwarding. Default none.
    pub advertise: Vec<String>,
    /// The signalling socket; by default 32 sockets.
    pub hub: HubConfig,
    /// The HTTP upgrade; default 5 s.
    pub upgrade_timeout: Duration,
    /// The wait after the system refused to accept a connection (too many open files); default 100 ms.
    pub accept_pause: Duration,
}

impl ListenerConfig {
    /// The defaults, at an address.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            or_any_port: false,
            advertise: Vec::new(),
            hub: HubConfig::default(),
            upgrade_timeout: Duration::from_secs(5),
            accept_pause: Duration::from_millis(100),
        }
    }
}

/// Why there is no listener.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// What can be done about it.
    pub fn advice(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "choose another port, or 0 for any",
            io::ErrorKind::AddrNotAvailable => "use an address of this machine, or 0.0.0.0 for all of them",
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher one",
            _ => "check the address and this machine's network",
        }
    }
}

/// A member's own signalling socket, as a carrier.
///
/// # Behavior
/// * It speaks the registry's socket protocol. Members of the network attach with a proof bound to our
///   PeerId, and send to us and to each other; envelopes are sealed, so there is no TLS.
/// * [`send`](Signaling::send) reaches only devices that are attached here: the `back` of what they sent.
/// * At most 32 sockets; limits, timeouts and bounds are those of [`HubConfig`].
///
/// # Shutdown
/// After `close` the port is free and no task is left. Dropping aborts.
pub struct Listener {
    config: ListenerConfig,
    membership: Arc<dyn Membership>,
    address: SocketAddr,
    /// Until attached.
    socket: Mutex<Option<TcpListener>>,
    attached: OnceLock<Attached>,
    closing: CancellationToken,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Attached {
    me: PeerId,
    hub: Hub,
    local: LocalDevice,
    /// What our own node calls us in `back`; served for ever, whatever happens to the interfaces.
    home: String,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Listener {
    /// The carrier's name.
    pub const NAME: &'static str = "listener";

    /// Takes the port. Connections wait until the listener is attached to a node.
    ///
    /// # Errors
    /// [`ListenError`] if the port is in use (unless [`ListenerConfig::or_any_port`]) or the address is not ours.
    pub async fn bind(config: ListenerConfig, membership: Arc<dyn Membership>) -> Result<Self, ListenError> {
        let error = |source| ListenError { address: config.bind, source };
        let socket = match TcpListener::bind(config.bind).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && config.or_any_port => {
                TcpListener::bind(SocketAddr::new(config.bind.ip(), 0)).await
            }
            bound => bound,
        };
        let socket = socket.map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        Ok(Self {
            config,
            membership,
            address,
            socket: Mutex::new(Some(socket)),
            attached: OnceLock::new(),
            closing: CancellationToken::new(),
            tasks: tokio::sync::Mutex::default(),
        })
    }

    /// Where it listens; remember the port, so that it is the same after a restart.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `ws://host:port` of every way to us, best first.
    fn bases(&self) -> Vec<String> {
        if !self.config.advertise.is_empty() {
            return self.config.advertise.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        }
        let port = self.address.port();
        let hosts =
            if self.address.ip().is_unspecified() { interfaces(self.address.ip()) } else { vec![self.address.ip()] };
        hosts.into_iter().map(|ip| base(SocketAddr::new(ip, port))).collect()
    }

    fn error(kind: SignalErrorKind, detail: impl Into<String>) -> SignalError {
        SignalError::new(kind, Self::NAME, detail)
    }
}

fn base(address: SocketAddr) -> String {
    format!("ws://{address}")
}

/// Addresses of this machine that others can use: private and public IPv4 first, then IPv6. Loopback
/// only if there is nothing else.
fn interfaces(wildcard: IpAddr) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip()).collect(),
        Err(error) => {
            tracing::debug!(target: "byway::listener", %error, "the interfaces cannot be read");
            Vec::new()
        }
    };
    usable(wildcard, all)
}

fn usable(wildcard: IpAddr, all: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut hosts: Vec<IpAddr> = all
        .into_iter()
        .filter(|ip| match ip {
            // An IPv6 wildcard accepts IPv4 as well, but on Windows.
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && (wildcard.is_ipv4() || !cfg!(windows)),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && wildcard.is_ipv6(),
        })
        .collect();
    hosts.sort_by_key(IpAddr::is_ipv6);
    hosts.dedup();
    hosts.truncate(INTERFACES);
    if hosts.is_empty() {
        let v6_only = wildcard.is_ipv6() && cfg!(windows);
        hosts.push(if v6_only { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    hosts
}

#[async_trait]
impl Signaling for Listener {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        let closed = || Self::error(SignalErrorKind::Closed, "the listener was attached before, or is closed");
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(closed)?;
        let device = Device::new(cx.network.clone(), cx.me);
        let gate = MemberGate {
            me: cx.me,
            network: cx.network,
            membership: Arc::clone(&self.membership),
            works: AtomicBool::new(true),
        };
        let hub = Hub::new(self.config.hub.clone(), Arc::new(gate));
        let local = hub.local(device).ok_or_else(closed)?;
        let home = self.bases().into_iter().next().unwrap_or_else(|| base(self.address));
        self.attached.set(Attached { me: cx.me, hub: hub.clone(), local, home }).map_err(|_| closed())?;
        let door = Door { socket, hub, config: self.config.clone(), closing: self.closing.clone() };
        self.tasks.lock().await.spawn(door.accept());
        tracing::info!(target: "byway::listener", address = %self.address, "listening");
        Ok(())
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        let Some((base, _)) = at.socket_parts() else { return false };
        let home = self.attached.get().map(|attached| attached.home.as_str());
        home == Some(base) || self.bases().iter().any(|ours| ours == base)
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        let Some(attached) = self.attached.get() else { return Vec::new() };
        if self.closing.is_cancelled() {
            return Vec::new();
        }
        self.bases().iter().filter_map(|base| SignalAddress::socket(base, attached.me).ok()).collect()
    }

    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        if !self.serves(at) {
            return Err(Self::error(SignalErrorKind::BadAddress, at.as_str()));
        }
        let attached = self.attached.get().filter(|_| !self.closing.is_cancelled());
        let attached = attached.ok_or_else(|| Self::error(SignalErrorKind::Closed, ""))?;
        let (kind, detail) = match attached.local.send(mail.to, mail.envelope).await {
            Routed::Delivered | Routed::Forwarded => return Ok(()),
            Routed::NoSuchPeer => (SignalErrorKind::NoSuchPeer, "the device is not attached to our listener"),
            Routed::Refused => (SignalErrorKind::Refused, "this is no envelope for that device"),
            _ => (SignalErrorKind::Busy, "the device does not read fast enough; try again later"),
        };
        Err(Self::error(kind, detail))
    }

    async fn recv(&self) -> Option<Carried> {
        let attached = self.attached.get()?;
        loop {
            let (from, envelope) = attached.local.recv().await?;
            // An address that does not fit is one of an absurd `advertise`; such mail cannot be answered.
            if let Ok(back) = SignalAddress::socket(&attached.home, from) {
                return Some(Carried { mail: Sealed { to: attached.me, envelope }, back });
            }
        }
    }

    async fn close(&self) {
        self.closing.cancel();
        drop(self.socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(attached) = self.attached.get() {
            attached.hub.close().await;
        }
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

/// Accepts connections and runs their sockets.
struct Door {
    socket: TcpListener,
    hub: Hub,
    config: ListenerConfig,
    closing: CancellationToken,
}

impl Door {
    async fn accept(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    // Without a place the connection is dropped unheard.
                    Ok((stream, from)) => if let Ok(entry) = self.hub.enter(Some(from.ip().to_canonical())) {
                        let limit = self.config.upgrade_timeout;
                        connections.spawn(Box::pin(serve(stream, from, entry, limit, self.closing.clone())));
                    },
                    Err(error) => {
                        tracing::debug!(target: "byway::listener", %error, "accepting failed");
                        tokio::time::sleep(self.config.accept_pause).await;
                    }
                },
            }
        }
        drop(self.socket);
        // The hub ends every socket; what is still upgrading has been cancelled.
        while connections.join_next().await.is_some() {}
    }
}

#[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
async fn serve(stream: TcpStream, from: SocketAddr, entry: Entry, limit: Duration, closing: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut claimed = None;
    let upgrade = accept_hdr_async_with_config(
        stream,
        |request: &Request, response| claim(request, response, &mut claimed),
        Some(websocket_config()),
    );
    let websocket = match closing.run_until_cancelled(timeout(limit, upgrade)).await {
        Some(Ok(Ok(websocket))) => websocket,
        Some(Ok(Err(error))) => return tracing::debug!(target: "byway::listener", %from, %error, "no upgrade"),
        Some(Err(_)) | None => return,
    };
    let Some(claimed) = claimed else { return };
    let mut arrival = Arrival::new(claimed);
    arrival.from = Some(from.ip());
    let served = entry.serve(over_websocket(websocket), arrival).await;
    tracing::debug!(target: "byway::listener", %from, device = ?served.device, why = %served.closed, "socket ended");
}

/// The device in the path `/{peerId}`.
#[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
fn claim(request: &Request, response: Response, claimed: &mut Option<PeerId>) -> Result<Response, ErrorResponse> {
    *claimed = request.uri().path().strip_prefix('/').and_then(|path| path.parse().ok());
    if claimed.is_some() {
        return Ok(response);
    }
    let text = "this is a signalling socket: connect to /{peerId} with your own PeerId\n";
    let mut refusal = ErrorResponse::new(Some(text.to_owned()));
    *refusal.status_mut() = StatusCode::NOT_FOUND;
    refusal.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Err(refusal)
}

/// Lets members of the network in, with a proof bound to our PeerId.
#[derive(Debug)]
struct MemberGate {
    me: PeerId,
    network: NetworkId,
    membership: Arc<dyn Membership>,
    /// False once the system gave no randomness: then nobody is let in.
    works: AtomicBool,
}

impl Gate for MemberGate {
    fn challenge(&self, _: PeerId, _: Option<&str>) -> Challenge {
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            self.works.store(false, Ordering::Relaxed);
        }
        Challenge { nonce: base64url::encode(&nonce), target: self.me.to_string() }
    }

    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal> {
        if !self.works.load(Ordering::Relaxed) {
            return Err(Refusal("this listener's system has no randomness".to_owned()));
        }
        let member = challenge.check(proof, &*self.membership, now_wall())?;
        Ok(Device::new(self.network.clone(), member.peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_reached_by_the_interfaces() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let all = ips(&["127.0.0.1", "fe80::1", "2001:db8::1", "192.168.1.2", "169.254.3.4", "::1", "10.0.0.3"]);
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        assert_eq!(usable(v4, all.clone()), ips(&["192.168.1.2", "10.0.0.3"]));
        if !cfg!(windows) {
            assert_eq!(usable(v6, all), ips(&["192.168.1.2", "10.0.0.3", "2001:db8::1"]));
        }
        assert_eq!(usable(v4, ips(&["127.0.0.1", "::1"])), ips(&["127.0.0.1"]));
        let many = (1..9).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(usable(v4, many).len(), INTERFACES);
    }
}
