//! Around libp2p's stack: deadlines, dials that end with their caller, connections that end at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use tokio::sync::watch;

/// Ends when the caller of a dial is gone.
pub(crate) type Alive = watch::Receiver<()>;

/// Hands a dial's [`Alive`] past libp2p, which knows no way to give one attempt up: what is put here
/// belongs to the next call of `Transport::dial`.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextDial(Arc<Mutex<Option<Alive>>>);

impl NextDial {
    pub(crate) fn put(&self, alive: Option<Alive>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alive;
    }

    fn take(&self) -> Option<Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Waits until the caller is gone.
pub(crate) async fn gone(mut alive: Alive) {
    while alive.changed().await.is_ok() {}
}

/// A transport whose dials and handshakes end in time.
pub(crate) struct Guard {
    inner: Boxed<(PeerId, StreamMuxerBox)>,
    next_dial: NextDial,
    connect: Duration,
    accept: Duration,
}

impl Guard {
    pub(crate) const fn new(
        inner: Boxed<(PeerId, StreamMuxerBox)>,
        next_dial: NextDial,
        connect: Duration,
        accept: Duration,
    ) -> Self {
        Self { inner, next_dial, connect, accept }
    }
}

type Upgrade = BoxFuture<'static, io::Result<(PeerId, StreamMuxerBox)>>;

async fn within(
    limit: Duration,
    work: impl Future<Output = io::Result<(PeerId, StreamMuxerBox)>>,
) -> io::Result<(PeerId, StreamMuxerBox)> {
    tokio::time::timeout(limit, work).await.map_err(|_| io::ErrorKind::TimedOut)?
}

impl Transport for Guard {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Upgrade, TransportError<io::Error>> {
        let alive = self.next_dial.take();
        let dial = within(self.connect, self.inner.dial(addr, opts)?);
        let Some(alive) = alive else { return Ok(Box::pin(dial)) };
        Ok(Box::pin(async move {
            tokio::select! { biased;
                () = gone(alive) => Err(io::ErrorKind::Interrupted.into()),
                dialled = dial => dialled,
            }
        }))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, io::Error>> {
        let limit = self.accept;
        Pin::new(&mut self.inner)
            .poll(cx)
            .map(|event| event.map_upgrade(|upgrade| Box::pin(within(limit, upgrade)) as Upgrade))
    }
}

/// A connection that is dropped instead of closed: both ends have said their last word on the stream by
/// then, and a far side that takes nothing must not keep the socket.
pub(crate) struct Abrupt<M>(pub(crate) M);

impl<M: StreamMuxer + Unpin> StreamMuxer for Abrupt<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.0).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.0).poll_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
