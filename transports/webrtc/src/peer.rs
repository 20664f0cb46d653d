//! One connection, from its first signal to its end.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{CloseCode, PathInfo, PathKind, PeerId, SignalAddress, TransportError, TransportErrorKind};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::shared::TaggedBytesMut;
use tokio::sync::{Notify, watch};

use crate::candidate::Candidate;
use crate::certificate::Certificate;
use crate::config::Config;
use crate::demux::Remote;
use crate::held::{Held, MAX_HELD};
use crate::pacing::Pacing;
use crate::random;
use crate::sdp::Filter;
use crate::shared::Shared;
use crate::socket::Sockets;
use crate::sync::lock;
use crate::window::Window;

/// A connection of one endpoint; never used twice.
pub(crate) type ConnId = u64;

/// Late candidates that wait for the description they belong to.
const MAX_EARLY: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Offerer,
    Answerer,
}

/// How far a connection is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Connecting,
    Open,
    Ended(End),
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) code: CloseCode,
    /// What `dial` reports, if it ended before it was open.
    pub(crate) kind: TransportErrorKind,
    pub(crate) detail: &'static str,
    /// Nothing is sent to the far side.
    pub(crate) silent: bool,
    /// It was open before.
    pub(crate) was_open: bool,
}

impl End {
    /// It ends with `code`.
    pub(crate) const fn closed(code: CloseCode) -> Self {
        Self { code, kind: TransportErrorKind::Closed, detail: "", silent: false, was_open: false }
    }

    /// The attempt fails.
    pub(crate) const fn failed(kind: TransportErrorKind, detail: &'static str) -> Self {
        Self { code: CloseCode::LOST, kind, detail, silent: false, was_open: false }
    }

    pub(crate) const fn silently(mut self) -> Self {
        self.silent = true;
        self
    }

    pub(crate) fn error(&self) -> TransportError {
        crate::error(self.kind, self.detail)
    }
}

/// Where the signals of an attempt go.
#[derive(Debug, Default)]
pub(crate) struct Signalling {
    pub(crate) at: Option<SignalAddress>,
    pub(crate) session: Bytes,
    /// Our OFFER, until it is answered.
    pub(crate) offer: Option<String>,
    /// The description is on its way, so late candidates may follow.
    pub(crate) announced: bool,
    /// Late candidates until then.
    pub(crate) unsent: Vec<Candidate>,
}

pub(crate) struct Peer {
    pub(crate) id: ConnId,
    pub(crate) device: PeerId,
    pub(crate) role: Role,
    pub(crate) signalling: Mutex<Signalling>,
    pub(crate) password: String,
    pub(crate) core: Mutex<Core>,
    pub(crate) readable: Notify,
    pub(crate) writable: Notify,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) shared: Weak<Shared>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).field("device", &self.device).finish_non_exhaustive()
    }
}

/// What is behind the connection's lock.
pub(crate) struct Core {
    /// Gone once the connection has ended.
    pub(crate) live: Option<Box<Live>>,
    /// Frames that `recv` has not taken.
    pub(crate) inbox: VecDeque<Bytes>,
    /// Their size with overhead.
    pub(crate) inbox_bytes: usize,
    /// The stack was not drained because the inbox is full.
    pub(crate) stalled: bool,
    /// Valid once `live` is gone.
    pub(crate) code: CloseCode,
    /// Valid once open.
    pub(crate) binding: Vec<u8>,
    pub(crate) path: PathInfo,
}

/// The protocol stack of a connection that has not ended.
pub(crate) struct Live {
    pub(crate) pc: RTCPeerConnection,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) ufrag: String,
    /// Our certificate's digest.
    pub(crate) certificate: [u8; 32],
    pub(crate) out: Vec<TaggedBytesMut>,
    pub(crate) channel: Option<RTCDataChannelId>,
    pub(crate) open: bool,
    /// The peer's description is known.
    pub(crate) described: bool,
    pub(crate) filter: Filter,
    pub(crate) early: Vec<String>,
    /// Our relayed address, if it is a candidate.
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) chosen: Option<Remote>,
    pub(crate) window: Window,
    pub(crate) writer_waits: bool,
    /// The most messages that can have come since the stack was drained.
    pub(crate) undrained: usize,
    /// Datagrams that came while the inbox is full.
    pub(crate) held: Held,
    pub(crate) dirty: bool,
    /// We are closing with this code, until then at the latest.
    pub(crate) closing: Option<(CloseCode, Instant)>,
    /// The code with which the far side closed.
    pub(crate) heard: Option<CloseCode>,
    /// The stack gave up.
    pub(crate) verdict: Option<End>,
    pub(crate) connect_by: Instant,
    pub(crate) armed: Option<Instant>,
    pub(crate) last_timeout: Option<Instant>,
    pub(crate) last_traffic: Instant,
    pub(crate) last_check: Instant,
    pub(crate) pacing: Pacing,
}

