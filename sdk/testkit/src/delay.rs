//! Latency inside one machine, in user space: for kernels that cannot delay packets.
//!
//! [`UdpDelayer`] is a set of sockets, one *front* for each real UDP address. What is sent
//! to the front of B comes to B one delay later, from the front of its sender, so that answers cross
//! the delayer too. [`Delayed`] wraps a transport whose signals carry SDP candidates and puts fronts
//! in the place of its addresses: every ICE, DTLS and SCTP packet then takes the way over the
//! delayer, because neither side ever learns a real address of the other.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use byway_api::{
    BindContext, Bytes, Endpoint, PeerId, Signal, SignalAddress, SignalError, SignalIn, SignalPort, Transport,
    TransportCaps, TransportError, async_trait,
};
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The bounds of a [`UdpDelayer`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DelayConfig {
    /// How long each datagram is under way, one way.
    pub one_way: Duration,
    /// Datagrams under way to one address; more are dropped, as a router would. Default 8,192.
    pub queued: usize,
    /// Size of each socket's kernel buffers; the system may grant less, and drops unseen what does
    /// not fit. Default 4 MiB.
    pub socket_buffer: usize,
    /// Fronts at once; beyond that no new address is served. Default 256.
    pub fronts: usize,
}

impl DelayConfig {
    /// The default bounds.
    pub const fn new(one_way: Duration) -> Self {
        Self { one_way, queued: 8_192, socket_buffer: 4 << 20, fronts: 256 }
    }
}

/// What a [`UdpDelayer`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DelayStats {
    /// Datagrams delivered.
    pub forwarded: u64,
    /// Datagrams dropped: a queue was full, or a socket refused them.
    pub dropped: u64,
}

/// A relay inside one machine that delays every datagram. Cheap to clone; its tasks end and its sockets
/// close when the last clone is dropped.
#[derive(Clone)]
pub struct UdpDelayer {
    shared: Arc<Shared>,
    /// Ends the tasks with the last clone; they themselves hold only `Shared`, weakly.
    _tasks: Arc<Mutex<JoinSet<()>>>,
}

