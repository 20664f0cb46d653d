//! What an open connection and the task that carries its stream share: a queue for each direction.
//!
//! The stream lives in libp2p's task of the connection, next to the multiplexer and the cipher, so a batch
//! of frames crosses from one task to another once, however many they are. The queues are swapped, not
//! copied: while one batch is written the next one is filled.

use std::collections::VecDeque;
use std::future::poll_fn;
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

/// A batch of frames as they lie in the stream, long ones beside it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// A long frame belongs behind so many of the bytes.
    pub(crate) long: VecDeque<(usize, Bytes)>,
}

impl Batch {
    fn push(&mut self, frame: Bytes) {
        self.bytes.extend_from_slice(&frames::header(frame.len()));
        if frame.len() < LONG {
            self.bytes.extend_from_slice(&frame);
        } else {
            self.long.push_back((self.bytes.len(), frame));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
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
    frames: VecDeque<Bytes>,
    bytes: usize,
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

    /// Queues a frame as soon as there is room.
    pub(crate) async fn push(&self, frame: Bytes) -> Result<(), TransportError> {
        let mut frame = Some(frame);
        poll_fn(|cx| self.poll_push(cx, &mut frame)).await
    }

    fn poll_push(&self, cx: &Context<'_>, frame: &mut Option<Bytes>) -> Poll<Result<(), TransportError>> {
        let mut out = lock(&self.out);
        if out.close.is_some() || out.over {
            return Poll::Ready(Err(error(Kind::Closed, "")));
        }
        let Some(cost) = frame.as_ref().map(|frame| frame.len() + frames::HEADER) else {
            return Poll::Ready(Ok(()));
        };
        if out.queued > 0 && out.queued + cost > self.send_buffer {
            out.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(frame) = frame.take() {
            out.queued += cost;
            out.batch.push(frame);
        }
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

    /// The memory that the next batch will need is about that of the last one; an idle connection keeps none.
    pub(crate) fn shrink(&self, to: usize) {
        let mut out = lock(&self.out);
        if out.batch.is_empty() {
            out.batch.bytes.shrink_to(to);
        }
    }

    /// Hands frames to the receiver. They are dropped if nobody wants them any more.
    pub(crate) fn deliver(&self, frames: &mut VecDeque<Bytes>) {
        if frames.is_empty() {
            return;
        }
        let bytes: usize = frames.iter().map(|frame| frame.len() + OVERHEAD).sum();
        let mut into = lock(&self.into);
        if into.end.is_some() {
            frames.clear();
            return;
        }
        into.bytes += bytes;
        if into.frames.is_empty() {
            mem::swap(&mut into.frames, frames);
        } else {
            into.frames.append(frames);
        }
        let receiver = into.receiver.take();
        drop(into);
        wake(receiver);
    }

    /// True if the task may read on; else it is woken when it may.
    pub(crate) fn has_room(&self, cx: &Context<'_>) -> bool {
        let mut into = lock(&self.into);
        let room = into.bytes < self.receive_buffer || into.end.is_some();
        if !room {
            into.task = Some(cx.waker().clone());
        }
        room
    }

    /// Takes all frames that wait into `taken`, which is empty; `Some` is the end.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, taken: &mut VecDeque<Bytes>) -> Poll<Option<CloseCode>> {
        let mut into = lock(&self.into);
        if into.frames.is_empty() {
            if let Some(code) = into.end {
                return Poll::Ready(Some(code));
            }
            into.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        mem::swap(&mut into.frames, taken);
        into.bytes = 0;
        let task = into.task.take();
        drop(into);
        wake(task);
        Poll::Ready(None)
    }

    /// This side ends the connection: what it sent is still written, what was sent to it is not wanted.
    pub(crate) fn close(&self, code: CloseCode) {
        let mut into = lock(&self.into);
        into.end.get_or_insert(code);
        into.frames = VecDeque::new();
        into.bytes = 0;
        let wakers = [into.task.take(), into.receiver.take()];
        drop(into);
        wakers.into_iter().for_each(wake);
        let mut out = lock(&self.out);
        out.close.get_or_insert(code);
        let wakers = [out.task.clone(), out.sender.take()];
        drop(out);
        wakers.into_iter().for_each(wake);
    }

    /// The stream is gone: nothing more can be written, and after the frames that have arrived comes the end.
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