impl Peer {
    /// A new attempt, entered into the endpoint's tables.
    fn create(
        shared: &Arc<Shared>,
        id: ConnId,
        device: PeerId,
        role: Role,
        session: Bytes,
    ) -> Result<Arc<Self>, TransportError> {
        let closed = || crate::error(TransportErrorKind::Closed, "the endpoint is closed");
        let sockets = lock(&shared.sockets).as_ref().map(Arc::clone).ok_or_else(closed)?;
        let (candidates, loopback) = {
            let all = lock(&shared.candidates);
            (all.list(shared.config.relay_only), all.hosts.iter().any(|host| host.ip().is_loopback()))
        };
        if candidates.is_empty() {
            let why = if shared.config.relay_only { "no TURN allocation yet" } else { "no network interface is up" };
            return Err(crate::error(TransportErrorKind::LocalFault, why));
        }
        let certificate = Certificate::generate()?;
        let (ufrag, password) = (random::text::<8>()?, random::text::<16>()?);
        let now = Instant::now();
        let sha256 = certificate.sha256;
        let mut live = Box::new(Live {
            pc: build(&shared.config, certificate, &ufrag, &password, now).map_err(unbuildable)?,
            sockets,
            ufrag,
            certificate: sha256,
            out: Vec::new(),
            channel: None,
            open: false,
            described: false,
            // a relayed pair may end at a loopback address of the server's machine
            filter: Filter::new(loopback || shared.config.relay_only),
            early: Vec::new(),
            relayed: None,
            chosen: None,
            window: Window::new(shared.config.send_window),
            writer_waits: false,
            undrained: 0,
            held: Held::new(shared.config.receive_window),
            dirty: false,
            closing: None,
            heard: None,
            verdict: None,
            connect_by: now + shared.config.connect_timeout,
            armed: None,
            last_timeout: None,
            last_traffic: now,
            last_check: now,
            pacing: Pacing::new(shared.config.checks_per_second, now),
        });
        for candidate in candidates {
            live.add_local(candidate).map_err(unbuildable)?;
        }
        // an empty attribute: the set is complete
        live.pc.add_local_candidate(RTCIceCandidateInit::default()).map_err(unbuildable)?;
        let ufrag = live.ufrag.clone();
        let peer = Arc::new(Self {
            id,
            device,
            role,
            signalling: Mutex::new(Signalling { session, ..Signalling::default() }),
            password,
            core: Mutex::new(Core {
                live: Some(live),
                inbox: VecDeque::new(),
                inbox_bytes: 0,
                stalled: false,
                code: CloseCode::LOST,
                binding: Vec::new(),
                path: PathInfo::new(PathKind::Direct, "", ""),
            }),
            readable: Notify::new(),
            writable: Notify::new(),
            phase: watch::Sender::new(Phase::Connecting),
            shared: Arc::downgrade(shared),
        });
        if shared.register(&peer, &ufrag) {
            Ok(peer)
        } else if shared.is_closed() {
            Err(closed())
        } else {
            Err(crate::error(TransportErrorKind::Busy, "this endpoint has all the connections it may have"))
        }
    }

    /// Begins an attempt of our own: the connection and its OFFER.
    pub(crate) fn offer(
        shared: &Arc<Shared>,
        id: ConnId,
        device: PeerId,
        session: Bytes,
    ) -> Result<(Arc<Self>, String), TransportError> {
        let peer = Self::create(shared, id, device, Role::Offerer, session)?;
        match peer.with(|live, now| live.make_offer(now)) {
            Some(Ok(sdp)) => Ok((peer, sdp)),
            other => {
                peer.end(End::closed(CloseCode::LOST).silently());
                Err(other.and_then(Result::err).map_or_else(|| unbuildable("ended"), unbuildable))
            }
        }
    }

    /// Accepts a peer's OFFER: the connection and its ANSWER.
    pub(crate) fn answer(
        shared: &Arc<Shared>,
        id: ConnId,
        device: PeerId,
        session: Bytes,
        offer: &str,
    ) -> Result<(Arc<Self>, String), TransportError> {
        let peer = Self::create(shared, id, device, Role::Answerer, session)?;
        match peer.with(|live, now| live.make_answer(offer, now)) {
            Some(Ok(sdp)) => Ok((peer, sdp)),
            other => {
                peer.end(End::closed(CloseCode::LOST).silently());
                let e = crate::error(TransportErrorKind::Handshake, "the peer's OFFER cannot be used");
                Err(match other.and_then(Result::err) {
                    Some(cause) => e.with_source(cause),
                    None => e,
                })
            }
        }
    }

