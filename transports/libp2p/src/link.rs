//! What an open connection and the task that carries its stream share: a queue for each direction.
//!
//! The stream lives in libp2p's task of the connection, next to the multiplexer and the cipher, so a batch
//! of frames crosses from one task to another once, however many they are. The queues are swapped, not
//! copied: while one batch is written the next one is filled.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use byway_api::{Bytes, CloseCode, TransportError, TransportErrorKind as Kind};
use tokio::sync::Notify;

use crate::{Config, error, frames};

/// From this length on a frame is not copied behind others but written by itself; the stream splits at
/// this length anyway.
const LONG: usize = 16 << 10;

/// What a queued frame costs beside its own bytes.
const OVERHEAD: usize = 64;

/// Memory for frames that a quiet connection keeps.
const KEPT: usize = 1 << 10;

/// A batch of frames as they lie in the stream, long ones beside it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// A long frame belongs behind so many of the bytes.
    pub(crate) long: VecDeque<(usize, Bytes)>,
}

impl Batch {
    fn push(&mut self, frame: Bytes) {
        let header = frames::header(frame.len());
        if frame.len() < LONG {
            self.bytes.reserve(header.len() + frame.len());
            self.bytes.extend_from_slice(&header);
            self.bytes.extend_from_slice(&frame);
        } else {
            self.bytes.extend_from_slice(&header);
            self.long.push_back((self.bytes.len(), frame));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives half of the memory back if the last batch was much smaller, so that a burst keeps what it uses,
    /// and comes down to [`KEPT`] with the few small messages of a quiet connection.
    pub(crate) fn rest(&mut self, last: usize) {
        let half = self.bytes.capacity() / 2;
        if last > 0 && half >= KEPT && 4 * last <= half {
            self.bytes.shrink_to(half);
        }
    }
}

/// The two queues.
#[derive(Debug)]
pub(crate) struct Link {
    out: Mutex<Out>,
    into: Mutex<Into>,
    /// Told when nothing of the connection is left but this.
    over: Notify,
    send_buffer: usize,
    receive_buffer: usize,
}

#[derive(Debug, Default)]
struct Out {
    batch: Batch,
    queued: usize,
    close: Option<CloseCode>,
    /// The stream is gone.
    over: bool,
    task: Option<Waker>,
    /// The task waits for frames.
    idle: bool,
    /// The sender, if it waits for room.
    sender: Option<Waker>,
}

#[derive(Debug, Default)]
struct Into {
    /// Whole frames with their headers; the receiver takes them apart, so that only one processor counts
    /// the references to a piece.
    pieces: VecDeque<Bytes>,
    cost: usize,
    end: Option<CloseCode>,
    /// The task, if it waits for room.
    task: Option<Waker>,
    /// The receiver, if it waits for frames.
    receiver: Option<Waker>,
}

/// What the task is given to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Batch,
    Close(CloseCode),
    /// Nothing; the task is woken when there is something.
    Nothing,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Link {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            out: Mutex::default(),
            into: Mutex::default(),
            over: Notify::new(),
            send_buffer: config.send_buffer,
            receive_buffer: config.receive_buffer,
        }
    }

    /// Queues a frame, which is taken out, as soon as there is room.
    pub(crate) fn poll_push(&self, cx: &Context<'_>, frame: &mut Bytes) -> Poll<Result<(), TransportError>> {
        let mut out = lock(&self.out);
        if out.close.is_some() || out.over {
            return Poll::Ready(Err(error(Kind::Closed, "")));
        }
        let cost = frame.len() + frames::HEADER;
        if out.queued > 0 && out.queued + cost > self.send_buffer {
            out.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        out.queued += cost;
        out.batch.push(mem::take(frame));
        if mem::take(&mut out.idle) {
            let task = out.task.clone();
            drop(out);
            wake(task);
        }
        Poll::Ready(Ok(()))
    }

    /// The task is the one to wake from now on. True once this side has asked for the end.
    pub(crate) fn attend(&self, cx: &Context<'_>) -> bool {
        let mut out = lock(&self.out);
        if !out.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            out.task = Some(cx.waker().clone());
        }
        out.close.is_some()
    }

