//! An in-memory socket, devices with keys, and a hub in front of them.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{NetworkId, PeerId, Proof, Prover, Secret, SignalError, UserId, WallTime};
use byway_socket::{Arrival, Challenge, Client, ClientConfig, Device, Gate, Hub, HubConfig, Packet, Refusal, Served};
use byway_wire::{DeviceKey, OpenMembership, SocketFrame, issue_self_token, make_proof};
use futures_core::Stream;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::task::JoinHandle;

pub const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);
pub const TARGET: &str = "ws://registry.example";

#[derive(Default)]
struct Lane {
    packets: VecDeque<Packet>,
    capacity: usize,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn close(lane: &Mutex<Self>) {
        let mut lane = lane.lock().unwrap();
        lane.closed = true;
        lane.reader.take().into_iter().chain(lane.writer.take()).for_each(Waker::wake);
    }
}

/// One end of a pipe that holds a bounded number of packets in each direction.
pub struct End {
    read: Arc<Mutex<Lane>>,
    write: Arc<Mutex<Lane>>,
}

pub fn pipe(capacity: usize) -> (End, End) {
    let lane = || Arc::new(Mutex::new(Lane { capacity, ..Lane::default() }));
    let (a, b) = (lane(), lane());
    (End { read: Arc::clone(&a), write: Arc::clone(&b) }, End { read: b, write: a })
}

impl Drop for End {
    fn drop(&mut self) {
        Lane::close(&self.read);
        Lane::close(&self.write);
    }
}

impl Stream for End {
    type Item = Result<Packet, String>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut lane = self.read.lock().unwrap();
        if let Some(packet) = lane.packets.pop_front() {
            lane.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(packet)));
        }
        if lane.closed {
            return Poll::Ready(None);
        }
        lane.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Sink<Packet> for End {
    type Error = String;
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let mut lane = self.write.lock().unwrap();
        if lane.closed {
            return Poll::Ready(Err("broken pipe".to_owned()));
        }
        if lane.packets.len() < lane.capacity {
            return Poll::Ready(Ok(()));
        }
        lane.writer = Some(cx.waker().clone());
        Poll::Pending
    }
    fn start_send(self: Pin<&mut Self>, packet: Packet) -> Result<(), String> {
        let mut lane = self.write.lock().unwrap();
        lane.packets.push_back(packet);
        lane.reader.take().into_iter().for_each(Waker::wake);
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Lane::close(&self.write);
        Poll::Ready(Ok(()))
    }
}

impl End {
    /// The next frame, past pings.
    pub async fn frame(&mut self) -> Option<SocketFrame> {
        loop {
            match self.next().await?.unwrap() {
                Packet::Frame(bytes) => return Some(SocketFrame::decode(bytes).unwrap()),
                Packet::Ping | Packet::Pong => {}
                Packet::Close(_) => return None,
            }
        }
    }

    pub async fn say(&mut self, frame: &SocketFrame) {
        self.send(Packet::Frame(frame.encode())).await.unwrap();
    }

    /// Attaches by hand.
    pub async fn attach(&mut self, who: &Someone) {
        let Some(SocketFrame::Challenge { nonce, target }) = self.frame().await else { panic!("no challenge") };
        self.say(&SocketFrame::Auth(who.prove("WS", &target, &nonce))).await;
        let ok = self.frame().await.unwrap();
        assert!(matches!(ok, SocketFrame::Status { seq: 0, .. }), "{ok:?}");
    }
}

/// A device.
pub struct Someone {
    pub key: DeviceKey,
    pub credential: String,
}

impl std::fmt::Debug for Someone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.key)
    }
}

pub fn network() -> NetworkId {
    NetworkId::new("team").unwrap()
}

pub fn someone(n: u8) -> Someone {
    let key = DeviceKey::from_seed(&Secret::new([n; 32]));
    let user = UserId::new(&format!("user{n}")).unwrap();
    let life = Duration::from_secs(86_400);
    let credential = issue_self_token(&key, &network(), &user, &key.peer(), NOW, life, [n; 16]);
    Someone { key, credential }
}

impl Someone {
    pub fn peer(&self) -> PeerId {
        self.key.peer()
    }
    pub fn device(&self) -> Device {
        Device::new(network(), self.peer())
    }
}

impl Prover for Someone {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        make_proof(&self.key, &self.credential, method, target, nonce, NOW, [9; 16])
    }
}

/// A gate with the real checks and a counted nonce.
#[derive(Debug, Default)]
pub struct TestGate {
    nonces: Mutex<u64>,
}

impl Gate for TestGate {
    fn challenge(&self, claimed: PeerId, _: Option<&str>) -> Challenge {
        let mut n = self.nonces.lock().unwrap();
        *n += 1;
        Challenge { nonce: format!("nonce-{n}"), target: format!("{TARGET}/{claimed}") }
    }
    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal> {
        let member = challenge.check(proof, &OpenMembership::new(network()), NOW)?;
        Ok(Device::new(network(), member.peer))
    }
}

pub fn hub(config: HubConfig) -> Hub {
    Hub::new(config, Arc::new(TestGate::default()))
}

/// A raw socket at the hub that says it is `claimed`.
pub fn dial(hub: &Hub, claimed: PeerId) -> (End, JoinHandle<Served>) {
    dial_with(hub, claimed, 16)
}

pub fn dial_with(hub: &Hub, claimed: PeerId, capacity: usize) -> (End, JoinHandle<Served>) {
    let (here, there) = pipe(capacity);
    let hub = hub.clone();
    (here, tokio::spawn(async move { hub.serve(there, Arrival::new(claimed)).await }))
}

pub async fn attached(hub: &Hub, who: &Someone) -> (End, JoinHandle<Served>) {
    let (mut end, task) = dial(hub, who.peer());
    end.attach(who).await;
    (end, task)
}

pub async fn connect(hub: &Hub, who: &Someone) -> Result<Client, SignalError> {
    let (end, _) = dial(hub, who.peer());
    Client::connect(end, who, |target| target.starts_with(TARGET), ClientConfig::default()).await
}

/// An envelope for `to`: as much of one as a carrier looks at, around `text`.
pub fn mail(to: PeerId, text: &str) -> Bytes {
    let mut envelope = vec![0x1a, 32];
    envelope.extend_from_slice(to.as_bytes());
    let len = text.len();
    envelope.extend_from_slice(&[0x3a, (len & 0x7f) as u8 | 0x80, (len >> 7 & 0x7f) as u8 | 0x80, (len >> 14) as u8]);
    envelope.extend_from_slice(text.as_bytes());
    envelope.into()
}

/// An envelope for `to` of `size` bytes.
pub fn mail_of(to: PeerId, size: usize) -> Bytes {
    mail(to, &"x".repeat(size - mail(to, "").len()))
}
