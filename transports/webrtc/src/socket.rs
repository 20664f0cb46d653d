//! The UDP sockets of an endpoint: one per address family, with segmentation offload and source
//! addresses.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::sync::lock;

/// Buffers filled by one receive call, each with up to 64 KiB of datagrams from one sender.
const BATCH: usize = 8;
const BUFFER: usize = 65_536;
/// Bundles that wait for a full kernel buffer to drain; more are dropped, as the network would.
const MAX_BACKLOG: usize = 512;

/// Where received datagrams are put.
pub(crate) struct Buffers {
    bytes: Vec<u8>,
    meta: [RecvMeta; BATCH],
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH * BUFFER], meta: [RecvMeta::default(); BATCH] }
    }
}

/// Datagrams of one length that came from one sender.
pub(crate) struct Received<'a> {
    pub(crate) from: SocketAddr,
    /// The address they were sent to, if the system tells.
    pub(crate) to: Option<IpAddr>,
    pub(crate) datagrams: std::slice::Chunks<'a, u8>,
}

#[derive(Debug)]
struct Waiting {
    source: Option<IpAddr>,
    to: SocketAddr,
    bytes: Vec<u8>,
    segment: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
    backlog: Mutex<VecDeque<Waiting>>,
    blocked: AtomicBool,
    /// Told when something begins to wait.
    wake: Arc<Notify>,
}

impl Socket {
    fn bind(address: SocketAddr, kernel_buffer: usize, wake: &Arc<Notify>) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::DGRAM,
            Some(socket2::Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // the system caps what it does not want to give
        let _ = socket.set_recv_buffer_size(kernel_buffer);
        let _ = socket.set_send_buffer_size(kernel_buffer);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let bound = io.local_addr()?;
        let (backlog, blocked) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { io, state, bound, backlog, blocked, wake: Arc::clone(wake) })
    }

    /// Where it is bound; the address may be the wildcard, the port is real.
    pub(crate) const fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// How many datagrams one call can carry.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends one datagram, or several of `segment` bytes each. Never waits. `source` is the address
    /// that the other side has to see.
    pub(crate) fn send(&self, source: IpAddr, to: SocketAddr, bytes: &[u8], segment: Option<usize>) {
        let source = (self.bound.ip().is_unspecified() && !source.is_unspecified()).then_some(source);
        if self.blocked.load(Ordering::Acquire) {
            return self.wait(Waiting { source, to, bytes: bytes.to_vec(), segment });
        }
        if let Err(e) = self.try_send(source, to, bytes, segment) {
            if e.kind() == io::ErrorKind::WouldBlock {
                self.wait(Waiting { source, to, bytes: bytes.to_vec(), segment });
            } else {
                tracing::trace!(%to, error = %e, "a datagram could not be sent");
            }
        }
    }

    fn try_send(&self, src_ip: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size: segment, src_ip };
        self.io.try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.io), &transmit))
    }

    fn wait(&self, waiting: Waiting) {
        let mut backlog = lock(&self.backlog);
        if backlog.len() < MAX_BACKLOG {
            backlog.push_back(waiting);
        }
        if !self.blocked.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// True while datagrams wait for the kernel.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Sends what waited.
    pub(crate) fn flush(&self) {
        let mut backlog = lock(&self.backlog);
        while let Some(next) = backlog.front() {
            match self.try_send(next.source, next.to, &next.bytes, next.segment) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                _ => backlog.pop_front(),
            };
        }
        self.blocked.store(false, Ordering::Release);
    }

    /// Takes what has arrived, without waiting. True if there may be more.
    pub(crate) fn receive(&self, buffers: &mut Buffers, mut each: impl FnMut(Received<'_>)) -> bool {
        let Buffers { bytes, meta } = buffers;
        let filled = {
            let mut chunks = bytes.chunks_exact_mut(BUFFER);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let receive = || self.state.recv(UdpSockRef::from(&self.io), &mut slices, meta);
            self.io.try_io(Interest::READABLE, receive).unwrap_or(0)
        };
        for (meta, bytes) in meta.iter().zip(bytes.chunks_exact(BUFFER)).take(filled) {
            let datagrams = bytes.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1));
            each(Received { from: meta.addr, to: meta.dst_ip, datagrams });
        }
        filled == BATCH
    }
}

/// The sockets of one endpoint.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Sockets {
    /// Binds the given addresses, or the wildcard of each family that works. `wake` is told when the
    /// kernel takes no more, so that somebody calls [`flush`](Socket::flush) later.
    pub(crate) fn bind(addresses: &[SocketAddr], kernel_buffer: usize, wake: &Arc<Notify>) -> io::Result<Self> {
        let mut sockets = Self { v4: None, v6: None };
        for address in addresses {
            let slot = if address.is_ipv4() { &mut sockets.v4 } else { &mut sockets.v6 };
            *slot = Some(Socket::bind(*address, kernel_buffer, wake)?);
        }
        if addresses.is_empty() {
            let v4 = Socket::bind((Ipv4Addr::UNSPECIFIED, 0).into(), kernel_buffer, wake);
            sockets.v6 = Socket::bind((Ipv6Addr::UNSPECIFIED, 0).into(), kernel_buffer, wake).ok();
            sockets.v4 = match v4 {
                Err(e) if sockets.v6.is_none() => return Err(e),
                v4 => v4.ok(),
            };
        }
        Ok(sockets)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// The socket for addresses of this family.
    pub(crate) fn of(&self, address: SocketAddr) -> Option<&Socket> {
        if address.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// Waits until one of them may have something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! { r = v4.io.readable() => r, r = v6.io.readable() => r },
            (Some(one), None) | (None, Some(one)) => one.io.readable().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Waits until a blocked one can be written to again.
    pub(crate) async fn unblocked(&self) {
        let blocked = |socket: &Option<Socket>| socket.as_ref().is_some_and(Socket::is_blocked);
        match (&self.v4, &self.v6) {
            (Some(v4), _) if blocked(&self.v4) => drop(v4.io.writable().await),
            (_, Some(v6)) if blocked(&self.v6) => drop(v6.io.writable().await),
            _ => std::future::pending().await,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.iter().any(Socket::is_blocked)
    }
}