    /// The task takes what is queued in exchange for an empty batch, whose memory is used again.
    pub(crate) fn take(&self, empty: &mut Batch) -> Taken {
        debug_assert!(empty.is_empty() && empty.long.is_empty(), "it is overwritten by the sender");
        let mut out = lock(&self.out);
        if out.batch.is_empty() {
            if let Some(code) = out.close {
                return Taken::Close(code);
            }
            out.idle = true;
            return Taken::Nothing;
        }
        mem::swap(&mut out.batch, empty);
        out.queued = 0;
        let sender = out.sender.take();
        drop(out);
        wake(sender);
        Taken::Batch
    }

    /// Nothing waits to be written: the queue gives memory back that the last batches did not need.
    pub(crate) fn rest(&self, last: usize) {
        let mut out = lock(&self.out);
        if out.batch.is_empty() {
            out.batch.rest(last);
        }
    }

    /// Hands the receiver a piece of the stream in which whole frames lie, so many of them. It is dropped if
    /// nobody wants it any more.
    pub(crate) fn deliver(&self, piece: Bytes, frames: usize) {
        let mut into = lock(&self.into);
        if into.end.is_some() {
            return;
        }
        into.cost += piece.len() + OVERHEAD * frames;
        into.pieces.push_back(piece);
        let receiver = into.receiver.take();
        drop(into);
        wake(receiver);
    }

    /// True if the task may read on; else it is woken when it may.
    pub(crate) fn has_room(&self, cx: &Context<'_>) -> bool {
        let mut into = lock(&self.into);
        let room = into.cost < self.receive_buffer || into.end.is_some();
        if !room {
            into.task = Some(cx.waker().clone());
        }
        room
    }

    /// Takes all pieces that wait into `taken`, which is empty; `Some` is the end.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, taken: &mut VecDeque<Bytes>) -> Poll<Option<CloseCode>> {
        let mut into = lock(&self.into);
        if into.pieces.is_empty() {
            if let Some(code) = into.end {
                return Poll::Ready(Some(code));
            }
            into.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        mem::swap(&mut into.pieces, taken);
        into.cost = 0;
        let task = into.task.take();
        drop(into);
        wake(task);
        Poll::Ready(None)
    }

    /// This side ends the connection: what it sent is still written, what was sent to it is not wanted.
    pub(crate) fn close(&self, code: CloseCode) {
        let mut into = lock(&self.into);
        into.end.get_or_insert(code);
        into.pieces = VecDeque::new();
        into.cost = 0;
        let wakers = [into.task.take(), into.receiver.take()];
        drop(into);
        wakers.into_iter().for_each(wake);
        let mut out = lock(&self.out);
        out.close.get_or_insert(code);
        let wakers = [out.task.clone(), out.sender.take()];
        drop(out);
        wakers.into_iter().for_each(wake);
    }

    /// The stream is gone: nothing more can be written, and after what has arrived comes the end.
    pub(crate) fn finish(&self, code: CloseCode) {
        let mut into = lock(&self.into);
        into.end.get_or_insert(code);
        let receiver = into.receiver.take();
        drop(into);
        wake(receiver);
        let mut out = lock(&self.out);
        out.over = true;
        out.batch = Batch::default();
        out.task = None;
        let sender = out.sender.take();
        drop(out);
        wake(sender);
        self.over.notify_waiters();
    }

    /// Waits until the stream is gone.
    pub(crate) async fn finished(&self) {
        let mut over = std::pin::pin!(self.over.notified());
        over.as_mut().enable();
        let already = lock(&self.out).over;
        if !already {
            over.await;
        }
    }
}
