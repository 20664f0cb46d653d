//! One open connection, as the node sees it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Buf;
use byway_api::{
    Bytes, ChannelBinding, CloseCode, Connection, PathInfo, PeerId, Received, TransportError,
    TransportErrorKind as Kind,
};

use crate::frames::{self, HEADER, Head};
use crate::link::Link;
use crate::{MAX_FRAME, error};

/// What is known of a connection when it opens.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) link: Arc<Link>,
    pub(crate) peer: PeerId,
    pub(crate) binding: ChannelBinding,
    pub(crate) path: PathInfo,
}

/// It is not `Clone`: dropping it is dropping the last handle.
#[derive(Debug)]
pub(crate) struct Libp2pConnection {
    opened: Opened,
    taken: Mutex<Pieces>,
    closed: AtomicBool,
}

impl Libp2pConnection {
    pub(crate) const fn new(opened: Opened) -> Self {
        let taken = Pieces { current: Bytes::new(), more: VecDeque::new() };
        Self { opened, taken: Mutex::new(taken), closed: AtomicBool::new(false) }
    }

    fn poll_recv(&self, cx: &Context<'_>) -> Poll<Received> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            *taken = Pieces::default();
        }
        loop {
            if let Some(frame) = taken.next() {
                return Poll::Ready(Received::Frame(frame));
            }
            match self.opened.link.poll_take(cx, &mut taken.more) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(code)) => return Poll::Ready(Received::Closed(code)),
                Poll::Pending => {
                    // The memory of a burst is not kept for ever.
                    taken.more.shrink_to(KEPT);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// What the receiver has taken out of the link at once: whole frames behind their headers.
#[derive(Debug, Default)]
struct Pieces {
    current: Bytes,
    more: VecDeque<Bytes>,
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        if self.current.is_empty() {
            self.current = self.more.pop_front()?;
        }
        let head = self.current.first_chunk::<HEADER>().map(|bytes| frames::head(*bytes));
        let Some(Head::Frame(length)) = head else { unreachable!("the reader has seen whole frames") };
        self.current.advance(HEADER);
        Some(self.current.split_to(length))
    }
}

/// Pieces that an idle connection keeps room for.
const KEPT: usize = 4;

#[async_trait]
impl Connection for Libp2pConnection {
    fn peer(&self) -> Option<PeerId> {
        Some(self.opened.peer)
    }

    fn binding(&self) -> ChannelBinding {
        self.opened.binding.clone()
    }

    fn path(&self) -> PathInfo {
        self.opened.path.clone()
    }

    async fn send(&self, mut frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > MAX_FRAME {
            return Err(error(Kind::TooLarge, format!("{} bytes; at most {MAX_FRAME} fit", frame.len())));
        }
        poll_fn(|cx| self.opened.link.poll_push(cx, &mut frame)).await
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        Ok(poll_fn(|cx| self.poll_recv(cx)).await)
    }

    /// Waits until the far side has taken all, or [`Config::linger`](crate::Config::linger) is over.
    async fn close(&self, code: CloseCode) {
        self.closed.store(true, Ordering::Release);
        self.opened.link.close(code);
        self.opened.link.finished().await;
    }
}

impl Drop for Libp2pConnection {
    fn drop(&mut self) {
        self.opened.link.close(CloseCode::LOST);
    }
}
