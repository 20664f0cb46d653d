//! One authenticated connection: a reader task, a writer task and the two lanes between the driver
//! and the writer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use byway_api::{CloseCode, Connection, Received};
use byway_core::ConnId;
use byway_core::io::Credit;
use byway_wire::{Batch, DecodeContext, Frame, Lane, decode};
use tokio::sync::{Notify, mpsc};
use tracing::Instrument;

use super::handshake::{Established, close};
use super::runtime::timeout;
use super::shared::Shared;
use super::stop::Stop;

/// The bounds of a connection's queue, and the credit of the core at its start.
pub(super) const CREDIT: Credit = Credit { control: 64, data: 256, bytes: 1 << 20 };

/// What a reader tells the driver, in order.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The frames of one transport frame.
    Frames(ConnId, Vec<Frame>),
    /// A transport frame that could not be read.
    Protocol(ConnId),
    /// The end; nothing follows.
    Down(ConnId, CloseCode),
}

impl Arrival {
    /// What it costs to handle.
    pub(super) const fn weight(&self) -> usize {
        match self {
            Self::Frames(_, frames) => frames.len() + 1,
            _ => 1,
        }
    }
}

/// The driver's end of the queue of a connection.
pub(super) struct Outbound {
    lanes: Mutex<Lanes>,
    ready: Notify,
    closing: Stop,
    freed: Freed,
    /// Wakes the driver when slots became free.
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Lanes {
    control: VecDeque<Frame>,
    data: VecDeque<Frame>,
    close: Option<CloseCode>,
}

#[derive(Default)]
struct Freed {
    control: AtomicU32,
    data: AtomicU32,
    bytes: AtomicUsize,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = self.lanes();
        f.debug_struct("Outbound").field("control", &lanes.control.len()).field("data", &lanes.data.len()).finish()
    }
}

/// What the writer does next.
enum Next {
    Write,
    Close(CloseCode),
    Wait,
}

impl Outbound {
    pub(super) fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::default(),
            ready: Notify::new(),
            closing: Stop::new(),
            freed: Freed::default(),
            wake,
        })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues frames. There is room: the core has spent a credit for each.
    pub(super) fn push(&self, frames: &mut Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut lanes = self.lanes();
        for frame in frames.drain(..) {
            match frame.lane() {
                Lane::Control => lanes.control.push_back(frame),
                Lane::Data => lanes.data.push_back(frame),
            }
        }
        debug_assert!(lanes.control.len() <= CREDIT.control as usize, "a control frame without credit");
        debug_assert!(lanes.data.len() <= CREDIT.data as usize, "a data frame without credit");
        drop(lanes);
        self.ready.notify_one();
    }

    /// Ends the connection once what was queued is written.
    pub(super) fn close(&self, code: CloseCode) {
        let mut lanes = self.lanes();
        lanes.close.get_or_insert(code);
        drop(lanes);
        self.closing.raise();
        self.ready.notify_one();
    }

    /// Slots that became free since the last call.
    pub(super) fn collect(&self) -> Option<Credit> {
        let control = self.freed.control.swap(0, Ordering::AcqRel);
        let data = self.freed.data.swap(0, Ordering::AcqRel);
        let bytes = self.freed.bytes.swap(0, Ordering::AcqRel);
        (control != 0 || data != 0 || bytes != 0).then_some(Credit { control, data, bytes })
    }

    /// Takes as many frames as fit into one transport frame, control first. A frame that fits into
    /// none is taken alone.
    fn take(&self, into: &mut Vec<Frame>, max: usize) -> Next {
        let (mut control, mut data, mut bytes, mut used) = (0, 0, 0, 0);
        let mut lanes = self.lanes();
        while let Some(frame) = lanes.control.pop_front() {
            let length = framed(&frame);
            if used > 0 && used + length > max {
                lanes.control.push_front(frame);
                break;
            }
            used += length;
            control += 1;
            into.push(frame);
        }
        // The control lane is either empty now or has filled the frame.
        while lanes.control.is_empty()
            && let Some(frame) = lanes.data.pop_front()
        {
            let length = framed(&frame);
            if used > 0 && used + length > max {
                lanes.data.push_front(frame);
                break;
            }
            used += length;
            data += 1;
            bytes += frame.encoded_len();
            into.push(frame);
        }
        let close = lanes.close;
        drop(lanes);
        if into.is_empty() {
            return close.map_or(Next::Wait, Next::Close);
        }
        self.freed.control.fetch_add(control, Ordering::AcqRel);
        self.freed.data.fetch_add(data, Ordering::AcqRel);
        self.freed.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.wake.notify_one();
        Next::Write
    }
}

