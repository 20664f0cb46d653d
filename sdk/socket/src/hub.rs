use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use byway_api::PeerId;
use byway_wire::{SocketFrame, limits, peek};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::queue::Queue;
use crate::table::Table;
use crate::{Closed, Device, Gate, Routed, SignalBus};

/// The numbers of a [`Hub`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubConfig {
    /// Attached sockets; default 32. The surplus is answered "full".
    pub max_sockets: usize,
    /// Sockets that have not proved who they are; default 64.
    pub max_half_open: usize,
    /// The same from one IP address; default 8, loopback exempt.
    pub max_half_open_per_ip: usize,
    /// From the first byte to a valid proof; default 5 s.
    pub auth_timeout: Duration,
    /// Frames that wait for one socket; default 64.
    pub queue_frames: usize,
    /// Their bytes; default 256 KiB.
    pub queue_bytes: usize,
    /// Frames a second that one socket may send; default 20. A `Send` above it is answered `Busy`.
    pub frames_per_second: u32,
    /// How many of them at once; default 40.
    pub burst: u32,
    /// Surplus frames before the socket is closed; default 100. One is forgiven every second.
    pub strikes: u32,
    /// How long one write may take before the socket counts as a slow consumer; default 10 s.
    pub write_timeout: Duration,
    /// A ping after this much silence; default 25 s.
    pub ping_every: Duration,
    /// Unanswered pings before the socket is dropped; default 2.
    pub missed_pings: u32,
    /// How long the [`SignalBus`] may take; default 1 s.
    pub route_timeout: Duration,
    /// How long saying goodbye to one socket may take; default 1 s.
    pub close_timeout: Duration,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            max_sockets: limits::LISTENER_SOCKETS,
            max_half_open: limits::HALF_OPEN,
            max_half_open_per_ip: limits::HALF_OPEN_PER_IP,
            auth_timeout: Duration::from_secs(5),
            queue_frames: 64,
            queue_bytes: 256 * 1024,
            frames_per_second: limits::SOCKET_RATE,
            burst: 40,
            strikes: 100,
            write_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            missed_pings: 2,
            route_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(1),
        }
    }
}

/// The server's side of the signalling socket: the attached devices, and the way between them.
///
/// # Behavior
/// * [`serve`](Self::serve) runs one socket, in the caller's task, from the challenge to the end.
/// * An envelope goes into the queue of an attached device of the same network, or is refused
///   (`NoSuchPeer`, `Busy`). Nothing is stored.
/// * A newer socket of a device takes its place; the older one is closed with an error.
/// * [`local`](Self::local) attaches a device of this process without a socket.
///
/// # Shutdown
/// [`close`](Self::close) ends every socket and returns when the last `serve` has.
///
/// Cheap to clone; clones are the same hub.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: HubConfig,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) bus: Option<Arc<dyn SignalBus>>,
    table: Mutex<Table>,
    gone: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    forwarded: AtomicU64,
    no_such_peer: AtomicU64,
    busy: AtomicU64,
}

