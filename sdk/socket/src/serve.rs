//! One socket of a hub, from the challenge to the end.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::PeerId;
use byway_wire::{SocketFrame, SocketStatus, WireError};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep_until, timeout};

use crate::hub::Inner;
use crate::pace::{Beat, Bucket, Pulse};
use crate::queue::Queue;
use crate::{Closed, Device, Hub, Packet, Routed, Socket};

/// How a socket came in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The device in its path.
    pub claimed: PeerId,
    /// Its address, for the bound on sockets that have proved nothing.
    pub from: Option<IpAddr>,
    /// What the client called the server, if it said so.
    pub host: Option<String>,
}

impl Arrival {
    /// A socket that says it is `claimed`'s.
    pub const fn new(claimed: PeerId) -> Self {
        Self { claimed, from: None, host: None }
    }
}

/// What became of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The device, if the socket has proved one.
    pub device: Option<Device>,
    /// Why it ended.
    pub closed: Closed,
}

impl Hub {
    /// Takes a place for a connection that is still to become a socket, so that it counts as one that
    /// has proved nothing. Dropping the entry gives it back.
    ///
    /// # Errors
    /// [`Closed::Full`] or [`Closed::Stopping`]: drop the connection.
    pub fn enter(&self, from: Option<IpAddr>) -> Result<Entry, Closed> {
        let config = &self.inner.config;
        let queue = Arc::new(Queue::new(config.queue_frames, config.queue_bytes));
        let mut table = self.inner.table();
        let generation = table.enter(from, &queue, config.max_half_open, config.max_half_open_per_ip)?;
        Ok(Entry { hub: Arc::clone(&self.inner), queue, generation, device: None })
    }

    /// Runs one socket in the caller's task and returns when it has ended.
    ///
    /// # Cancellation
    /// Dropping the future drops the socket without a goodbye and frees its place.
    pub async fn serve<S, E>(&self, mut socket: S, arrival: Arrival) -> Served
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        match self.enter(arrival.from) {
            Ok(entry) => entry.serve(socket, arrival).await,
            Err(closed) => {
                goodbye(&mut socket, &closed, self.inner.config.close_timeout).await;
                Served { device: None, closed }
            }
        }
    }
}

/// One connection's place in a hub; freed when dropped.
pub struct Entry {
    hub: Arc<Inner>,
    queue: Arc<Queue>,
    generation: u64,
    device: Option<Device>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.detach();
        self.hub.leave(self.generation);
    }
}

