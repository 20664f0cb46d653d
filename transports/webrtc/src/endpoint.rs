//! A bound transport.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{
    BindContext, CloseCode, Connection, Endpoint, Incoming, PeerId, SignalAddress, TransportError, TransportErrorKind,
};
use tokio::sync::{Notify, watch};

use crate::candidate::Candidates;
use crate::config::WebRtc;
use crate::connection::WebRtcConnection;
use crate::offers::DialRefusal;
use crate::peer::{ConnId, End, Peer, Phase};
use crate::shared::Shared;
use crate::signal_body::{Body, Reason};
use crate::signals::{self, Outbox};
use crate::socket::Sockets;
use crate::stats::Stats;
use crate::sync::lock;
use crate::task::Tasks;
use crate::{driver, gather, random};

/// A bound [`WebRtc`] transport. Dropping it aborts its tasks; [`close`](Endpoint::close) is the
/// polite way.
#[derive(Debug)]
pub struct WebRtcEndpoint {
    shared: Arc<Shared>,
}

impl WebRtc {
    /// Opens an endpoint: what [`Transport::bind`](byway_api::Transport::bind) does, with the
    /// concrete type, whose [`stats`](WebRtcEndpoint::stats) can be read.
    ///
    /// # Errors
    /// `Config` if a socket cannot be bound, there is no signal port, or `relay_only` has no TURN
    /// server.
    pub async fn open(&self, cx: BindContext) -> Result<WebRtcEndpoint, TransportError> {
        let wrong = |detail: &str| crate::error(TransportErrorKind::Config, detail);
        let config = self.config.clone();
        let port = cx.signals.ok_or_else(|| wrong("a signal port is needed"))?;
        if config.relay_only && config.turn.is_none() {
            return Err(wrong("relay_only needs a TURN server"));
        }
        let wake = Arc::new(Notify::new());
        let sockets = Sockets::bind(&config.bind, config.socket_buffer, &wake)
            .map_err(|e| wrong("a UDP socket could not be bound").with_source(e))?;
        let sockets = Arc::new(sockets);
        let mut candidates = Candidates::default();
        candidates.set_hosts(gather::hosts(&sockets, config.loopback));
        let tasks = Arc::new(Tasks::default());
        let outbox = Outbox::new(port, Arc::clone(&tasks), config.connect_timeout);
        let gather_timeout = config.gather_timeout;
        let has_servers = config.turn.is_some() || !config.stun.is_empty();
        let shared = Shared::new(cx.me, config, outbox, Arc::clone(&sockets), candidates, Arc::clone(&tasks), wake);
        let shared = Arc::new(shared);
        let endpoint = WebRtcEndpoint { shared: Arc::clone(&shared) };
        tasks.spawn(driver::run(Arc::clone(&shared), Arc::clone(&sockets)));
        tasks.spawn(signals::run(Arc::clone(&shared)));
        if has_servers {
            let (done, mut gathered) = watch::channel(false);
            tasks.spawn(gather::run(shared, sockets, done));
            // what comes later is sent as late candidates
            let _ = tokio::time::timeout(gather_timeout, gathered.wait_for(|done| *done)).await;
        }
        Ok(endpoint)
    }
}

impl WebRtcEndpoint {
    /// What the endpoint holds now.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let phases: Vec<bool> = shared.peers().iter().map(|peer| matches!(*peer.phase.borrow(), Phase::Open)).collect();
        let (ufrags, transactions, remotes) = lock(&shared.tables).demux.sizes();
        let (sessions, refused_offers) = {
            let offers = lock(&shared.offers);
            (offers.len(), offers.refused())
        };
        let transactions = transactions + lock(&shared.questions).len();
        Stats {
            sockets: lock(&shared.sockets).as_ref().map_or(0, |sockets| sockets.iter().count()),
            tasks: shared.tasks.count(),
            connections: phases.iter().filter(|open| **open).count(),
            attempts: phases.iter().filter(|open| !**open).count(),
            sessions,
            ufrags,
            transactions,
            remotes,
            timers: lock(&shared.timers).len(),
            accept_queue: shared.accepted.len(),
            strays: shared.strays.load(Ordering::Relaxed),
            refused_offers,
        }
    }

    /// The ICE candidate attributes (RFC 8839) that this endpoint offers now.
    pub fn candidates(&self) -> Vec<String> {
        let list = lock(&self.shared.candidates).list(self.shared.config.relay_only);
        list.iter().map(crate::candidate::Candidate::attribute).collect()
    }

    fn closed() -> TransportError {
        crate::error(TransportErrorKind::Closed, "the endpoint is closed")
    }
}

