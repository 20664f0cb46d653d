//! An open connection of the shell.

use std::collections::VecDeque;
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
use crate::config::Config;
use crate::drain::{FRAME_OVERHEAD, close_message, parse_close};
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
    inbox: Mutex<Inbox>,
    readable: Notify,
    room: Notify,
    /// The code, once it has ended.
    ended: watch::Sender<Option<CloseCode>>,
    linger: Duration,
}

/// Frames that `recv` has not taken.
#[derive(Debug)]
struct Inbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    limit: usize,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("ended", &*self.ended.borrow()).finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(link: Link, channel: Arc<dyn DataChannel>, config: &Config) -> Self {
        Self {
            link,
            channel,
            window: Mutex::new(Window::new(config.send_window)),
            opened: Notify::new(),
            inbox: Mutex::new(Inbox { frames: VecDeque::new(), bytes: 0, limit: config.receive_window }),
            readable: Notify::new(),
            room: Notify::new(),
            ended: watch::Sender::new(None),
            linger: config.linger,
        }
    }

    /// Reads the channel until it ends, whether or not somebody takes the frames: the far side's
    /// close is answered at once. While the inbox is full the channel is left alone, so that the
    /// receive window closes.
    pub(super) async fn pump(&self) {
        loop {
            while lock(&self.inbox).is_full() && self.ended.borrow().is_none() {
                self.room.notified().await;
            }
            match self.channel.poll().await {
                Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                    if let Some(code) = parse_close(&message.data) {
                        self.end(code);
                        break;
                    }
                }
                Some(DataChannelEvent::OnMessage(message)) => {
                    if self.ended.borrow().is_none() {
                        lock(&self.inbox).push(message.data.freeze());
                        self.readable.notify_one();
                    }
                }
                Some(DataChannelEvent::OnBufferedAmountLow) => {
                    lock(&self.window).drained();
                    self.opened.notify_one();
                }
                Some(DataChannelEvent::OnClose) | None => {
                    self.end(CloseCode::LOST);
                    break;
                }
                Some(_) => {}
            }
        }
        self.link.close().await;
    }

    /// Ends it with `code` unless it has ended. True if this call did.
    fn end(&self, code: CloseCode) -> bool {
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(code);
            first
        });
        self.readable.notify_one();
        self.room.notify_one();
        first
    }

    /// Says why, waits until the far side has heard it, and closes.
    pub(super) async fn close(&self, code: CloseCode) {
        if self.end(code) {
            lock(&self.inbox).clear();
            let told = self.channel.send_text(&close_message(code)).await.is_ok();
            if told && !matches!(code, CloseCode::LOST | CloseCode::TIMEOUT) {
                // the far side closes as soon as it has read everything
                let _ = tokio::time::timeout(self.linger, self.link.events.over()).await;
            }
        }
        self.link.close().await;
    }
}

impl Inbox {
    const fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len() + FRAME_OVERHEAD;
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + FRAME_OVERHEAD;
        Some(frame)
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
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
        let inner = &self.inner;
        loop {
            // looked at first, so that what came before the end is seen
            let ended = *inner.ended.borrow();
            if let Some(frame) = lock(&inner.inbox).pop() {
                inner.room.notify_one();
                return Ok(Received::Frame(frame));
            }
            if let Some(code) = ended {
                return Ok(Received::Closed(code));
            }
            inner.readable.notified().await;
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
