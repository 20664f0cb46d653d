//! One peer connection of the `webrtc` crate, and what it tells.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use byway_api::{PathInfo, PathKind, TransportError, TransportErrorKind};
use rtc::ice::mdns::MulticastDnsMode;
use tokio::sync::{Notify, watch};
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceCandidateType,
    RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    SettingEngineBuilder,
};

use super::hook::HookedRuntime;
use crate::certificate::{self, Certificate};
use crate::config::Config;
use crate::host;
use crate::sdp::MAX_CANDIDATES;
use crate::sync::lock;

/// What the crate's callbacks leave behind. It holds no connection, so there is no cycle, except for
/// an incoming channel until it is taken.
pub(super) struct Events {
    state: watch::Sender<RTCPeerConnectionState>,
    pub(super) gathered: watch::Sender<bool>,
    candidates: Mutex<VecDeque<String>>,
    channel: Mutex<Option<Arc<dyn DataChannel>>>,
    changed: Notify,
}

impl Events {
    /// The channel that the offerer announced.
    pub(super) async fn channel(&self) -> Arc<dyn DataChannel> {
        loop {
            let changed = self.changed.notified();
            if let Some(channel) = lock(&self.channel).take() {
                return channel;
            }
            changed.await;
        }
    }

    /// The next candidate that was learned.
    pub(super) async fn candidate(&self) -> String {
        loop {
            let changed = self.changed.notified();
            if let Some(candidate) = lock(&self.candidates).pop_front() {
                return candidate;
            }
            changed.await;
        }
    }

    /// Candidates learned so far are in the description and need no signal.
    pub(super) fn forget_candidates(&self) {
        lock(&self.candidates).clear();
    }

    /// Waits until the peer connection has failed or was closed.
    pub(super) async fn over(&self) {
        let mut state = self.state.subscribe();
        let over = |state: &RTCPeerConnectionState| {
            matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
        };
        // an error means that the state can no longer change
        let _ = state.wait_for(over).await;
    }
}

struct Handler(Arc<Events>);

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json() {
            let mut candidates = lock(&self.0.candidates);
            if !init.candidate.is_empty() && candidates.len() < MAX_CANDIDATES {
                candidates.push_back(init.candidate);
            }
        }
        self.0.changed.notify_waiters();
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.gathered.send_replace(true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.0.state.send_replace(state);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // a second channel is not ours; it is dropped
        lock(&self.0.channel).get_or_insert(channel);
        self.0.changed.notify_waiters();
    }
}

/// The peer connection. [`close`](Self::close) has to be called: dropping it would leave its task
/// running.
pub(super) struct Link {
    pub(super) pc: Arc<dyn PeerConnection>,
    pub(super) events: Arc<Events>,
    certificate: [u8; 32],
    closed: AtomicBool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) async fn build(config: &Config, hook: bool) -> Result<Self, TransportError> {
        let certificate = Certificate::generate()?;
        let sha256 = certificate.sha256;
        let events = Arc::new(Events {
            state: watch::Sender::new(RTCPeerConnectionState::New),
            gathered: watch::Sender::new(false),
            candidates: Mutex::default(),
            channel: Mutex::default(),
            changed: Notify::new(),
        });
        let checks = config.connect_timeout.as_millis() / config.check_interval.as_millis().max(1) * 2;
        let at_once = Some(Duration::ZERO);
        let disconnected = config.lost_after / 2;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_connection_attempts(Some(config.check_interval), Some(u16::try_from(checks).unwrap_or(u16::MAX)))
            .with_ice_timeouts(Some(disconnected), Some(config.lost_after - disconnected), Some(config.keepalive))
            .with_host_acceptance_min_wait(at_once)
            .with_srflx_acceptance_min_wait(at_once)
            .with_prflx_acceptance_min_wait(at_once)
            .with_relay_acceptance_min_wait(if config.relay_only { at_once } else { Some(config.relay_wait) })
            .build();
        let policy = if config.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
        let configuration = RTCConfigurationBuilder::default()
            .with_certificates(vec![certificate.rtc])
            .with_ice_servers(servers(config))
            .with_ice_transport_policy(policy)
            .build();
        let mut builder = PeerConnectionBuilder::<SocketAddr>::new()
            .with_configuration(configuration)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Handler(Arc::clone(&events))))
            .with_data_channel_send_buffer_limit(config.send_window)
            .with_udp_addrs(addresses(config));
        if hook {
            builder = builder.with_runtime(HookedRuntime::new(config.socket_buffer));
        }
        let pc = Box::pin(builder.build()).await.map_err(|e| {
            crate::error(TransportErrorKind::LocalFault, "the peer connection could not be made").with_source(e)
        })?;
        Ok(Self { pc: Arc::new(pc), events, certificate: sha256, closed: AtomicBool::new(false) })
    }

    /// Ends the peer connection and its task. Idempotent.
    pub(super) async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(e) = self.pc.close().await {
            tracing::debug!(error = %e, "closing a peer connection");
        }
        drop(lock(&self.events.channel).take());
        self.events.state.send_replace(RTCPeerConnectionState::Closed);
    }

    /// Our certificate's digest and the one that the peer showed.
    pub(super) async fn certificates(&self) -> Option<([u8; 32], [u8; 32])> {
        let chain = self.pc.sctp().await?.transport().get_remote_certificates().await.ok()?;
        Some((self.certificate, certificate::digest(chain.first()?)?))
    }

    pub(super) async fn path(&self) -> Option<PathInfo> {
        let pair = self.pc.sctp().await?.transport().ice_transport().get_selected_candidate_pair().await.ok()??;
        let (local, remote) = (pair.local(), pair.remote());
        let relayed = [local, remote].iter().any(|it| it.typ == RTCIceCandidateType::Relay);
        let kind = if relayed { PathKind::Turn } else { PathKind::Direct };
        let text =
            |ip: &str, port| ip.parse().map_or_else(|_| ip.to_owned(), |ip| SocketAddr::new(ip, port).to_string());
        Some(PathInfo::new(kind, text(&local.address, local.port), text(&remote.address, remote.port)))
    }
}

/// The addresses to bind: the crate skips loopback for a wildcard, so the wildcard is spelled out.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    if !config.bind.is_empty() {
        // every connection has sockets of its own, so a port can be used only once
        return config.bind.iter().map(|bind| SocketAddr::new(bind.ip(), 0)).collect();
    }
    let interfaces = host::interfaces();
    let loopback = host::use_loopback(config.loopback, &interfaces);
    let usable = interfaces.into_iter().filter(|ip| loopback || !ip.is_loopback());
    usable.map(|ip| SocketAddr::new(ip, 0)).collect()
}

fn servers(config: &Config) -> Vec<RTCIceServer> {
    let url = |scheme: &str, server: &str| {
        if server.starts_with(scheme) { server.to_owned() } else { format!("{scheme}{server}") }
    };
    let stun = config.stun.iter().map(|server| RTCIceServer { urls: vec![url("stun:", server)], ..Default::default() });
    let turn = config.turn.iter().map(|turn| RTCIceServer {
        urls: vec![format!("{}?transport=udp", url("turn:", &turn.server))],
        username: turn.user.clone(),
        credential: turn.password.clone(),
    });
    stun.chain(turn).collect()
}
