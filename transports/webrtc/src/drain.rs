//! Runs a connection's stack: after every input until nothing more comes out of it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_api::{CloseCode, Connection, PathInfo, PathKind, TransportErrorKind};
use rtc::data_channel::RTCDataChannelId;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{RTCIceCandidatePair, RTCIceCandidateType};
use rtc::sansio::Protocol as _;

use crate::certificate;
use crate::connection::WebRtcConnection;
use crate::demux::Remote;
use crate::held::{Datagram, MAX_UNDRAINED};
use crate::peer::{ConnId, Core, End, Live, Peer, Phase, Role};
use crate::shared::Shared;
use crate::stun::{self, Class};
use crate::sync::lock;

/// Charged for every received frame on top of its length.
pub(crate) const FRAME_OVERHEAD: usize = 64;
/// A stack whose timer is overdue again at once is not called more often than this.
const TIMER_GAP: Duration = Duration::from_millis(1);
/// Open connections to one device; a further one closes the oldest.
const MAX_PER_DEVICE: usize = 2;
/// How the transport's own message begins.
const CLOSE: &str = "close ";

/// What has to be done once the core's lock is released.
#[derive(Debug, Default)]
pub(crate) struct After {
    opened: bool,
    /// A connection whose remote address this one took over.
    replaced: Option<ConnId>,
}

impl Peer {
    /// Gives the stack an input and handles everything that comes of it. `None` if the connection
    /// has ended.
    pub(crate) fn with<T>(self: &Arc<Self>, input: impl FnOnce(&mut Live, Instant) -> T) -> Option<T> {
        let shared = self.shared.upgrade()?;
        let now = Instant::now();
        let mut core = lock(&self.core);
        let result = input(core.live.as_mut()?, now);
        let after = self.settle(&shared, &mut core, now);
        drop(core);
        self.finish_up(&shared, &after);
        Some(result)
    }

    /// A datagram for this connection. True if it still has to be drained.
    pub(crate) fn input(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        let class = stun::classify(datagram);
        if matches!(class, Class::Request { .. }) && !stun::is_authentic(datagram, &self.password) {
            return false;
        }
        let mut core = lock(&self.core);
        let Core { live: Some(live), stalled, .. } = &mut *core else { return false };
        if !live.described {
            return false;
        }
        let datagram = Datagram { local, remote, bytes: BytesMut::from(datagram) };
        if class == Class::Other {
            live.last_traffic = now;
            if *stalled && !datagram.is_acknowledgement() {
                live.held.push(datagram);
                return false;
            }
        }
        let undrained = live.feed(datagram, now);
        if live.open && undrained < MAX_UNDRAINED {
            return true;
        }
        // until the channel is open the stack drops what it is not yet ready for
        let after = self.settle(shared, &mut core, now);
        drop(core);
        self.finish_up(shared, &after);
        false
    }

    /// The inbox has room again: gives the stack what was held back.
    pub(crate) fn resume(self: &Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let now = Instant::now();
        let mut core = lock(&self.core);
        let mut after = self.settle(&shared, &mut core, now);
        while !core.stalled
            && let Some(live) = core.live.as_mut()
            && let Some(datagram) = live.held.pop()
        {
            let undrained = live.feed(datagram, now);
            if undrained >= MAX_UNDRAINED || live.held.is_empty() {
                let more = self.settle(&shared, &mut core, now);
                after.replaced = more.replaced.or(after.replaced);
            }
        }
        drop(core);
        self.finish_up(&shared, &after);
    }

    /// Drains the stack.
    pub(crate) fn drain(self: &Arc<Self>, shared: &Arc<Shared>, now: Instant) {
        let mut core = lock(&self.core);
        let after = self.settle(shared, &mut core, now);
        drop(core);
        self.finish_up(shared, &after);
    }

    /// Its timer fired.
    pub(crate) fn tick(self: &Arc<Self>, shared: &Arc<Shared>, now: Instant) {
        let mut core = lock(&self.core);
        if let Some(live) = core.live.as_mut() {
            live.armed = None;
            if live.pc.poll_timeout().is_some_and(|at| at <= now) {
                live.timeout(now);
            }
        }
        let after = self.settle(shared, &mut core, now);
        drop(core);
        self.finish_up(shared, &after);
    }

