use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway_api::{Bytes, CloseCode, Received};
use tokio::sync::Notify;

/// One direction of a channel: a queue bounded in frames and in bytes, with one writer and one reader.
///
/// The end is not in the queue but beside it, so that closing never waits for room and yet nothing
/// that was queued before is lost.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    max_frames: usize,
    max_bytes: usize,
    /// Each remembers one notice, which is enough for one waiter that looks again after each.
    has_news: Notify,
    has_room: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: Option<CloseCode>,
}

impl Pipe {
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), max_frames, max_bytes, has_news: Notify::new(), has_room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame as soon as there is room. Fails with the code once the pipe has ended.
    pub(crate) async fn push(&self, frame: Bytes) -> Result<(), CloseCode> {
        loop {
            {
                let mut state = self.lock();
                if let Some(code) = state.end {
                    return Err(code);
                }
                let first = state.frames.is_empty();
                let fits = state.frames.len() < self.max_frames && state.bytes + frame.len() <= self.max_bytes;
                if first || fits {
                    state.bytes += frame.len();
                    state.frames.push_back(frame);
                    drop(state);
                    if first {
                        self.has_news.notify_one();
                    }
                    return Ok(());
                }
            }
            self.has_room.notified().await;
        }
    }

    /// The oldest frame, or the end once all frames are out.
    pub(crate) async fn pop(&self) -> Received {
        loop {
            {
                let mut state = self.lock();
                if let Some(frame) = state.frames.pop_front() {
                    state.bytes -= frame.len();
                    drop(state);
                    self.has_room.notify_one();
                    return Received::Frame(frame);
                }
                if let Some(code) = state.end {
                    return Received::Closed(code);
                }
            }
            self.has_news.notified().await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().end.is_none()
    }

    /// Nothing more is queued. The first code stays.
    pub(crate) fn end(&self, code: CloseCode) {
        self.lock().end.get_or_insert(code);
        self.has_news.notify_one();
        self.has_room.notify_one();
    }

    /// Forgets what is queued.
    pub(crate) fn discard(&self) {
        let mut state = self.lock();
        state.frames = VecDeque::new();
        state.bytes = 0;
    }
}
