//! An open connection of the shell.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use byway_api::{
    BindingKind, ChannelBinding, CloseCode, Connection, PathInfo, PeerId, Received, TransportError, TransportErrorKind,
};
use tokio::sync::{Notify, watch};
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::link::Link;
use crate::drain::{close_message, parse_close};
use crate::sync::lock;
use crate::task::Tasks;
use crate::window::Window;

/// The crate does not tell when the window opens, so a writer that waits looks this often.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What outlives the handle, until the connection is closed.
pub(super) struct Channel {
    pub(super) link: Link,
    channel: Arc<dyn DataChannel>,
    window: Mutex<Window>,
    opened: Notify,
    /// The code, once it has ended.
    ended: watch::Sender<Option<CloseCode>>,
    linger: Duration,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("ended", &*self.ended.borrow()).finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(link: Link, channel: Arc<dyn DataChannel>, window: usize, linger: Duration) -> Self {
        let window = Mutex::new(Window::new(window));
        Self { link, channel, window, opened: Notify::new(), ended: watch::Sender::new(None), linger }
    }

    /// Ends it with `code` unless it has ended. True if this call did.
    fn end(&self, code: CloseCode) -> bool {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(code);
            first
        })
    }

    /// Says why, waits until the far side has heard it, and closes.
    pub(super) async fn close(&self, code: CloseCode) {
        if self.end(code) {
            let told = self.channel.send_text(&close_message(code)).await.is_ok();
            if told && !matches!(code, CloseCode::LOST | CloseCode::TIMEOUT) {
                // the far side closes as soon as it has read everything
                let _ = tokio::time::timeout(self.linger, self.link.events.over()).await;
            }
        }
        self.link.close().await;
    }
}

pub(super) struct ShellConnection {
    inner: Arc<Channel>,
    tasks: Arc<Tasks>,
    binding: Vec<u8>,
    path: PathInfo,
}

impl fmt::Debug for ShellConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShellConnection").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ShellConnection {
    pub(super) const fn new(inner: Arc<Channel>, tasks: Arc<Tasks>, binding: Vec<u8>, path: PathInfo) -> Self {
        Self { inner, tasks, binding, path }
    }

    fn closed() -> TransportError {
        crate::error(TransportErrorKind::Closed, "")
    }

    /// What the crate's event means for the reader, if anything.
    async fn received(&self, event: Option<DataChannelEvent>) -> Option<Received> {
        let inner = &self.inner;
        match event {
            Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                let code = parse_close(&message.data)?;
                inner.end(code);
                inner.link.close().await;
                Some(Received::Closed(code))
            }
            Some(DataChannelEvent::OnMessage(message)) => Some(Received::Frame(message.data.freeze())),
            Some(DataChannelEvent::OnBufferedAmountLow) => {
                lock(&inner.window).drained();
                inner.opened.notify_one();
                None
            }
            Some(DataChannelEvent::OnClose) | None => {
                inner.end(CloseCode::LOST);
                inner.link.close().await;
                Some(Received::Closed((*inner.ended.borrow()).unwrap_or(CloseCode::LOST)))
            }
            Some(_) => None,
        }
    }
}

#[async_trait]
impl Connection for ShellConnection {
    fn peer(&self) -> Option<PeerId> {
        None
    }

    fn binding(&self) -> ChannelBinding {
        ChannelBinding::new(BindingKind::DtlsCertificates, self.binding.clone())
    }

    fn path(&self) -> PathInfo {
        self.path.clone()
    }

    async fn send(&self, frame: Bytes) -> Result<(), TransportError> {
        let len = frame.len();
        if len > crate::MAX_FRAME {
            let detail = format!("{len} bytes, at most {} are carried", crate::MAX_FRAME);
            return Err(crate::error(TransportErrorKind::TooLarge, detail));
        }
        let inner = &self.inner;
        loop {
            if inner.ended.borrow().is_some() {
                return Err(Self::closed());
            }
            let outstanding = inner.channel.outstanding_bytes().await.map_err(|e| Self::closed().with_source(e))?;
            let admitted = {
                let mut window = lock(&inner.window);
                window.acknowledged(outstanding);
                window.admits(len)
            };
            if admitted {
                break;
            }
            let mut ended = inner.ended.subscribe();
            tokio::select! {
                () = inner.opened.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = ended.wait_for(Option::is_some) => {}
            }
        }
        let frame = frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        inner.channel.send(frame).await.map_err(|e| Self::closed().with_source(e))?;
        lock(&inner.window).sent(len);
        Ok(())
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        let mut ended = self.inner.ended.subscribe();
        loop {
            let event = tokio::select! { biased;
                code = ended.wait_for(Option::is_some) => {
                    let code = code.ok().and_then(|code| *code);
                    return Ok(Received::Closed(code.unwrap_or(CloseCode::LOST)));
                }
                event = self.inner.channel.poll() => event,
            };
            if let Some(received) = self.received(event).await {
                return Ok(received);
            }
        }
    }

    async fn close(&self, code: CloseCode) {
        self.inner.close(code).await;
    }
}

impl Drop for ShellConnection {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.inner);
        self.tasks.spawn(async move { inner.close(CloseCode::LOST).await });
    }
}