    /// Ends the connection now. Nothing happens if it has ended.
    pub(crate) fn end(self: &Arc<Self>, end: End) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut core = lock(&self.core);
        self.finish(&shared, &mut core, end, Instant::now());
    }

    /// Tells the far side that the connection ends with `code`, and ends it when that has arrived,
    /// or when the time to linger is over. At once if there is nothing to tell, or nobody.
    pub(crate) fn begin_close(self: &Arc<Self>, code: CloseCode) {
        let Some(shared) = self.shared.upgrade() else { return };
        let now = Instant::now();
        let mut core = lock(&self.core);
        core.inbox.clear();
        core.inbox_bytes = 0;
        let Some(live) = core.live.as_mut() else { return };
        if live.closing.is_some() {
            return;
        }
        let told = live.open && live.send_close(code, now);
        let waits = told && !matches!(code, CloseCode::LOST | CloseCode::TIMEOUT);
        live.closing = Some((code, now + if waits { shared.config.linger } else { Duration::ZERO }));
        let after = self.settle(&shared, &mut core, now);
        drop(core);
        self.readable.notify_one();
        self.writable.notify_one();
        self.finish_up(&shared, &after);
    }

    /// Our address of the chosen pair, unless it is the TURN server's.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        let pair = lock(&self.core).live.as_ref()?.pair()?;
        let local = pair.local();
        match local.typ {
            RTCIceCandidateType::Host => local.address.parse().ok(),
            RTCIceCandidateType::Relay => None,
            _ => local.related_address.parse().ok(),
        }
    }

    /// Drains the stack to a fixed point, sends, and draws the conclusions.
    fn settle(self: &Arc<Self>, shared: &Arc<Shared>, core: &mut Core, now: Instant) -> After {
        let mut after = After::default();
        let Some(mut live) = core.live.take() else { return after };
        live.dirty = false;
        let mut inbox = Inbox { frames: &mut core.inbox, bytes: &mut core.inbox_bytes, woke: false };
        core.stalled = live.run(&mut inbox, shared.config.receive_window, now);
        live.undrained = 0;
        if inbox.woke {
            self.readable.notify_one();
        }
        if live.verdict.is_none() && live.channel.is_some() && !live.open && live.is_ready() {
            self.open(core, &mut live, &mut after);
        }
        after.replaced = self.flush(shared, &mut live, now);
        if live.writer_waits {
            let outstanding = live.outstanding();
            live.window.acknowledged(outstanding);
            live.writer_waits = false;
            self.writable.notify_one();
        }
        let end = live.conclusion(now);
        if end.is_none() {
            let at = live.wake_at(now, shared.config.keepalive, shared.config.quiet_after);
            if live.armed.is_none_or(|armed| at < armed) {
                shared.arm(self.id, live.armed, at);
                live.armed = Some(at);
            }
        }
        core.live = Some(live);
        if let Some(end) = end {
            self.finish(shared, core, end, now);
            after.opened = false;
        }
        after
    }

    /// The channel is open.
    fn open(&self, core: &mut Core, live: &mut Live, after: &mut After) {
        let Some(remote) = live.remote_certificate() else {
            live.verdict = Some(End::failed(TransportErrorKind::Handshake, "the DTLS layer shows no certificate"));
            return;
        };
        let (offerer, answerer) = match self.role {
            Role::Offerer => (live.certificate, remote),
            Role::Answerer => (remote, live.certificate),
        };
        core.binding = [offerer, answerer].concat();
        if let Some(pair) = live.pair() {
            let relayed = [pair.local(), pair.remote()].iter().any(|it| it.typ == RTCIceCandidateType::Relay);
            let text =
                |ip: &str, port| ip.parse().map_or_else(|_| ip.to_owned(), |ip| SocketAddr::new(ip, port).to_string());
            let rtt = core.path.rtt;
            core.path = PathInfo::new(
                if relayed { PathKind::Turn } else { PathKind::Direct },
                text(&pair.local().address, pair.local().port),
                text(&pair.remote().address, pair.remote().port),
            );
            core.path.rtt = rtt;
        }
        live.open = true;
        after.opened = true;
        self.phase.send_replace(Phase::Open);
    }

    /// Ends the connection: says so to the far side, and removes every trace of it.
    fn finish(self: &Arc<Self>, shared: &Arc<Shared>, core: &mut Core, mut end: End, now: Instant) {
        let Some(mut live) = core.live.take() else { return };
        end.was_open = live.open;
        let closing = live.closing.is_some();
        if !end.silent {
            if let Err(e) = live.pc.close() {
                tracing::trace!(error = %e, "closing the stack");
            }
            while let Some(write) = live.pc.poll_write() {
                live.out.push(write);
            }
            self.flush(shared, &mut live, now);
        }
        // what arrived before the end is still delivered, unless we ended it ourselves
        if !closing {
            let mut inbox = Inbox { frames: &mut core.inbox, bytes: &mut core.inbox_bytes, woke: false };
            live.read(&mut inbox, usize::MAX);
        }
        tracing::debug!(device = ?self.device, code = ?end.code, "connection ended");
        shared.forget(self.id, &live.ufrag, live.armed);
        core.code = live.heard.filter(|_| !closing).unwrap_or(end.code);
        self.phase.send_replace(Phase::Ended(end));
        self.readable.notify_one();
        self.writable.notify_one();
    }

    /// The part of [`settle`](Self::settle) that takes other locks.
    fn finish_up(self: &Arc<Self>, shared: &Arc<Shared>, after: &After) {
        if let Some(old) = after.replaced.and_then(|id| shared.peer(id)) {
            old.end(End::closed(CloseCode::SUPERSEDED).silently());
        }
        if !after.opened {
            return;
        }
        lock(&shared.offers).remove(self.id);
        self.limit_connections(shared);
        if self.role == Role::Answerer {
            let connection: Arc<dyn Connection> = Arc::new(WebRtcConnection::new(Arc::clone(self)));
            if let Err(refused) = shared.accepted.push(connection) {
                self.begin_close(CloseCode::FULL);
                drop(refused);
            }
        }
    }

    fn limit_connections(&self, shared: &Arc<Shared>) {
        let mut same: Vec<_> = shared.peers().into_iter().filter(|peer| peer.device == self.device).collect();
        same.retain(|peer| matches!(*peer.phase.borrow(), Phase::Open));
        same.sort_by_key(|peer| peer.id);
        for surplus in same.iter().take(same.len().saturating_sub(MAX_PER_DEVICE)) {
            surplus.begin_close(CloseCode::SUPERSEDED);
        }
    }
}