/// An attempt of ours. Dropping it before it succeeded ends the attempt on both sides.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    id: ConnId,
    to: PeerId,
    at: &'a SignalAddress,
    session: Bytes,
    peer: Option<Arc<Peer>>,
    /// The peer may know of the attempt.
    announced: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        lock(&self.shared.offers).remove(self.id);
        let Some(peer) = &self.peer else { return };
        let open = matches!(*peer.phase.borrow(), Phase::Open);
        if open {
            peer.begin_close(CloseCode::NORMAL);
        } else {
            peer.end(End::closed(CloseCode::NORMAL));
        }
        if self.announced && !open {
            let reason = if self.shared.is_closed() { Reason::Closing } else { Reason::Cancelled };
            let bye = Body::Bye(reason).into_signal(self.session.clone());
            self.shared.outbox.send(self.to, self.at.clone(), bye);
        }
    }
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<Arc<dyn Connection>, TransportError> {
        let (peer, sdp) = Peer::offer(self.shared, self.id, self.to, self.session.clone())?;
        self.peer = Some(Arc::clone(&peer));
        let mut phase = peer.phase.subscribe();
        {
            let mut signalling = lock(&peer.signalling);
            signalling.at = Some(self.at.clone());
            signalling.offer = Some(sdp.clone());
        }
        self.announced = true;
        let signal = Body::Offer(sdp).into_signal(self.session.clone());
        let sending = self.shared.outbox.port.send(self.to, self.at, signal);
        tokio::pin!(sending);
        let mut sent = false;
        loop {
            tokio::select! { biased;
                changed = phase.wait_for(|phase| !matches!(phase, Phase::Connecting)) => {
                    let phase = changed.map_or_else(|_| Phase::Ended(End::closed(CloseCode::LOST)), |it| it.clone());
                    return match phase {
                        Phase::Ended(end) if !end.was_open => {
                            // the peer knows, except where we gave up ourselves
                            self.announced = end.kind == TransportErrorKind::Timeout
                                || end.kind == TransportErrorKind::Handshake;
                            Err(end.error())
                        }
                        // also if it has ended since: its code and its frames can be read
                        _ => {
                            self.peer = None;
                            Ok(Arc::new(WebRtcConnection::new(peer)))
                        }
                    };
                }
                result = &mut sending, if !sent => {
                    if let Err(e) = result {
                        self.announced = false;
                        return Err(crate::error(TransportErrorKind::Signaling, "the OFFER could not be sent")
                            .with_source(e));
                    }
                    sent = true;
                    signals::announced(&peer);
                }
            }
        }
    }
}

#[async_trait]
impl Endpoint for WebRtcEndpoint {
    /// Empty: it is reached by signalling.
    fn addresses(&self) -> Vec<SignalAddress> {
        Vec::new()
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        if self.shared.is_closed() {
            return Err(Self::closed());
        }
        if !to.is_signalling() && to.scheme() != crate::NAME {
            return Err(crate::error(TransportErrorKind::BadAddress, to.as_str()));
        }
        if peer == self.shared.me {
            return Err(crate::error(TransportErrorKind::BadAddress, "this device itself"));
        }
        let session = Bytes::copy_from_slice(&random::bytes::<16>()?);
        let id = self.shared.next_id();
        lock(&self.shared.offers).dial((peer, session.clone()), id).map_err(|refusal| match refusal {
            DialRefusal::Superseded => crate::error(TransportErrorKind::Superseded, ""),
            DialRefusal::Dialling => crate::error(TransportErrorKind::Busy, "this device is being dialled already"),
        })?;
        let mut attempt = Attempt { shared: &self.shared, id, to: peer, at: to, session, peer: None, announced: false };
        attempt.run().await
    }

    async fn next(&self) -> Option<Incoming> {
        self.shared.accepted.next().await
    }

    /// Reads the interfaces again, asks the servers again, and ends the connections whose local
    /// address is gone. [`Incoming::AddressesChanged`] follows if the machine's addresses changed.
    async fn network_changed(&self) {
        let shared = &self.shared;
        if gather::refresh_hosts(shared) {
            shared.accepted.addresses_changed();
            gather::late_hosts(shared);
        }
        for peer in shared.peers() {
            let gone = peer.local_ip().is_some_and(|ip| !lock(&shared.candidates).has_host(ip));
            if gone {
                peer.end(End::closed(CloseCode::LOST).silently());
            }
        }
        shared.regather.notify_one();
    }

    async fn close(&self) {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        // dropping a connection takes its lock, so it happens outside of the queue's
        drop(shared.accepted.close());
        let peers = shared.peers();
        for peer in &peers {
            if matches!(*peer.phase.borrow(), Phase::Connecting) {
                peer.end(End::failed(TransportErrorKind::Closed, "the endpoint is closed"));
            } else {
                peer.begin_close(CloseCode::LEAVING);
            }
        }
        for peer in &peers {
            let mut phase = peer.phase.subscribe();
            let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_)));
            // the driver ends them when the time to linger is over
            let _ = tokio::time::timeout(shared.config.linger * 2, ended).await;
        }
        shared.outbox.drain(shared.config.linger).await;
        shared.tasks.shutdown().await;
        for peer in peers {
            peer.end(End::closed(CloseCode::LEAVING).silently());
        }
        let sockets = lock(&shared.sockets).take();
        if let (Some(mut turn), Some(sockets)) = (lock(&shared.turn).take(), sockets) {
            turn.release(std::time::Instant::now());
            shared.flush_turn(&mut turn, &sockets);
        }
        lock(&shared.dirty).clear();
        lock(&shared.questions).clear();
    }
}

impl Drop for WebRtcEndpoint {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.tasks.abort();
        drop(self.shared.accepted.close());
        for peer in self.shared.peers() {
            peer.end(End::closed(CloseCode::LOST));
        }
    }
}