/// Length with the varint before it.
fn framed(frame: &Frame) -> usize {
    let length = frame.encoded_len();
    length
        + if length < 0x80 {
            1
        } else if length < 0x4000 {
            2
        } else {
            3
        }
}

/// Runs the two tasks of a connection. [`Arrival::Down`] is the last thing they say.
pub(super) fn start(
    shared: &Arc<Shared>,
    id: ConnId,
    up: &Established,
    out: &Arc<Outbound>,
    to: mpsc::Sender<Arrival>,
) {
    let writer = Writer {
        shared: Arc::clone(shared),
        connection: Arc::clone(&up.connection),
        out: Arc::clone(out),
        max_frame: up.max_frame,
    };
    let reader = Reader { shared: Arc::clone(shared), connection: Arc::clone(&up.connection), id, to };
    let span = tracing::info_span!(target: "byway::link", "peer", peer = %up.hello.peer.short(), conn = id.0);
    shared.runtime.spawn(reader.run(writer).instrument(span));
}

struct Writer {
    shared: Arc<Shared>,
    connection: Arc<dyn Connection>,
    out: Arc<Outbound>,
    max_frame: usize,
}

impl Writer {
    /// Writes until it is told to close, and closes; or until the connection fails.
    async fn run(self) {
        let flushed = tokio::select! {
            done = self.write() => done,
            () = self.overdue() => self.out.lanes().close,
        };
        if let Some(code) = flushed {
            close(&self.shared, &self.connection, code).await;
        }
    }

    /// A peer that does not read may not hold up a close.
    async fn overdue(&self) {
        self.out.closing.raised().await;
        self.shared.runtime.sleep(self.shared.settings.flush_wait).await;
    }

    /// The code to close with, once everything is written; `None` if the connection failed.
    async fn write(&self) -> Option<CloseCode> {
        let mut batch = Batch::new(self.max_frame);
        let mut frames = Vec::new();
        loop {
            match self.out.take(&mut frames, self.max_frame) {
                Next::Wait => self.out.ready.notified().await,
                Next::Close(code) => return Some(code),
                Next::Write => {
                    for frame in frames.drain(..) {
                        if batch.push(&frame) {
                            continue;
                        }
                        self.send(&mut batch).await?;
                        if !batch.push(&frame) {
                            let length = frame.encoded_len();
                            tracing::warn!(target: "byway::link", length, "a frame longer than the peer takes was dropped");
                        }
                    }
                    self.send(&mut batch).await?;
                }
            }
        }
    }

    async fn send(&self, batch: &mut Batch) -> Option<()> {
        if batch.is_empty() { Some(()) } else { self.connection.send(batch.take()).await.ok() }
    }
}

struct Reader {
    shared: Arc<Shared>,
    connection: Arc<dyn Connection>,
    id: ConnId,
    to: mpsc::Sender<Arrival>,
}