    /// The peer answered our OFFER.
    pub(crate) fn answered(self: &Arc<Self>, answer: &str) {
        lock(&self.signalling).offer = None;
        self.with(|live, now| {
            if live.described {
                return;
            }
            if let Err(e) = live.describe(answer, false, now) {
                tracing::debug!(device = ?self.device, error = %e, "unusable ANSWER");
                let detail = "the peer's ANSWER cannot be used";
                live.verdict.get_or_insert(End::failed(TransportErrorKind::Handshake, detail));
            }
        });
    }

    /// The peer has one more candidate.
    pub(crate) fn remote_candidate(self: &Arc<Self>, attribute: String) {
        self.with(|live, _| {
            if live.described {
                live.add_remote(&attribute);
            } else if live.early.len() < MAX_EARLY {
                live.early.push(attribute);
            }
        });
    }

    /// We have one more candidate.
    pub(crate) fn local_candidate(self: &Arc<Self>, candidate: Candidate) {
        self.with(|live, _| {
            if let Err(e) = live.add_local(candidate) {
                tracing::debug!(error = %e, "late candidate");
            }
        });
    }

    /// Time from a connectivity check to its answer.
    pub(crate) fn round_trip(&self, rtt: Duration) {
        lock(&self.core).path.rtt = Some(rtt);
    }
}

impl Live {
    fn make_offer(&mut self, now: Instant) -> Result<String, rtc::shared::error::Error> {
        let init = RTCDataChannelInit { protocol: crate::CHANNEL_PROTOCOL.to_owned(), ..RTCDataChannelInit::default() };
        self.channel = Some(self.pc.create_data_channel(crate::CHANNEL_LABEL, Some(init))?.id());
        let offer = self.pc.create_offer(None)?;
        self.pc.set_local_description(now, offer)?;
        self.local_sdp()
    }

    fn make_answer(&mut self, offer: &str, now: Instant) -> Result<String, rtc::shared::error::Error> {
        self.describe(offer, true, now)?;
        let answer = self.pc.create_answer(None)?;
        self.pc.set_local_description(now, answer)?;
        self.local_sdp()
    }

    fn local_sdp(&self) -> Result<String, rtc::shared::error::Error> {
        let description = self.pc.local_description();
        description.map(|it| it.sdp).ok_or_else(|| rtc::shared::error::Error::Other("no local description".to_owned()))
    }

    fn describe(&mut self, sdp: &str, is_offer: bool, now: Instant) -> Result<(), rtc::shared::error::Error> {
        let sdp = self.filter.apply(sdp);
        let description =
            if is_offer { RTCSessionDescription::offer(sdp)? } else { RTCSessionDescription::answer(sdp)? };
        self.pc.set_remote_description(now, description)?;
        self.described = true;
        for attribute in std::mem::take(&mut self.early) {
            self.add_remote(&attribute);
        }
        Ok(())
    }

    fn add_remote(&mut self, attribute: &str) {
        if self.filter.admit(attribute) {
            let init = RTCIceCandidateInit { candidate: attribute.to_owned(), ..RTCIceCandidateInit::default() };
            if let Err(e) = self.pc.add_remote_candidate(init) {
                tracing::debug!(error = %e, "unusable candidate");
            }
        }
    }

    fn add_local(&mut self, candidate: Candidate) -> Result<(), rtc::shared::error::Error> {
        if let Candidate::Relayed { address } = candidate {
            self.relayed = Some(address);
        }
        let init = RTCIceCandidateInit { candidate: candidate.attribute(), ..RTCIceCandidateInit::default() };
        self.pc.add_local_candidate(init)
    }
}

fn unbuildable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransportError {
    crate::error(TransportErrorKind::Other, "the WebRTC stack refuses its configuration").with_source(cause)
}

fn build(
    config: &Config,
    certificate: Certificate,
    ufrag: &str,
    password: &str,
    now: Instant,
) -> Result<RTCPeerConnection, rtc::shared::error::Error> {
    // a pair is checked for as long as the attempt may last
    let checks = config.connect_timeout.as_millis() / config.check_interval.as_millis().max(1) * 2;
    let checks = u16::try_from(checks).unwrap_or(u16::MAX);
    let at_once = Some(Duration::ZERO);
    let relay_wait = if config.relay_only { Duration::ZERO } else { config.relay_wait };
    let disconnected = config.lost_after / 2;
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_credentials(ufrag.to_owned(), password.to_owned())
        .with_ice_connection_attempts(Some(config.check_interval), Some(checks))
        .with_ice_timeouts(Some(disconnected), Some(config.lost_after - disconnected), Some(config.keepalive))
        .with_host_acceptance_min_wait(at_once)
        .with_srflx_acceptance_min_wait(at_once)
        .with_prflx_acceptance_min_wait(at_once)
        .with_relay_acceptance_min_wait(Some(relay_wait))
        // what is held back is older than the acknowledgements that pass it
        .with_dtls_replay_protection_window(MAX_HELD * 2)
        .build();
    RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::default().with_certificates(vec![certificate.rtc]).build())
        .with_setting_engine(settings)
        .build(now)
}