/// Where received frames go.
pub(crate) struct Inbox<'a> {
    frames: &'a mut VecDeque<Bytes>,
    bytes: &'a mut usize,
    woke: bool,
}

impl Live {
    /// Gives the stack a datagram. Returns how many messages may have come since it was drained.
    fn feed(&mut self, datagram: Datagram, now: Instant) -> usize {
        self.undrained += datagram.most_messages();
        if let Err(e) = self.pc.handle_read(datagram.tagged(now)) {
            tracing::trace!(error = %e, "the stack refuses a datagram");
        }
        self.undrained
    }

    /// Polls the stack until nothing comes. True if frames were left in it because the inbox is full.
    fn run(&mut self, inbox: &mut Inbox<'_>, limit: usize, now: Instant) -> bool {
        loop {
            let mut any = false;
            while let Some(write) = self.pc.poll_write() {
                self.out.push(write);
                any = true;
            }
            while let Some(event) = self.pc.poll_event() {
                self.event(&event);
                any = true;
            }
            any |= self.read(inbox, limit);
            if any {
                continue;
            }
            let overdue = self.pc.poll_timeout().is_some_and(|at| at <= now);
            let rested = self.last_timeout.is_none_or(|last| now.saturating_duration_since(last) >= TIMER_GAP);
            if !(overdue && rested) {
                return *inbox.bytes >= limit;
            }
            self.timeout(now);
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.last_timeout = Some(now);
        if let Err(e) = self.pc.handle_timeout(now) {
            tracing::debug!(error = %e, "the stack's timer failed");
            self.verdict.get_or_insert(End::failed(TransportErrorKind::Handshake, "the WebRTC stack failed"));
        }
    }

    fn event(&mut self, event: &RTCPeerConnectionEvent) {
        match event {
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
            ) => {
                let why = if self.chosen.is_some() {
                    End::failed(TransportErrorKind::Handshake, "the DTLS handshake failed")
                } else {
                    End::failed(TransportErrorKind::Timeout, "no address pair works")
                };
                self.verdict.get_or_insert(why);
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => self.channel_opened(*id),
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(id)) if self.channel == Some(*id) => {
                self.verdict.get_or_insert(End::closed(CloseCode::LOST));
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnBufferedAmountLow(_)) => {
                self.window.drained();
            }
            _ => {}
        }
    }

    /// The one channel is ours; a peer that opens another breaks the protocol.
    fn channel_opened(&mut self, id: RTCDataChannelId) {
        let known = self.channel;
        let ours = self.pc.data_channel(id).is_some_and(|channel| {
            known.map_or_else(
                || {
                    channel.label() == crate::CHANNEL_LABEL
                        && channel.protocol() == crate::CHANNEL_PROTOCOL
                        && channel.ordered()
                        && channel.max_packet_life_time().is_none()
                        && channel.max_retransmits().is_none()
                },
                |known| known == id,
            )
        });
        if ours {
            self.channel = Some(id);
        } else {
            let mut end = End::failed(TransportErrorKind::Handshake, "the peer opened a channel that is not ours");
            end.code = CloseCode::PROTOCOL;
            self.verdict.get_or_insert(end);
        }
    }

