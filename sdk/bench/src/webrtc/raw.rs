//! The crate `rtc` alone: two peer connections that hand each other their datagrams, in memory and on one
//! thread. No sockets, no tasks, no locks: nothing that drives the crate can cost less processor time for a
//! message. In messages a second it can be beaten, where each end has a thread of its own.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::data_channel::RTCDataChannelId;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use crate::Failure;
use crate::cost::Cost;
use crate::pair::BODY;

/// Bytes on their way before the sender waits: with the transport's 1 MiB it costs a tenth more.
const WINDOW: usize = 128 << 10;
/// Charged for each message on top, as the transport does.
const OVERHEAD: usize = 64;
/// The crate's timer may be due again at once; it is not called more often than this.
const TIMER_GAP: Duration = Duration::from_millis(1);
/// How often the clock may be put forward before anything happens.
const PATIENCE: usize = 10_000;

/// Two connected ends.
pub(crate) struct Pair {
    near: Side,
    far: Side,
    clock: Clock,
}

/// Waits for nobody: where nothing but a timer is left to happen, it is put forward.
#[derive(Debug, Default)]
struct Clock {
    ahead: Duration,
    idle: usize,
}

struct Side {
    address: SocketAddr,
    pc: RTCPeerConnection,
    out: VecDeque<BytesMut>,
    channel: Option<RTCDataChannelId>,
    received: usize,
    last_timeout: Instant,
}

impl Pair {
    pub(crate) fn connect() -> Result<Self, Failure> {
        let clock = Clock::default();
        let now = clock.now();
        let (mut near, mut far) = (Side::new(1, now)?, Side::new(2, now)?);
        near.pc.create_data_channel("bench", None)?;
        let offer = near.pc.create_offer(None)?;
        far.pc.set_remote_description(now, near.describe(offer, now)?)?;
        let answer = far.pc.create_answer(None)?;
        near.pc.set_remote_description(now, far.describe(answer, now)?)?;
        let mut pair = Self { near, far, clock };
        while pair.near.channel.is_none() || pair.far.channel.is_none() {
            pair.step()?;
        }
        Ok(pair)
    }

    /// So many messages from one end to the other. Keeps its thread busy until they have arrived.
    pub(crate) async fn flood(&mut self, size: usize, messages: usize) -> Result<Cost, Failure> {
        Cost::of(messages, async { self.carry(size, messages) }).await
    }

    fn carry(&mut self, size: usize, messages: usize) -> Result<(), Failure> {
        let (window, mut sent) = ((WINDOW / (size + OVERHEAD)) * size, 0);
        self.far.received = 0;
        while self.far.received < messages {
            let now = self.clock.now();
            let channel = self.near.channel.and_then(|id| self.near.pc.data_channel(id));
            let mut channel = channel.ok_or("the channel is gone")?;
            while sent < messages && channel.outstanding_bytes() + size <= window {
                channel.send(now, BytesMut::from(&BODY[..size]))?;
                sent += 1;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Everything that is on its way arrives.
    fn step(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        self.near.drain(now)?;
        self.far.drain(now)?;
        let there = hand_over(&mut self.near, &mut self.far, now)?;
        let back = hand_over(&mut self.far, &mut self.near, now)?;
        if there || back {
            self.clock.idle = 0;
            return Ok(());
        }
        let next = [&mut self.near, &mut self.far].map(|side| side.pc.poll_timeout()).into_iter().flatten().min();
        self.clock.put_forward(now, next.ok_or("nothing more will happen")?)
    }
}

impl Clock {
    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    fn put_forward(&mut self, now: Instant, to: Instant) -> Result<(), Failure> {
        self.ahead += to.saturating_duration_since(now).max(TIMER_GAP);
        self.idle += 1;
        if self.idle > PATIENCE { Err("rtc stands still".into()) } else { Ok(()) }
    }
}

impl Side {
    /// An end at a port that nobody listens on.
    fn new(port: u16, now: Instant) -> Result<Self, Failure> {
        let provider = rtc::crypto::default_provider()?;
        let params = CertificateParams::new(vec!["bench".to_owned()])?;
        let scheme = rtc::crypto::SignatureScheme::EcdsaP256Sha256;
        let certificate = RTCCertificate::generate(provider.crypto(), scheme, params)?;
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::default().with_certificates(vec![certificate]).build())
            .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
            .build(now)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let candidate = format!("candidate:1 1 udp 2130706431 {} {port} typ host", address.ip());
        pc.add_local_candidate(RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() })?;
        pc.add_local_candidate(RTCIceCandidateInit::default())?;
        Ok(Self { address, pc, out: VecDeque::new(), channel: None, received: 0, last_timeout: now })
    }

    /// The description with its candidate.
    fn describe(&mut self, it: RTCSessionDescription, now: Instant) -> Result<RTCSessionDescription, Failure> {
        self.pc.set_local_description(now, it)?;
        Ok(self.pc.local_description().ok_or("no local description")?)
    }

    /// Polls until nothing more comes.
    fn drain(&mut self, now: Instant) -> Result<(), Failure> {
        loop {
            let mut any = false;
            while let Some(write) = self.pc.poll_write() {
                self.out.push_back(write.message);
                any = true;
            }
            while let Some(event) = self.pc.poll_event() {
                self.event(&event)?;
                any = true;
            }
            while let Some(read) = self.pc.poll_read() {
                if let RTCMessage::DataChannelMessage(_, message) = read.message {
                    std::hint::black_box(message);
                    self.received += 1;
                }
                any = true;
            }
            if any {
                continue;
            }
            let overdue = self.pc.poll_timeout().is_some_and(|at| at <= now);
            if !overdue || now.saturating_duration_since(self.last_timeout) < TIMER_GAP {
                return Ok(());
            }
            self.last_timeout = now;
            self.pc.handle_timeout(now)?;
        }
    }

    fn event(&mut self, event: &RTCPeerConnectionEvent) -> Result<(), Failure> {
        match event {
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => self.channel = Some(*id),
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Failed) => {
                return Err("rtc does not connect to itself".into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// True if there was anything.
fn hand_over(from: &mut Side, to: &mut Side, now: Instant) -> Result<bool, Failure> {
    let any = !from.out.is_empty();
    while let Some(message) = from.out.pop_front() {
        let transport = TransportContext {
            local_addr: to.address,
            peer_addr: from.address,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        to.pc.handle_read(TaggedBytesMut { now, transport, message })?;
        // before it is open, the crate drops what it is not ready for
        if to.channel.is_none() {
            to.drain(now)?;
        }
    }
    if any {
        to.drain(now)?;
    }
    Ok(any)
}
