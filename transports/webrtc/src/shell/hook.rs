//! A runtime for the `webrtc` crate that makes it answer at once.
//!
//! The crate's loop sends before it reads, so what a read produces (DTLS flights, SCTP
//! acknowledgements) waits for the next tick. After each read this runtime's socket reports one
//! transient error, which the crate documents as retried: the loop runs once more and sends.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tokio with the hook; for one connection.
#[derive(Debug)]
pub(super) struct HookedRuntime {
    socket_buffer: usize,
}

impl HookedRuntime {
    pub(super) fn new(socket_buffer: usize) -> Arc<Self> {
        Arc::new(Self { socket_buffer })
    }
}

#[derive(Debug)]
struct HookedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Something was read since the last extra pass.
    read: AtomicBool,
}

impl AsyncUdpSocket for HookedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let result = self.inner.poll_recv(cx, bufs, meta);
        match &result {
            Poll::Ready(Ok(_)) => self.read.store(true, Ordering::Relaxed),
            // a probe with the no-op waker only empties the socket and must not end early
            Poll::Pending if !cx.waker().will_wake(Waker::noop()) && self.read.swap(false, Ordering::Relaxed) => {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            _ => {}
        }
        result
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

impl Runtime for HookedRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, pool: usize, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(pool, future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = socket2::SockRef::from(&socket);
        // the system caps what it does not want to give
        let _ = options.set_recv_buffer_size(self.socket_buffer);
        let _ = options.set_send_buffer_size(self.socket_buffer);
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(HookedSocket { inner, read: AtomicBool::new(false) }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { TokioRuntime.resolve_host(host).await })
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio, hooked"
    }
}
