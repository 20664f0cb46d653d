//! One open connection, as the node sees it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use byway_api::{
    Bytes, ChannelBinding, CloseCode, Connection, PathInfo, PeerId, Received, TransportError, TransportErrorKind as Kind,
};

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
    /// Frames that the receiver has taken out of the link at once.
    taken: Mutex<VecDeque<Bytes>>,
    closed: AtomicBool,
}

impl Libp2pConnection {
    pub(crate) const fn new(opened: Opened) -> Self {
        Self { opened, taken: Mutex::new(VecDeque::new()), closed: AtomicBool::new(false) }
    }

    fn poll_recv(&self, cx: &Context<'_>) -> Poll<Received> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            taken.clear();
        }
        loop {
            if let Some(frame) = taken.pop_front() {
                return Poll::Ready(Received::Frame(frame));
            }
            match self.opened.link.poll_take(cx, &mut taken) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(code)) => {
                    *taken = VecDeque::new();
                    return Poll::Ready(Received::Closed(code));
                }
                Poll::Pending => {
                    // The memory of a burst is not kept for ever.
                    taken.shrink_to(KEPT);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Frames that an idle connection keeps room for.
const KEPT: usize = 16;

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

    async fn send(&self, frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > MAX_FRAME {
            return Err(error(Kind::TooLarge, format!("{} bytes; at most {MAX_FRAME} fit", frame.len())));
        }
        self.opened.link.push(frame).await
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
