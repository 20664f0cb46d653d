//! From the first signal to an open channel.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use byway_api::{PeerId, SignalAddress, TransportError, TransportErrorKind};
use rtc::data_channel::RTCDataChannelInit;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{RTCIceCandidateInit, RTCSessionDescription};

use super::connection::{Channel, ShellConnection};
use super::endpoint::Shared;
use super::link::Link;
use crate::peer::{ConnId, Role};
use crate::sdp::Filter;
use crate::signal_body::Body;
use crate::sync::lock;

/// What the peer says about an attempt.
#[derive(Debug)]
pub(super) enum Mail {
    Answer(String),
    Candidate(String),
    End(TransportErrorKind, &'static str),
}

/// An attempt under way.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnId,
    pub(super) device: PeerId,
    pub(super) at: SignalAddress,
    pub(super) session: Bytes,
    pub(super) mail: mpsc::Receiver<Mail>,
    pub(super) role: Role,
    filter: Filter,
    described: bool,
    early: Vec<String>,
}

/// A link that is closed unless it became a connection.
struct Closing {
    shared: Arc<Shared>,
    link: Option<Link>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.shared.tasks.spawn(async move { link.close().await });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        lock(&self.shared.offers).remove(self.id);
        lock(&self.shared.attempts).remove(&self.id);
    }
}

fn unusable(e: impl std::error::Error + Send + Sync + 'static) -> TransportError {
    crate::error(TransportErrorKind::Handshake, "a session description cannot be used").with_source(e)
}

