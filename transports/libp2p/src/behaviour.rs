//! Our part of the swarm: a handler for each connection, and the bounds on those that come in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use byway_api::{PathInfo, PathKind, PeerId};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm,
};

use crate::Config;
use crate::address::{from_libp2p, socket};
use crate::guard::Alive;
use crate::handler::{Ends, Event, Handler, Order};
use crate::preface::nonce;

/// What the endpoint's task hears of a connection.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) event: Event,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Behaviour {
    me: PeerId,
    config: Arc<Config>,
    /// Our dials under way, and whether somebody still waits for them.
    dials: HashMap<ConnectionId, Alive>,
    /// Incoming connections that have not proven a device yet.
    nameless: HashMap<ConnectionId, Option<IpAddr>>,
    /// Connections that have, and whether they are open.
    known: HashMap<ConnectionId, (PeerId, bool)>,
    queue: VecDeque<ToSwarm<News, Order>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(me: PeerId, config: Arc<Config>) -> Self {
        Self {
            me,
            config,
            dials: HashMap::new(),
            nameless: HashMap::new(),
            known: HashMap::new(),
            queue: VecDeque::new(),
            waker: None,
        }
    }

    /// Our dial is about to be made, for as long as `alive`.
    pub(crate) fn expect(&mut self, connection: ConnectionId, alive: Alive) {
        self.dials.insert(connection, alive);
    }

    /// Connections and attempts.
    pub(crate) fn load(&self) -> usize {
        self.dials.len() + self.nameless.len() + self.known.len()
    }

    /// Tells a connection what to do.
    pub(crate) fn order(&mut self, peer: libp2p::PeerId, connection: ConnectionId, order: Order) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: order });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn admit(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        let same = self.known.values().filter(|(other, _)| *other == peer).count();
        let closed = self.known.values().filter(|(_, open)| !open).count();
        if same >= self.config.connections_per_peer || closed >= self.config.pending {
            return Err(full());
        }
        Ok(())
    }

    fn handler(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        (local, remote): (&str, &Multiaddr),
        alive: Option<Alive>,
    ) -> Result<Handler, ConnectionDenied> {
        let peer = from_libp2p(&peer).ok_or_else(full)?;
        let nonce = nonce().map_err(ConnectionDenied::new)?;
        let path = PathInfo::new(PathKind::Direct, local, place(remote));
        let ends = Ends { me: self.me, peer, path, dialer: alive.is_some() };
        self.known.insert(connection, (peer, false));
        Ok(Handler::new(Arc::clone(&self.config), ends, nonce, alive))
    }
}

fn full() -> ConnectionDenied {
    ConnectionDenied::new("no room for another connection")
}

/// `192.0.2.7:4001`, as people and the node's bounds know it.
fn place(address: &Multiaddr) -> String {
    socket(address).map_or_else(|| address.to_string(), |socket| socket.to_string())
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = News;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = socket(remote).map(|socket| socket.ip().to_canonical()).filter(|ip| !ip.is_loopback());
        let same = self.nameless.values().filter(|other| ip.is_some() && **other == ip).count();
        if self.nameless.len() >= self.config.pending
            || same >= self.config.pending_per_ip
            || self.load() >= self.config.connections
        {
            return Err(full());
        }
        self.nameless.insert(connection, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.nameless.remove(&connection);
        self.admit(from_libp2p(&peer).ok_or_else(full)?)?;
        self.handler(connection, peer, (&place(local), remote), None)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let alive = self.dials.remove(&connection).ok_or_else(full)?;
        // libp2p does not say which of our own addresses it took.
        self.handler(connection, peer, ("any", remote), Some(alive))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(failed) => {
                self.nameless.remove(&failed.connection_id);
                self.known.remove(&failed.connection_id);
            }
            FromSwarm::DialFailure(failed) => {
                self.dials.remove(&failed.connection_id);
                self.known.remove(&failed.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.known.remove(&closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: libp2p::PeerId, connection: ConnectionId, event: Event) {
        if let (Event::Opened(_), Some((_, open))) = (&event, self.known.get_mut(&connection)) {
            *open = true;
        }
        if matches!(event, Event::Over | Event::Failed(..)) {
            let close = CloseConnection::One(connection);
            self.queue.push_back(ToSwarm::CloseConnection { peer_id: peer, connection: close });
        }
        if let Some(peer) = from_libp2p(&peer) {
            self.queue.push_back(ToSwarm::GenerateEvent(News { connection, peer, event }));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<News, Order>> {
        match self.queue.pop_front() {
            Some(next) => Poll::Ready(next),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
