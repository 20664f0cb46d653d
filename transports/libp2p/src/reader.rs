//! The reading half: takes frames out of the stream without copying them again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use byway_api::CloseCode;
use futures_util::AsyncRead;

use crate::frames::{HEADER, Head, head};
use crate::link::Link;

/// The buffer grows from the one to the other with what arrives at once.
const LEAST: usize = 2 << 10;
const MOST: usize = 64 << 10;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What has arrived, at the front, and room for more. Whole frames are split off, and share its memory;
    /// it is renewed when its room is used up, and there is none while nothing arrives.
    buffer: BytesMut,
    filled: usize,
    size: usize,
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
        Self { buffer: BytesMut::new(), filled: 0, size: LEAST }
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
            self.size = if all { (2 * self.size).min(MOST) } else { self.size.min((2 * n).max(LEAST)) };
            if let Some(last) = self.split(link) {
                return Poll::Ready(Ok(last));
            }
        }
    }

    /// Sees to it that something can be read, if possible the rest of the frame that has begun.
    fn make_room(&mut self) {
        let wanted = match self.head_at(0) {
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

    /// What the header says that begins there, if it is all there.
    fn head_at(&self, at: usize) -> Option<Head> {
        self.buffer[at..self.filled].first_chunk::<HEADER>().map(|bytes| head(*bytes))
    }

    /// Hands on the whole frames, and says what comes behind them if that is the end.
    fn split(&mut self, link: &Link) -> Option<Last> {
        let (mut whole, mut frames) = (0, 0);
        let last = loop {
            match self.head_at(whole) {
                Some(Head::Frame(length)) if whole + HEADER + length <= self.filled => {
                    whole += HEADER + length;
                    frames += 1;
                }
                Some(Head::Frame(_)) | None => break None,
                Some(Head::End(code)) => break Some(Last::Code(code)),
                Some(Head::Nonsense) => break Some(Last::Nonsense),
            }
        };
        if frames > 0 {
            link.deliver(self.buffer.split_to(whole).freeze(), frames);
            self.filled -= whole;
        }
        last
    }
}
