//! Who is connected to a hub: sockets that have not proved anything yet, and attached devices.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use byway_wire::SocketFrame;

use crate::queue::Queue;
use crate::{Closed, Device, Routed};

/// A device's place. The queue is read by its socket's task or by its `LocalDevice`.
#[derive(Debug)]
struct Seat {
    generation: u64,
    queue: Arc<Queue>,
    local: bool,
}

/// The table of one hub.
#[derive(Debug, Default)]
pub(crate) struct Table {
    generations: u64,
    /// Every socket from its first byte to its last, by generation.
    sockets: HashMap<u64, Arc<Queue>>,
    /// Those of them that have not proved who they are: where they come from.
    half_open: HashMap<u64, Option<IpAddr>>,
    attached: HashMap<Device, Seat>,
    closing: bool,
}

impl Table {
    /// A new socket, if there is room for one more that has proved nothing.
    pub(crate) fn enter(
        &mut self,
        from: Option<IpAddr>,
        queue: &Arc<Queue>,
        max_half_open: usize,
        max_half_open_per_ip: usize,
    ) -> Result<u64, Closed> {
        if self.closing {
            return Err(Closed::Stopping);
        }
        let crowded = from.is_some_and(|ip| {
            !ip.is_loopback()
                && self.half_open.values().filter(|other| **other == Some(ip)).count() >= max_half_open_per_ip
        });
        if crowded || self.half_open.len() >= max_half_open {
            return Err(Closed::Full);
        }
        let generation = self.next_generation();
        self.half_open.insert(generation, from);
        self.sockets.insert(generation, Arc::clone(queue));
        Ok(generation)
    }

    /// The socket has proved that it is `device`'s. A place that the device has already is taken over.
    pub(crate) fn attach(
        &mut self,
        generation: u64,
        device: &Device,
        queue: &Arc<Queue>,
        max_sockets: usize,
    ) -> Result<(), Closed> {
        if self.closing {
            return Err(Closed::Stopping);
        }
        let remote = self.attached.values().filter(|seat| !seat.local).count();
        match self.attached.get(device) {
            Some(seat) if seat.local => {
                return Err(Closed::Refused("this device is the server itself; a socket cannot replace it".to_owned()));
            }
            Some(older) => older.queue.end(Closed::Replaced),
            None if remote >= max_sockets => return Err(Closed::Full),
            None => {}
        }
        self.half_open.remove(&generation);
        self.attached.insert(device.clone(), Seat { generation, queue: Arc::clone(queue), local: false });
        Ok(())
    }

    /// Gives a device of this process a place. `None` if it has one already, or the hub closes.
    pub(crate) fn seat_local(&mut self, device: &Device, queue: &Arc<Queue>) -> Option<u64> {
        if self.closing || self.attached.contains_key(device) {
            return None;
        }
        let generation = self.next_generation();
        self.attached.insert(device.clone(), Seat { generation, queue: Arc::clone(queue), local: true });
        Some(generation)
    }

    /// Nothing is routed to the socket any more. True if that leaves its device without a place.
    pub(crate) fn detach(&mut self, generation: u64, device: &Device) -> bool {
        let ours = self.attached.get(device).is_some_and(|seat| seat.generation == generation);
        if ours {
            self.attached.remove(device);
        }
        ours
    }

    /// The socket is closed.
    pub(crate) fn leave(&mut self, generation: u64) {
        self.sockets.remove(&generation);
        self.half_open.remove(&generation);
    }

    /// Puts a frame into the queue of an attached device.
    pub(crate) fn push(&self, to: &Device, frame: SocketFrame) -> Routed {
        match self.attached.get(to) {
            None => Routed::NoSuchPeer,
            Some(seat) if seat.queue.push(frame).is_ok() => Routed::Delivered,
            Some(seat) if seat.queue.ended().is_some() => Routed::NoSuchPeer,
            Some(_) => Routed::Busy,
        }
    }

    /// From now on nobody enters; everybody is told to go.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        let local = self.attached.values().filter(|seat| seat.local).map(|seat| &seat.queue);
        for queue in self.sockets.values().chain(local) {
            queue.end(Closed::Stopping);
        }
    }

    pub(crate) fn is_attached(&self, device: &Device) -> bool {
        self.attached.contains_key(device)
    }

    pub(crate) fn devices(&self) -> Vec<Device> {
        self.attached.keys().cloned().collect()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }
}