/// What became of the envelopes that came to a hub's sockets and local devices so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCounts {
    /// Put into the queue of a device attached here.
    pub delivered: u64,
    /// Taken by another hub.
    pub forwarded: u64,
    /// For a device that is not attached.
    pub no_such_peer: u64,
    /// Refused because a queue was full, or the sender too fast.
    pub busy: u64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("sockets", &self.sockets()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket has proved whose it is.
    pub(crate) fn attach(&self, generation: u64, device: &Device, queue: &Arc<Queue>) -> Result<(), Closed> {
        self.table().attach(generation, device, queue, self.config.max_sockets)?;
        if let Some(bus) = &self.bus {
            bus.attached(device, generation);
        }
        Ok(())
    }

    /// Nothing is routed to it any more.
    pub(crate) fn detach(&self, generation: u64, device: &Device) {
        let detached = self.table().detach(generation, device);
        if let (true, Some(bus)) = (detached, &self.bus) {
            bus.detached(device, generation);
        }
    }

    /// The socket is closed.
    pub(crate) fn leave(&self, generation: u64) {
        self.table().leave(generation);
        self.gone.notify_waiters();
    }

    pub(crate) async fn route(&self, from: &Device, to: PeerId, envelope: Bytes) -> Routed {
        let to = Device::new(from.network.clone(), to);
        let frame = SocketFrame::From { from: from.peer, envelope: envelope.clone() };
        let here = self.table().push(&to, frame);
        let routed = match (&self.bus, here) {
            (Some(bus), Routed::NoSuchPeer) => {
                let there = bus.route(&to, from.peer, envelope);
                timeout(self.config.route_timeout, there).await.unwrap_or(Routed::Busy)
            }
            _ => here,
        };
        self.count(routed);
        routed
    }

    pub(crate) fn count(&self, routed: Routed) {
        let counter = match routed {
            Routed::Delivered => &self.counts.delivered,
            Routed::Forwarded => &self.counts.forwarded,
            Routed::NoSuchPeer => &self.counts.no_such_peer,
            Routed::Busy => &self.counts.busy,
            Routed::Refused => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub with nobody attached.
    pub fn new(config: HubConfig, gate: Arc<dyn Gate>) -> Self {
        Self::build(config, gate, None)
    }

    /// A hub that is one of several.
    pub fn with_bus(config: HubConfig, gate: Arc<dyn Gate>, bus: Arc<dyn SignalBus>) -> Self {
        Self::build(config, gate, Some(bus))
    }

    fn build(config: HubConfig, gate: Arc<dyn Gate>, bus: Option<Arc<dyn SignalBus>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                gate,
                bus,
                table: Mutex::default(),
                gone: Notify::new(),
                counts: Counts::default(),
            }),
        }
    }

    /// Attaches a device of this process. `None` if the device is attached already, or the hub is closed.
    pub fn local(&self, device: Device) -> Option<LocalDevice> {
        let queue = Arc::new(Queue::new(self.inner.config.queue_frames, self.inner.config.queue_bytes));
        let generation = self.inner.table().seat_local(&device, &queue)?;
        if let Some(bus) = &self.inner.bus {
            bus.attached(&device, generation);
        }
        Some(LocalDevice { inner: Arc::clone(&self.inner), device, queue, generation })
    }

    /// Hands over an envelope that came from another hub, through a [`SignalBus`].
    pub fn deliver(&self, to: &Device, from: PeerId, envelope: Bytes) -> Routed {
        self.inner.table().push(to, SocketFrame::From { from, envelope })
    }

    /// Asks an attached device to be a coordinator: a hint.
    pub fn appoint(&self, device: &Device) -> Routed {
        self.inner.table().push(device, SocketFrame::Appoint)
    }

    /// Whether the device is attached now.
    pub fn is_attached(&self, device: &Device) -> bool {
        self.inner.table().is_attached(device)
    }

    /// Who is attached now, in no order.
    pub fn devices(&self) -> Vec<Device> {
        self.inner.table().devices()
    }

    /// Open sockets, those that have not proved anything included.
    pub fn sockets(&self) -> usize {
        self.inner.table().sockets()
    }

    /// What became of envelopes so far.
    pub fn counts(&self) -> RouteCounts {
        let counts = &self.inner.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouteCounts {
            delivered: read(&counts.delivered),
            forwarded: read(&counts.forwarded),
            no_such_peer: read(&counts.no_such_peer),
            busy: read(&counts.busy),
        }
    }

    /// Tells every socket to end, without waiting for it. From now on nobody attaches.
    pub fn stop(&self) {
        self.inner.table().close();
    }

    /// Ends every socket and waits until the last [`serve`](Self::serve) has returned. Idempotent.
    pub async fn close(&self) {
        self.stop();
        loop {
            let gone = self.inner.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if self.sockets() == 0 {
                return;
            }
            gone.await;
        }
    }
}

/// A device of this process that is attached to a [`Hub`] without a socket. Dropping it detaches.
pub struct LocalDevice {
    inner: Arc<Inner>,
    device: Device,
    queue: Arc<Queue>,
    generation: u64,
}

impl fmt::Debug for LocalDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDevice").field("device", &self.device).finish_non_exhaustive()
    }
}

impl LocalDevice {
    /// Hands an envelope to a device that is attached to the same hub.
    pub async fn send(&self, to: PeerId, envelope: Bytes) -> Routed {
        if peek(&envelope).is_ok_and(|head| head.to == to) {
            return self.inner.route(&self.device, to, envelope).await;
        }
        Routed::Refused
    }

    /// The next envelope for this device and who attached as its sender; `None` once the hub closes.
    /// Cancel-safe; awaited by one task.
    pub async fn recv(&self) -> Option<(PeerId, Bytes)> {
        loop {
            self.queue.ready().await.ok()?;
            if let Some(SocketFrame::From { from, envelope }) = self.queue.pop() {
                return Some((from, envelope));
            }
        }
    }
}

impl Drop for LocalDevice {
    fn drop(&mut self) {
        self.inner.detach(self.generation, &self.device);
    }
}