    /// Moves frames to the inbox until it is full. True if any came.
    fn read(&mut self, inbox: &mut Inbox<'_>, limit: usize) -> bool {
        let mut any = false;
        while *inbox.bytes < limit
            && let Some(tagged) = self.pc.poll_read()
        {
            any = true;
            let RTCMessage::DataChannelMessage(id, message) = tagged.message else { continue };
            if self.heard.is_some() || self.channel.is_some_and(|ours| ours != id) {
                continue;
            }
            if message.is_string {
                self.heard = parse_close(&message.data);
                continue;
            }
            if self.closing.is_some() {
                continue;
            }
            *inbox.bytes += message.data.len() + FRAME_OVERHEAD;
            inbox.frames.push_back(message.data.freeze());
            inbox.woke = true;
        }
        any
    }

    /// True once frames can be sent.
    fn is_ready(&mut self) -> bool {
        use rtc::data_channel::RTCDataChannelState::Open;
        self.channel.and_then(|id| self.pc.data_channel(id)).is_some_and(|channel| channel.ready_state() == Open)
    }

    /// SHA-256 of the certificate that the peer showed in the DTLS handshake.
    fn remote_certificate(&self) -> Option<[u8; 32]> {
        certificate::digest(self.pc.sctp()?.transport().get_remote_certificates().first()?)
    }

    /// The address pair that ICE chose.
    pub(crate) fn pair(&self) -> Option<RTCIceCandidatePair> {
        self.pc.sctp()?.transport().ice_transport().get_selected_candidate_pair()
    }

    /// Where the chosen pair ends.
    pub(crate) fn pair_remote(&self) -> Option<Remote> {
        let pair = self.pair()?;
        let address = SocketAddr::new(pair.remote().address.parse().ok()?, pair.remote().port);
        Some(Remote { address, relayed: pair.local().typ == RTCIceCandidateType::Relay })
    }

    /// Bytes that the peer has not acknowledged.
    pub(crate) fn outstanding(&mut self) -> usize {
        self.channel.and_then(|id| self.pc.data_channel(id)).map_or(0, |channel| channel.outstanding_bytes())
    }

    fn send_close(&mut self, code: CloseCode, now: Instant) -> bool {
        let Some(mut channel) = self.channel.and_then(|id| self.pc.data_channel(id)) else { return false };
        channel.send_text(now, close_message(code)).is_ok()
    }

    /// Whether, and how, the connection is to end now.
    fn conclusion(&self, now: Instant) -> Option<End> {
        if let Some((code, until)) = self.closing {
            // the far side closes as soon as it has read everything
            let over = self.verdict.is_some() || self.heard.is_some() || now >= until;
            return over.then(|| End::closed(code));
        }
        if let Some(code) = self.heard {
            return Some(End::closed(code));
        }
        if self.verdict.is_none() && !self.open && now >= self.connect_by {
            let detail = if self.described { "no address pair worked in time" } else { "no ANSWER came in time" };
            return Some(End::failed(TransportErrorKind::Timeout, detail));
        }
        self.verdict.clone()
    }

    /// When the connection wants to be looked at again.
    fn wake_at(&mut self, now: Instant, keepalive: Duration, quiet_after: Duration) -> Instant {
        let stack = self.pc.poll_timeout().unwrap_or(now + keepalive).max(now + TIMER_GAP);
        if let Some((_, until)) = self.closing {
            return stack.min(until);
        }
        if !self.open {
            return stack.min(self.connect_by);
        }
        let quiet = now.saturating_duration_since(self.last_traffic) >= quiet_after;
        if quiet && self.outstanding() == 0 {
            // the stack asks to be called five times a second, and has nothing to do until the
            // next consent check
            return stack.max(self.last_check + keepalive);
        }
        stack
    }
}

/// The message that ends a connection with `code`.
pub(crate) fn close_message(code: CloseCode) -> String {
    format!("{CLOSE}{}", code.0)
}

/// The code of such a message.
pub(crate) fn parse_close(message: &[u8]) -> Option<CloseCode> {
    std::str::from_utf8(message).ok()?.strip_prefix(CLOSE)?.parse().ok().map(CloseCode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_read_and_nothing_else_is() {
        assert_eq!(parse_close(b"close 3"), Some(CloseCode::LEAVING));
        for other in [&b"close"[..], b"close ", b"close -1", b"close 70000", b"close 1 2", b"hello", &[0xff]] {
            assert_eq!(parse_close(other), None);
        }
    }
}
