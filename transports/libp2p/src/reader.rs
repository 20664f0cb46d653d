//! The reading half: takes frames out of the stream without copying them again.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use byway_api::{Bytes, CloseCode};
use futures_util::AsyncRead;

use crate::frames::{HEADER, Head, head};
use crate::link::Link;

/// The buffer grows from the one to the other with what arrives at once.
const LEAST: usize = 2 << 10;
const MOST: usize = 64 << 10;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What has arrived, at the front, and room for more. Frames are split off, so that they share its
    /// memory; it is renewed when its room is used up, and there is none while nothing arrives.
    buffer: BytesMut,
    filled: usize,
    size: usize,
    frames: VecDeque<Bytes>,
}

/// How reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// The far side has ended the connection.
    Code(CloseCode),
    /// The far side does not keep to the protocol.
    Nonsense,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), filled: 0, size: LEAST, frames: VecDeque::new() }
    }

    /// Hands on what arrives, for as long as there is room. `greedy` is for what is left of a stream that
    /// brings nothing more.
    pub(crate) fn poll<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        link: &Link,
        greedy: bool,
    ) -> Poll<io::Result<Last>> {
        loop {
            if !greedy && !link.has_room(cx) {
                return Poll::Pending;
            }
            self.make_room();
            let n = match Pin::new(&mut *stream).poll_read(cx, &mut self.buffer[self.filled..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    if self.filled == 0 {
                        self.buffer = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            };
            let all = self.filled + n == self.buffer.len();
            self.filled += n;
            self.size = if all { (2 * self.size).min(MOST) } else { self.size.min((4 * n).max(LEAST)) };
            let last = self.split();
            link.deliver(&mut self.frames);
            if let Some(last) = last {
                return Poll::Ready(Ok(last));
            }
        }
    }

    /// Sees to it that something can be read, if possible the rest of the frame that has begun.
    fn make_room(&mut self) {
        let wanted = match self.length() {
            Some(Head::Frame(length)) => HEADER + length,
            _ => HEADER,
        };
        let room = self.buffer.len() - self.filled;
        if room > 0 && self.buffer.len() >= wanted && (self.filled > 0 || room >= self.size / 4) {
            return;
        }
        let mut buffer = BytesMut::zeroed(self.size.max(wanted));
        buffer[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = buffer;
    }

    /// What the first header says, if it is there.
    fn length(&self) -> Option<Head> {
        self.buffer[..self.filled].first_chunk::<HEADER>().map(|bytes| head(*bytes))
    }

    fn split(&mut self) -> Option<Last> {
        loop {
            match self.length()? {
                Head::Frame(length) if self.filled < HEADER + length => return None,
                Head::Frame(length) => {
                    let mut frame = self.buffer.split_to(HEADER + length);
                    frame.advance(HEADER);
                    self.filled -= HEADER + length;
                    self.frames.push_back(frame.freeze());
                }
                Head::End(code) => return Some(Last::Code(code)),
                Head::Nonsense => return Some(Last::Nonsense),
            }
        }
    }
}
