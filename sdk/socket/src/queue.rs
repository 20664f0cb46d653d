//! What waits to be written to one socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway_wire::SocketFrame;
use tokio::sync::Notify;

use crate::Closed;

/// What a frame without an envelope counts for.
const FRAME_BYTES: usize = 128;

/// A frame did not fit, or the queue has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Frames on their way to one socket, bounded in number and in bytes; also the bell that ends it.
///
/// One task takes, any number push.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    bell: Notify,
    max_frames: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<SocketFrame>,
    bytes: usize,
    end: Option<Closed>,
}

impl Queue {
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), bell: Notify::new(), max_frames, max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, frame: SocketFrame) -> Result<(), NoRoom> {
        let weight = weight(&frame);
        let mut state = self.lock();
        // A frame alone always fits: the limit of one frame may be above what a small queue holds.
        let full = state.frames.len() >= self.max_frames
            || (!state.frames.is_empty() && state.bytes + weight > self.max_bytes);
        if full || state.end.is_some() {
            return Err(NoRoom);
        }
        state.bytes += weight;
        state.frames.push_back(frame);
        drop(state);
        self.bell.notify_one();
        Ok(())
    }

    /// Ends the queue; the first reason counts. What waits is not written any more.
    pub(crate) fn end(&self, why: Closed) {
        self.lock().end.get_or_insert(why);
        self.bell.notify_one();
    }

    /// Why it has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Closed> {
        self.lock().end.clone()
    }

    /// Waits until something is there. Cancel-safe: nothing is taken.
    ///
    /// # Errors
    /// Why the queue has ended.
    pub(crate) async fn ready(&self) -> Result<(), Closed> {
        loop {
            {
                let state = self.lock();
                if let Some(why) = &state.end {
                    return Err(why.clone());
                }
                if !state.frames.is_empty() {
                    return Ok(());
                }
            }
            self.bell.notified().await;
        }
    }

    /// The next frame, if one waits.
    pub(crate) fn pop(&self) -> Option<SocketFrame> {
        let mut state = self.lock();
        let frame = state.frames.pop_front()?;
        state.bytes -= weight(&frame);
        Some(frame)
    }
}

fn weight(frame: &SocketFrame) -> usize {
    let envelope = match frame {
        SocketFrame::Send { envelope, .. } | SocketFrame::From { envelope, .. } => envelope.len(),
        _ => 0,
    };
    FRAME_BYTES + envelope
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use byway_api::PeerId;

    use super::*;

    fn mail(bytes: usize) -> SocketFrame {
        SocketFrame::From { from: PeerId::from_bytes([1; 32]), envelope: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn bounded_in_frames_and_in_bytes() {
        let queue = Queue::new(3, 10_000);
        queue.push(mail(20_000)).unwrap();
        assert_eq!(queue.push(mail(1)), Err(NoRoom), "bytes");
        queue.pop().unwrap();
        for _ in 0..3 {
            queue.push(mail(1)).unwrap();
        }
        assert_eq!(queue.push(mail(1)), Err(NoRoom), "frames");
    }

    #[tokio::test]
    async fn the_first_reason_ends_it() {
        let queue = Queue::new(3, 10_000);
        queue.push(mail(1)).unwrap();
        queue.end(Closed::Replaced);
        queue.end(Closed::Stopping);
        assert_eq!(queue.ready().await, Err(Closed::Replaced));
        assert_eq!(queue.push(mail(1)), Err(NoRoom));
    }
}