impl Entry {
    /// Runs the socket in this place. See [`Hub::serve`].
    ///
    /// # Cancellation
    /// Dropping the future drops the socket without a goodbye and frees its place.
    pub async fn serve<S, E>(mut self, mut socket: S, arrival: Arrival) -> Served
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        let closed = self.run(&mut socket, &arrival).await;
        let device = self.detach();
        goodbye(&mut socket, &closed, self.hub.config.close_timeout).await;
        // The socket is gone before its place is.
        drop(socket);
        Served { device, closed }
    }

    /// From now on nothing is routed here.
    fn detach(&mut self) -> Option<Device> {
        let device = self.device.take()?;
        self.hub.detach(self.generation, &device);
        Some(device)
    }

    async fn run<S, E>(&mut self, socket: &mut S, arrival: &Arrival) -> Closed
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        let proved = tokio::select! {
            biased;
            why = self.queue.ready() => Err(why.err().unwrap_or(Closed::Stopping)),
            proved = timeout(self.hub.config.auth_timeout, self.prove(socket, arrival)) => {
                proved.unwrap_or(Err(Closed::TooLate))
            }
        };
        let device = match proved {
            Ok(device) => device,
            Err(why) => return why,
        };
        // The answer to the proof goes first: nothing else can be in the queue before it.
        let attached = SocketFrame::Status { to: device.peer, status: SocketStatus::Ok, seq: 0 };
        if self.queue.push(attached).is_err() {
            return self.queue.ended().unwrap_or(Closed::Stopping);
        }
        if let Err(why) = self.hub.attach(self.generation, &device, &self.queue) {
            return why;
        }
        self.device = Some(device.clone());
        let Err(why) = self.relay(socket, &device).await;
        why
    }

    /// Challenge and answer.
    async fn prove<S, E>(&self, socket: &mut S, arrival: &Arrival) -> Result<Device, Closed>
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        let challenge = self.hub.gate.challenge(arrival.claimed, arrival.host.as_deref());
        let frame =
            SocketFrame::Challenge { nonce: challenge.nonce.clone(), target: challenge.target.clone() }.encode();
        socket.send(Packet::Frame(frame)).await.map_err(lost)?;
        loop {
            let frame = match incoming(socket.next().await)? {
                Packet::Frame(frame) => frame,
                Packet::Close(_) => return Err(Closed::Remote),
                Packet::Ping | Packet::Pong => continue,
            };
            let SocketFrame::Auth(proof) = decode(frame)? else {
                return Err(Closed::Malformed("the first message must answer the challenge with Auth".to_owned()));
            };
            let device = self.hub.gate.admit(&challenge, &proof).map_err(|refusal| Closed::Refused(refusal.0))?;
            if device.peer != arrival.claimed {
                let text = format!("the proof is of {}, the path names {}", device.peer, arrival.claimed);
                return Err(Closed::Refused(text));
            }
            return Ok(device);
        }
    }

    /// Frames in both directions until something ends it.
    async fn relay<S, E>(&self, socket: &mut S, device: &Device) -> Result<Infallible, Closed>
    where
        S: Socket<E>,
        E: fmt::Display,
    {
        let config = &self.hub.config;
        let mut pulse = Pulse::new(config.ping_every, config.missed_pings);
        let mut frames = Bucket::new(config.frames_per_second, config.burst);
        let mut strikes = Bucket::new(1, config.strikes);
        loop {
            tokio::select! {
                biased;
                ready = self.queue.ready() => {
                    ready?;
                    write(socket, &self.queue, config.write_timeout).await?;
                }
                packet = socket.next() => {
                    let packet = incoming(packet)?;
                    pulse.heard();
                    let paid = frames.take();
                    if !paid && !strikes.take() {
                        return Err(Closed::Flood);
                    }
                    match packet {
                        Packet::Frame(frame) => self.handle(device, decode(frame)?, paid).await?,
                        Packet::Close(_) => return Err(Closed::Remote),
                        Packet::Ping | Packet::Pong => {}
                    }
                }
                () = sleep_until(pulse.due()) => match pulse.beat() {
                    Beat::Dead => return Err(Closed::Silent),
                    Beat::Ping => in_time(socket.send(Packet::Ping), config.write_timeout).await?,
                },
            }
        }
    }

    async fn handle(&self, device: &Device, frame: SocketFrame, paid: bool) -> Result<(), Closed> {
        let (to, envelope, seq) = match frame {
            SocketFrame::Send { to, envelope, seq } => (to, envelope, seq),
            // A newer client may say things that we do not know.
            SocketFrame::Unknown => return Ok(()),
            _ => return Err(Closed::Malformed("a client sends only Auth, once, and Send".to_owned())),
        };
        let status = if paid {
            match self.hub.route(device, to, envelope).await {
                Routed::Delivered | Routed::Forwarded => SocketStatus::Ok,
                Routed::NoSuchPeer => SocketStatus::NoSuchPeer,
                Routed::Busy | Routed::Refused => SocketStatus::Busy,
            }
        } else {
            self.hub.count(Routed::Busy);
            SocketStatus::Busy
        };
        // Who does not read the answers to its own frames is not served any further.
        let full = |_| self.queue.ended().unwrap_or(Closed::Slow);
        self.queue.push(SocketFrame::Status { to, status, seq }).map_err(full)
    }
}

/// Writes what waits and flushes once.
pub(crate) async fn write<S, E>(socket: &mut S, queue: &Queue, limit: Duration) -> Result<(), Closed>
where
    S: Socket<E>,
    E: fmt::Display,
{
    let all = async {
        while let Some(frame) = queue.pop() {
            socket.feed(Packet::Frame(frame.encode())).await?;
        }
        socket.flush().await
    };
    in_time(all, limit).await
}

async fn in_time<E: fmt::Display>(write: impl Future<Output = Result<(), E>>, limit: Duration) -> Result<(), Closed> {
    match timeout(limit, write).await {
        Ok(written) => written.map_err(lost),
        Err(_) => Err(Closed::Slow),
    }
}

pub(crate) fn incoming<E: fmt::Display>(packet: Option<Result<Packet, E>>) -> Result<Packet, Closed> {
    packet.ok_or(Closed::Remote)?.map_err(lost)
}

pub(crate) fn decode(frame: Bytes) -> Result<SocketFrame, Closed> {
    SocketFrame::decode(frame).map_err(|e| match e {
        WireError::TooLarge { .. } => Closed::TooLarge(e.to_string()),
        e => Closed::Malformed(e.to_string()),
    })
}

pub(crate) fn lost<E: fmt::Display>(error: E) -> Closed {
    Closed::Lost(error.to_string())
}

/// Says why, closes, and waits for neither longer than `limit`.
pub(crate) async fn goodbye<S, E>(socket: &mut S, closed: &Closed, limit: Duration)
where
    S: Socket<E>,
{
    let all = async {
        if let Some(frame) = closed.to_frame() {
            socket.feed(Packet::Frame(frame.encode())).await.ok()?;
        }
        socket.send(Packet::Close(closed.code())).await.ok()?;
        socket.close().await.ok()
    };
    let _ = timeout(limit, all).await;
}