impl Reader {
    async fn run(self, writer: Writer) {
        let out = Arc::clone(&writer.out);
        let (done, stop) = (Stop::new(), Stop::new());
        let task = {
            let (done, stop) = (done.clone(), stop.clone());
            self.shared.runtime.spawn(async move {
                let _guard = done.on_drop();
                stop.unless_raised(writer.run()).await;
            })
        };
        let mut code = tokio::select! {
            code = self.read() => code,
            () = done.raised() => CloseCode::LOST,
        };
        let ours = out.lanes().close;
        if let Some(ours) = ours {
            code = ours;
        } else if done.is_raised() {
            // Writing failed: the far side may have said why.
            code = timeout(self.shared.settings.flush_wait, self.read()).await.unwrap_or(CloseCode::LOST);
        }
        stop.raise();
        let _ = task.await;
        close(&self.shared, &self.connection, code).await;
        let _ = self.to.send(Arrival::Down(self.id, code)).await;
    }

    /// Reads until the connection ends.
    async fn read(&self) -> CloseCode {
        loop {
            let bytes = match self.connection.recv().await {
                Ok(Received::Frame(bytes)) => bytes,
                Ok(Received::Closed(code)) => return code,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(target: "byway::link", conn = ?self.id, %error, "reading failed");
                    return CloseCode::LOST;
                }
            };
            let arrival = self.decode(bytes);
            if self.to.send(arrival).await.is_err() {
                return CloseCode::LOST;
            }
        }
    }

    fn decode(&self, bytes: Bytes) -> Arrival {
        let mut frames = Vec::new();
        let now = self.shared.runtime.now().wall;
        let known = |bytes: &[u8]| self.shared.records.get(bytes, now);
        let context = DecodeContext {
            network: self.shared.identity.network(),
            membership: self.shared.identity.membership(),
            now,
            records: &known,
        };
        match decode(bytes, &context, &mut frames) {
            Ok(_) => {
                self.remember(&frames);
                Arrival::Frames(self.id, frames)
            }
            Err(error) => {
                tracing::debug!(target: "byway::link", conn = ?self.id, %error, "a frame could not be read");
                Arrival::Protocol(self.id)
            }
        }
    }

    fn remember(&self, frames: &[Frame]) {
        for frame in frames {
            let records = match frame {
                Frame::Found(found) => &found.records,
                Frame::State(state) => &state.records,
                Frame::Goodbye(goodbye) => &goodbye.records,
                _ => continue,
            };
            for record in records {
                self.shared.records.put(record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(outbound: &Outbound, max: usize) -> Vec<Frame> {
        let mut taken = Vec::new();
        outbound.take(&mut taken, max);
        taken
    }

    #[test]
    fn control_goes_first_and_slots_come_back_in_one_sum() {
        let outbound = Outbound::new(Arc::new(Notify::new()));
        let data = Frame::Relay(byway_wire::Relay {
            mail: byway_api::Sealed { to: byway_api::PeerId::from_bytes([1; 32]), envelope: vec![7; 100].into() },
            request_id: Bytes::from_static(b"1"),
        });
        let length = data.encoded_len();
        assert_eq!(data.lane(), Lane::Data);
        outbound.push(&mut vec![data.clone(), Frame::Ping(1), data.clone(), Frame::Ping(2)]);
        let taken = frames(&outbound, 65_536);
        assert!(matches!(taken[..], [Frame::Ping(1), Frame::Ping(2), Frame::Relay(_), Frame::Relay(_)]));
        assert_eq!(outbound.collect(), Some(Credit { control: 2, data: 2, bytes: 2 * length }));
        assert_eq!(outbound.collect(), None);
    }

    #[test]
    fn one_take_fills_at_most_one_transport_frame() {
        let outbound = Outbound::new(Arc::new(Notify::new()));
        outbound.push(&mut (0..10).map(Frame::Ping).collect());
        let length = framed(&Frame::Ping(1));
        assert_eq!(frames(&outbound, 3 * length + 1).len(), 3);
        // A frame that fits nowhere is not left in the way of the others.
        assert_eq!(frames(&outbound, 1).len(), 1);
        outbound.close(CloseCode::NORMAL);
        assert_eq!(frames(&outbound, 65_536).len(), 6);
        assert!(matches!(outbound.take(&mut Vec::new(), 65_536), Next::Close(CloseCode::NORMAL)));
    }
}
