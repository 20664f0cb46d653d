use bytes::{Bytes, BytesMut};

use crate::encode::Outgoing;
use crate::{Frame, limits};

/// Gathers frames into one transport frame, so that many small messages cost one write.
///
/// The buffer is used again once the transport has let go of what [`take`](Self::take) gave it.
#[derive(Debug)]
pub struct Batch {
    buf: BytesMut,
    max_frame: usize,
    frames: usize,
    /// What the next batch will need, from the last ones: a busy link gets its buffer at once, an
    /// idle one does not hold a large one.
    usual: usize,
}

impl Batch {
    /// A batch of at most `max_frame` bytes and never more than [`limits::FRAME_MAX`].
    pub fn new(max_frame: usize) -> Self {
        Self { buf: BytesMut::new(), max_frame: max_frame.min(limits::FRAME_MAX), frames: 0, usual: 0 }
    }

    /// The most bytes it takes. A frame whose [`Frame::encoded_len`] is larger never fits.
    pub const fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Adds a frame. `false`: it does not fit and nothing was added; [`take`](Self::take) first.
    pub fn push(&mut self, frame: &Frame) -> bool {
        let frame = Outgoing::new(frame);
        let len = frame.len();
        if self.buf.len() + len > self.max_frame || self.frames == limits::FRAMES_PER_BATCH {
            return false;
        }
        self.reserve(len);
        frame.put(&mut self.buf);
        self.frames += 1;
        true
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// The transport frame; the batch is empty again.
    pub fn take(&mut self) -> Bytes {
        self.frames = 0;
        self.usual = self.buf.len().max(self.usual / 2);
        self.buf.split().freeze()
    }

    fn reserve(&mut self, len: usize) {
        let used = self.buf.len();
        if self.buf.capacity() - used < len {
            let want = if used == 0 { self.usual } else { used };
            self.buf.reserve(want.max(len));
        }
    }
}