impl Attempt {
    pub(super) fn new(
        shared: &Arc<Shared>,
        id: ConnId,
        (device, session): (PeerId, Bytes),
        at: SignalAddress,
        role: Role,
        mail: mpsc::Receiver<Mail>,
    ) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, id, device, at, session, mail, role, filter: Filter::new(true), described: false, early: vec![] }
    }

    /// Runs the attempt. `offer` is the peer's, if it made one; `announced` learns that the peer may
    /// know of ours.
    pub(super) async fn run(
        &mut self,
        offer: Option<&str>,
        announced: &mut bool,
    ) -> Result<ShellConnection, TransportError> {
        let deadline = Instant::now() + self.shared.config.connect_timeout;
        let timeout = || crate::error(TransportErrorKind::Timeout, "no open channel in time");
        let shared = Arc::clone(&self.shared);
        let link = Link::build(&shared.config, shared.hook).await?;
        let mut closing = Closing { shared: Arc::clone(&shared), link: Some(link) };
        let channel = {
            let Some(link) = &closing.link else { return Err(timeout()) };
            let connecting = self.connect(link, offer, announced);
            tokio::time::timeout_at(deadline.into(), connecting).await.map_err(|_| timeout())??
        };
        let Some(link) = closing.link.take() else { return Err(timeout()) };
        let Some((ours, theirs)) = link.certificates().await else {
            closing.link = Some(link);
            return Err(crate::error(TransportErrorKind::Handshake, "the DTLS layer shows no certificate"));
        };
        let binding = if self.role == Role::Offerer { [ours, theirs] } else { [theirs, ours] }.concat();
        let path = link.path().await.unwrap_or_else(|| byway_api::PathInfo::new(byway_api::PathKind::Direct, "", ""));
        let inner = Arc::new(Channel::new(link, channel, &shared.config));
        let pumped = Arc::clone(&inner);
        shared.tasks.spawn(async move { pumped.pump().await });
        shared.enter(self.id, &inner);
        Ok(ShellConnection::new(inner, Arc::clone(&shared.tasks), binding, path))
    }

    async fn connect(
        &mut self,
        link: &Link,
        offer: Option<&str>,
        announced: &mut bool,
    ) -> Result<Arc<dyn DataChannel>, TransportError> {
        let mut channel = None;
        let own = match offer {
            None => {
                let init = RTCDataChannelInit {
                    protocol: crate::CHANNEL_PROTOCOL.to_owned(),
                    ..RTCDataChannelInit::default()
                };
                let made = link.pc.create_data_channel(crate::CHANNEL_LABEL, Some(init)).await;
                channel = Some(made.map_err(unusable)?);
                link.pc.create_offer(None).await.map_err(unusable)?
            }
            Some(offer) => {
                let offer = self.filter.apply(offer);
                self.describe(link, RTCSessionDescription::offer(offer).map_err(unusable)?).await?;
                link.pc.create_answer(None).await.map_err(unusable)?
            }
        };
        link.pc.set_local_description(own).await.map_err(unusable)?;
        let mut gathered = link.events.gathered.subscribe();
        // what comes later follows as a signal of its own
        let _ = tokio::time::timeout(self.shared.config.gather_timeout, gathered.wait_for(|gathered| *gathered)).await;
        link.events.forget_candidates();
        let sdp = link.pc.local_description().await.map(|description| description.sdp);
        let sdp = sdp.ok_or_else(|| crate::error(TransportErrorKind::Other, "no local description"))?;
        *announced = true;
        let body = if offer.is_none() {
            if let Some(slot) = lock(&self.shared.attempts).get_mut(&self.id) {
                slot.offer = Some(sdp.clone());
            }
            Body::Offer(sdp)
        } else {
            Body::Answer(sdp)
        };
        let signal = body.into_signal(self.session.clone());
        let shared = Arc::clone(&self.shared);
        let at = self.at.clone();
        let sending = shared.outbox.port.send(self.device, &at, signal);
        tokio::pin!(sending);
        let mut sent = false;
        loop {
            let opening = async {
                match &channel {
                    Some(channel) => (None, channel.poll().await),
                    None => (Some(link.events.channel().await), None),
                }
            };
            tokio::select! { biased;
                mail = self.mail.recv() => self.handle(link, mail).await?,
                result = &mut sending, if !sent => {
                    sent = true;
                    result.map_err(|e| {
                        crate::error(TransportErrorKind::Signaling, "a description could not be sent").with_source(e)
                    })?;
                }
                () = link.events.over() => {
                    return Err(crate::error(TransportErrorKind::Handshake, "the peer connection failed"));
                }
                candidate = link.events.candidate(), if sent => {
                    let signal = Body::Candidate(candidate).into_signal(self.session.clone());
                    shared.outbox.send(self.device, at.clone(), signal);
                }
                opened = opening => match opened {
                    (Some(announced), _) => {
                        if !is_ours(&*announced).await {
                            let why = "the peer opened a channel that is not ours";
                            return Err(crate::error(TransportErrorKind::Handshake, why));
                        }
                        channel = Some(announced);
                    }
                    (None, Some(DataChannelEvent::OnOpen)) => {
                        if let Some(channel) = channel.take() {
                            return Ok(channel);
                        }
                    }
                    (None, Some(DataChannelEvent::OnClose) | None) => {
                        return Err(crate::error(TransportErrorKind::Handshake, "the channel was closed"));
                    }
                    (None, Some(_)) => {}
                },
            }
        }
    }

    async fn handle(&mut self, link: &Link, mail: Option<Mail>) -> Result<(), TransportError> {
        match mail {
            Some(Mail::Answer(sdp)) if !self.described && self.role == Role::Offerer => {
                if let Some(slot) = lock(&self.shared.attempts).get_mut(&self.id) {
                    slot.offer = None;
                }
                let sdp = self.filter.apply(&sdp);
                self.describe(link, RTCSessionDescription::answer(sdp).map_err(unusable)?).await
            }
            Some(Mail::Answer(_)) => Ok(()),
            Some(Mail::Candidate(candidate)) => {
                if self.described {
                    self.add(link, candidate).await;
                } else if self.early.len() < crate::sdp::MAX_CANDIDATES {
                    self.early.push(candidate);
                }
                Ok(())
            }
            Some(Mail::End(kind, detail)) => Err(crate::error(kind, detail)),
            None => Err(crate::error(TransportErrorKind::Closed, "the endpoint is closed")),
        }
    }

    async fn describe(&mut self, link: &Link, description: RTCSessionDescription) -> Result<(), TransportError> {
        link.pc.set_remote_description(description).await.map_err(unusable)?;
        self.described = true;
        for candidate in std::mem::take(&mut self.early) {
            self.add(link, candidate).await;
        }
        Ok(())
    }

    async fn add(&mut self, link: &Link, candidate: String) {
        if self.filter.admit(&candidate) {
            let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
            if let Err(e) = link.pc.add_ice_candidate(init).await {
                tracing::debug!(error = %e, "unusable candidate");
            }
        }
    }
}

async fn is_ours(channel: &dyn DataChannel) -> bool {
    channel.label().await.is_ok_and(|label| label == crate::CHANNEL_LABEL)
        && channel.protocol().await.is_ok_and(|protocol| protocol == crate::CHANNEL_PROTOCOL)
        && channel.ordered().await.unwrap_or(false)
        && channel.max_packet_life_time().await.is_ok_and(|life| life.is_none())
        && channel.max_retransmits().await.is_ok_and(|retransmits| retransmits.is_none())
}
