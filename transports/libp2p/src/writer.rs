//! The writing half: coalesces what is queued, and flushes when nothing more is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use byway_api::CloseCode;
use futures_util::AsyncWrite;

use crate::frames;
use crate::link::{Batch, Link, Taken};

/// Writes batches.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    batch: Batch,
    /// How much of the batch's bytes is written, and how much of the long frame that comes next.
    written: usize,
    of_long: usize,
    unflushed: bool,
    /// The end is in the batch.
    closing: Option<CloseCode>,
}

impl Writer {
    /// A writer that begins with these bytes.
    pub(crate) fn beginning_with(bytes: &[u8]) -> Self {
        Self { batch: Batch { bytes: bytes.to_vec(), ..Batch::default() }, ..Self::default() }
    }

    /// Writes all that is queued; ready once the end is written, too.
    pub(crate) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        link: &Link,
    ) -> Poll<io::Result<CloseCode>> {
        loop {
            while let Some(piece) = self.piece() {
                let n = ready!(Pin::new(&mut *stream).poll_write(cx, piece))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(n);
            }
            let wrote = std::mem::take(&mut self.written);
            self.batch.bytes.clear();
            self.batch.rest(wrote);
            if self.closing.is_none() {
                match link.take(&mut self.batch) {
                    Taken::Batch => continue,
                    Taken::Close(code) => {
                        self.closing = Some(code);
                        self.batch.bytes.extend_from_slice(&frames::end(code));
                        continue;
                    }
                    Taken::Nothing => link.rest(wrote),
                }
            }
            if self.unflushed {
                ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                self.unflushed = false;
            }
            return self.closing.map_or(Poll::Pending, |code| Poll::Ready(Ok(code)));
        }
    }

    /// What is to be written next.
    fn piece(&self) -> Option<&[u8]> {
        let piece = match self.batch.long.front() {
            Some((at, frame)) if *at == self.written => &frame[self.of_long..],
            Some((at, _)) => &self.batch.bytes[self.written..*at],
            None => &self.batch.bytes[self.written..],
        };
        (!piece.is_empty()).then_some(piece)
    }

    fn advance(&mut self, n: usize) {
        self.unflushed = true;
        match self.batch.long.front() {
            Some((at, frame)) if *at == self.written => {
                self.of_long += n;
                if self.of_long == frame.len() {
                    self.of_long = 0;
                    self.batch.long.pop_front();
                }
            }
            _ => self.written += n,
        }
    }
}