struct Shared {
    config: DelayConfig,
    runtime: Handle,
    fronts: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>>,
    tasks: Weak<Mutex<JoinSet<()>>>,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

impl UdpDelayer {
    /// A delayer without fronts. Call it inside a tokio runtime; its tasks run there.
    ///
    /// # Errors
    /// If there is no tokio runtime here.
    pub fn start(config: DelayConfig) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let shared = Shared {
            config,
            runtime,
            fronts: Mutex::default(),
            tasks: Arc::downgrade(&tasks),
            forwarded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), _tasks: tasks })
    }

    /// The address that leads to `real` with a delay; always the same one. It has the same IP address
    /// if that is one of this machine, so that the front counts as the same kind of candidate;
    /// otherwise it is on loopback.
    ///
    /// # Errors
    /// If no socket can be opened, or there are too many fronts.
    pub fn front(&self, real: SocketAddr) -> io::Result<SocketAddr> {
        self.shared.front(real)?.local_addr()
    }

    /// What it has done so far.
    pub fn stats(&self) -> DelayStats {
        DelayStats {
            forwarded: self.shared.forwarded.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for UdpDelayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fronts = self.shared.lock().len();
        f.debug_struct("UdpDelayer").field("config", &self.shared.config).field("fronts", &fronts).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Arc<UdpSocket>>> {
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn front(self: &Arc<Self>, real: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        let mut fronts = self.lock();
        if let Some(front) = fronts.get(&real) {
            return Ok(Arc::clone(front));
        }
        if fronts.len() >= self.config.fronts {
            return Err(io::Error::other(format!("{} fronts are in use", fronts.len())));
        }
        let tasks = self.tasks.upgrade().ok_or_else(|| io::Error::other("the delayer is gone"))?;
        let loopback = match real {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        // An unspecified address is no place to send to; it must not open the front to every interface.
        let same = if real.ip().is_unspecified() { loopback } else { real.ip() };
        let socket = open((same, 0).into(), &self.config).or_else(|_| open((loopback, 0).into(), &self.config))?;
        let _inside = self.runtime.enter();
        let front = Arc::new(UdpSocket::from_std(socket)?);
        fronts.insert(real, Arc::clone(&front));
        let forwarding = forward(Arc::clone(&front), real, Arc::downgrade(self), self.config);
        tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(forwarding, &self.runtime);
        Ok(front)
    }
}

fn open(at: SocketAddr, config: &DelayConfig) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(config.socket_buffer)?;
    socket.set_send_buffer_size(config.socket_buffer)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// One datagram under way.
struct UnderWay {
    due: Instant,
    from: SocketAddr,
    payload: Box<[u8]>,
}

/// Takes what arrives at `front` to `real`, one delay later, from the front of its sender.
async fn forward(front: Arc<UdpSocket>, real: SocketAddr, shared: Weak<Shared>, config: DelayConfig) {
    /// The longest UDP payload.
    const DATAGRAM: usize = 65_535;
    /// Datagrams taken in one turn: those that are due must go out on time.
    const TURN: usize = 64;
    let mut buffer = vec![0; DATAGRAM];
    let mut queue: VecDeque<UnderWay> = VecDeque::new();
    loop {
        let due = queue.front().map(|first| first.due);
        tokio::select! {
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
            _ready = front.readable() => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        // An error other than WouldBlock is an ICMP answer to an earlier datagram: one receiver is
        // gone, the others are not. It is taken off the socket by being read.
        for _ in 0..TURN {
            match front.try_recv_from(&mut buffer) {
                Ok((length, from)) if queue.len() < config.queued => {
                    let due = Instant::now() + config.one_way;
                    queue.push_back(UnderWay { due, from, payload: buffer[..length].into() });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                _ => {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let now = Instant::now();
        while queue.front().is_some_and(|first| first.due <= now) {
            let Some(datagram) = queue.pop_front() else { break };
            let sent = match shared.front(datagram.from) {
                Ok(source) => source.send_to(&datagram.payload, real).await,
                Err(e) => Err(e),
            };
            let counter = if sent.is_ok() { &shared.forwarded } else { &shared.dropped };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

type Rewrite = Arc<dyn Fn(SocketAddr) -> SocketAddr + Send + Sync>;

/// A transport whose signals name fronts of a [`UdpDelayer`] instead of its own addresses.
///
/// Wrap both devices, so that neither learns a real address. Configure the transport without STUN
/// and TURN: a server would see, and tell, the real ones.
#[derive(Clone, Debug)]
pub struct Delayed {
    inner: Arc<dyn Transport>,
    delayer: UdpDelayer,
}

impl Delayed {
    /// Wraps a transport.
    pub fn new(inner: Arc<dyn Transport>, delayer: &UdpDelayer) -> Self {
        Self { inner, delayer: delayer.clone() }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for Delayed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn caps(&self) -> TransportCaps {
        self.inner.caps()
    }

    async fn bind(&self, mut cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        /// Where nobody listens: a candidate without a front must not offer a way around the delay.
        const DISCARD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
        let delayer = self.delayer.clone();
        cx.signals = cx.signals.map(|port| {
            let front = move |real| delayer.front(real).unwrap_or(DISCARD);
            Arc::new(DelayedSignals::new(port, front)) as Arc<dyn SignalPort>
        });
        self.inner.bind(cx).await
    }
}

/// A signal port that rewrites the addresses of SDP candidates in the signals it sends.
///
/// Rewritten are address and port of every UDP `candidate:` line in a body; lines that name no IP
/// address (mDNS names) or another protocol are left out, because they would be a way around.
/// Related addresses (`raddr`) stay: they are for people only.
pub struct DelayedSignals {
    inner: Arc<dyn SignalPort>,
    rewrite: Rewrite,
}

impl DelayedSignals {
    /// Wraps a port; `rewrite` gives the address to name instead of a real one.
    pub fn new(inner: Arc<dyn SignalPort>, rewrite: impl Fn(SocketAddr) -> SocketAddr + Send + Sync + 'static) -> Self {
        Self { inner, rewrite: Arc::new(rewrite) }
    }
}

impl fmt::Debug for DelayedSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayedSignals").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SignalPort for DelayedSignals {
    async fn send(&self, to: PeerId, at: &SignalAddress, mut signal: Signal) -> Result<(), SignalError> {
        signal.body = rewrite_candidates(&signal.body, &*self.rewrite);
        self.inner.send(to, at, signal).await
    }

    async fn next(&self) -> Option<SignalIn> {
        self.inner.next().await
    }
}

/// Rewrites every candidate line of a body (RFC 8839, section 5.1).
fn rewrite_candidates(body: &[u8], rewrite: &dyn Fn(SocketAddr) -> SocketAddr) -> Bytes {
    let mut out = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let Some(start) = find(line, b"candidate:") else {
            out.extend_from_slice(line);
            continue;
        };
        let (before, candidate) = line.split_at(start);
        if let Some(candidate) = std::str::from_utf8(candidate).ok().and_then(|text| rewritten(text, rewrite)) {
            out.extend_from_slice(before);
            out.extend_from_slice(candidate.as_bytes());
        }
    }
    out.into()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// `candidate:foundation component transport priority address port typ ...`
fn rewritten(candidate: &str, rewrite: &dyn Fn(SocketAddr) -> SocketAddr) -> Option<String> {
    let mut fields: Vec<&str> = candidate.split(' ').collect();
    let [_, _, protocol, _, ip, port, ..] = fields[..] else { return None };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    let to = rewrite(SocketAddr::new(ip.parse().ok()?, port.trim_end().parse().ok()?));
    let (ip, port) = (to.ip().to_string(), to.port().to_string());
    fields[4] = &ip;
    fields[5] = &port;
    Some(fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_udp_candidates_with_an_ip_address_remain_and_are_rewritten() {
        let sdp = "v=0\r\na=ice-ufrag:x\r\n\
            a=candidate:1 1 udp 2130706431 10.0.0.7 5000 typ host\r\n\
            a=candidate:2 1 UDP 2130706431 fe80::1 5001 typ host generation 0\r\n\
            a=candidate:3 1 tcp 1518214911 10.0.0.7 9 typ host tcptype active\r\n\
            a=candidate:4 1 udp 2130706431 8c2e.local 5002 typ host\r\n\
            a=end-of-candidates\r\n";
        let out = rewrite_candidates(sdp.as_bytes(), &|a| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), a.port() + 100));
        let wanted = "v=0\r\na=ice-ufrag:x\r\n\
            a=candidate:1 1 udp 2130706431 127.0.0.1 5100 typ host\r\n\
            a=candidate:2 1 UDP 2130706431 127.0.0.1 5101 typ host generation 0\r\n\
            a=end-of-candidates\r\n";
        assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
    }

    #[test]
    fn a_late_candidate_is_rewritten_wherever_it_stands() {
        let body = b"\x02candidate:1 1 udp 1 10.0.0.7 5000 typ host";
        let out = rewrite_candidates(body, &|_| SocketAddr::from(([127, 0, 0, 1], 7)));
        assert_eq!(&out[..], b"\x02candidate:1 1 udp 1 127.0.0.1 7 typ host");
    }

    #[tokio::test]
    async fn datagrams_and_their_answers_take_the_delay_each_way() {
        let one_way = Duration::from_millis(40);
        let delayer = UdpDelayer::start(DelayConfig::new(one_way)).unwrap();
        let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to_b = delayer.front(b.local_addr().unwrap()).unwrap();
        let to_a = delayer.front(a.local_addr().unwrap()).unwrap();
        let started = Instant::now();
        for number in 0..50u8 {
            a.send_to(&[number], to_b).await.unwrap();
        }
        let mut buffer = [0; 16];
        for number in 0..50u8 {
            let (length, from) = b.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], from), (&[number][..], to_a), "in order, and from the sender's front");
        }
        assert!(started.elapsed() >= one_way, "the way there took {:?}", started.elapsed());
        b.send_to(b"answer", to_a).await.unwrap();
        let (length, from) = a.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], to_b));
        assert!(started.elapsed() >= 2 * one_way, "there and back took {:?}", started.elapsed());
        assert_eq!(delayer.stats().dropped, 0);
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let mut config = DelayConfig::new(Duration::from_millis(50));
        config.queued = 3;
        let delayer = UdpDelayer::start(config).unwrap();
        let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to_b = delayer.front(b.local_addr().unwrap()).unwrap();
        for _ in 0..10 {
            a.send_to(b"x", to_b).await.unwrap();
        }
        let mut buffer = [0; 16];
        for _ in 0..3 {
            b.recv_from(&mut buffer).await.unwrap();
        }
        while delayer.stats().forwarded < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(delayer.stats(), DelayStats { forwarded: 3, dropped: 7 });
    }
}
