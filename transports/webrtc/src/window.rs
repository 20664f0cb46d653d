//! What is on its way to the peer, in bytes and in frames.
//!
//! The stack counts payload bytes only, and an empty frame as nothing; its bookkeeping for a frame
//! costs memory too. So each frame is charged a little on top.

use std::collections::VecDeque;

/// Charged for every frame on top of its length.
const OVERHEAD: usize = 64;

/// The send window.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    /// Lengths of the frames with content that are not acknowledged, oldest first.
    frames: VecDeque<u32>,
    /// The sum of `frames`.
    bytes: usize,
    /// Empty frames since everything was last known to be acknowledged.
    empty: usize,
}

impl Window {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, frames: VecDeque::new(), bytes: 0, empty: 0 }
    }

    /// True if a frame of `len` bytes may go. One frame always may.
    pub(crate) fn admits(&self, len: usize) -> bool {
        let charged = self.bytes + OVERHEAD * (self.frames.len() + self.empty);
        self.is_empty() || charged + len + OVERHEAD <= self.limit
    }

    /// True if nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.empty == 0
    }

    pub(crate) fn sent(&mut self, len: usize) {
        match u32::try_from(len) {
            Ok(1..) => {
                self.frames.push_back(len as u32);
                self.bytes += len;
            }
            _ => self.empty += 1,
        }
    }

    /// The stack holds `outstanding` bytes that are not acknowledged.
    pub(crate) fn acknowledged(&mut self, outstanding: usize) {
        while self.bytes > outstanding {
            let Some(len) = self.frames.pop_front() else { break };
            self.bytes -= len as usize;
        }
    }

    /// Everything is acknowledged, empty frames too.
    pub(crate) fn drained(&mut self) {
        self.empty = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_always_goes() {
        assert!(Window::new(10).admits(1000));
    }

    #[test]
    fn bytes_open_the_window_again() {
        let mut window = Window::new(1000);
        window.sent(800);
        assert!(!window.admits(200));
        window.acknowledged(100);
        assert!(window.admits(200));
    }

    #[test]
    fn tiny_and_empty_frames_fill_it_too() {
        for len in [0, 1] {
            let mut window = Window::new(6400);
            let sent = (0..1000).take_while(|_| {
                let go = window.admits(len);
                window.sent(len);
                go
            });
            assert!(sent.count() <= 100);
            window.acknowledged(0);
            window.drained();
            assert!(window.admits(len));
        }
    }
}
