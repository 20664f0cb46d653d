//! The task that owns the swarm: dials, decides, hands out connections, and ends it all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use byway_api::{CloseCode, Connection, PeerId, SignalAddress, TransportError, TransportErrorKind as Kind};
use futures_util::{FutureExt, StreamExt};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::behaviour::{Behaviour, News};
use crate::connection::{Libp2pConnection, Opened};
use crate::crossing::{Crossing, Turn};
use crate::guard::{Alive, NextDial};
use crate::handler::{Event, Order};
use crate::link::Link;
use crate::{Config, address, error, failure};

/// What becomes of a dial.
pub(crate) type Dialled = Result<Arc<dyn Connection>, TransportError>;

/// A dial that the endpoint was asked for.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) peer: PeerId,
    pub(crate) to: Multiaddr,
    pub(crate) alive: Alive,
    pub(crate) answer: oneshot::Sender<Dialled>,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) next_dial: NextDial,
    pub(crate) config: Arc<Config>,
    pub(crate) advertised: Vec<Multiaddr>,
    pub(crate) listened: Vec<Multiaddr>,
    pub(crate) addresses: watch::Sender<Vec<SignalAddress>>,
    pub(crate) dials: mpsc::Receiver<Dial>,
    pub(crate) accepted: mpsc::Sender<Arc<dyn Connection>>,
    pub(crate) crossing: Crossing<ConnectionId, oneshot::Sender<Dialled>, mpsc::OwnedPermit<Arc<dyn Connection>>>,
    pub(crate) open: HashMap<ConnectionId, Arc<Link>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// The last to go.
    pub(crate) done: watch::Sender<()>,
}

/// Events that are handled at once while `bind` looks for more addresses.
const AT_ONCE: usize = 64;

impl Driver {
    /// Listens, and waits for the first addresses.
    pub(crate) async fn listen(&mut self) -> Result<(), TransportError> {
        let asked = !self.config.listen.is_empty();
        let wanted = match asked {
            true => self.config.listen.iter().map(|text| address::configured(text)).collect::<Result<_, _>>()?,
            false => address::wildcards(),
        };
        let mut waiting = HashSet::new();
        for to in wanted {
            match self.swarm.listen_on(to.clone()) {
                Ok(listener) => drop(waiting.insert(listener)),
                Err(e) if asked => {
                    return Err(error(Kind::Config, format!("cannot listen on {to}")).with_source(e));
                }
                Err(e) => tracing::debug!(target: "byway::libp2p", %to, error = %e, "not listening"),
            }
        }
        if waiting.is_empty() {
            return Err(error(Kind::LocalFault, "no address to listen on"));
        }
        let mut late = std::pin::pin!(sleep(self.config.listen_timeout));
        while !waiting.is_empty() {
            let event = tokio::select! { biased;
                event = self.swarm.select_next_some() => event,
                () = &mut late => break,
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(waiting.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    waiting.remove(listener_id);
                    if asked && let Err(e) = reason {
                        return Err(error(Kind::Config, format!("cannot listen: {e}")));
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        for _ in 0..AT_ONCE {
            let Some(event) = self.swarm.select_next_some().now_or_never() else { break };
            self.on_event(event);
        }
        self.publish();
        Ok(())
    }

    /// Runs until it is told to stop, and ends everything.
    pub(crate) async fn run(mut self) {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! { biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(dial) = self.dials.recv() => self.dial(dial),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.shut().await;
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { peer, to, alive, answer } = dial;
        if answer.is_closed() {
            return;
        }
        let connections = self.swarm.behaviour().load();
        if connections >= self.config.connections {
            tell(answer, Err(error(Kind::Busy, format!("{connections} connections and attempts"))));
            return;
        }
        let theirs = match address::to_libp2p(&peer) {
            Ok(theirs) => theirs,
            Err(e) => return tell(answer, Err(e)),
        };
        // A port of its own: two dials from listening port to listening port would be one TCP connection
        // with a dialer at each end.
        let opts =
            DialOpts::peer_id(theirs).condition(PeerCondition::Always).addresses(vec![to]).allocate_new_port().build();
        let connection = opts.connection_id();
        self.swarm.behaviour_mut().expect(connection, alive.clone());
        self.next_dial.put(Some(alive));
        let dialled = self.swarm.dial(opts);
        self.next_dial.put(None);
        match dialled {
            Ok(()) => self.crossing.dial(connection, peer, answer),
            Err(e) => tell(answer, Err(failure::of_dial(e))),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<News>) {
        match event {
            SwarmEvent::Behaviour(News { connection, peer, event }) => self.on_news(connection, peer, event),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(answer) = self.crossing.end(connection_id) {
                    tell(answer, Err(failure::of_dial(error)));
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.open.remove(&connection_id);
                if let Some(answer) = self.crossing.end(connection_id) {
                    tell(answer, Err(error(Kind::Refused, "the far side has dropped the connection")));
                }
                self.came_to_nothing(connection_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.listened.push(address);
                self.publish();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listened.retain(|known| *known != address);
                self.publish();
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                if let Err(e) = reason {
                    tracing::warn!(target: "byway::libp2p", ?addresses, error = %e, "a listener has closed");
                }
                self.listened.retain(|known| !addresses.contains(known));
                self.publish();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(target: "byway::libp2p", %error, "accepting failed");
            }
            _ => {}
        }
    }

    fn on_news(&mut self, connection: ConnectionId, peer: PeerId, event: Event) {
        match event {
            Event::Asked => match self.accepted.clone().try_reserve_owned() {
                Ok(place) => {
                    self.crossing.agree(connection, peer, place);
                    self.order(connection, peer, Order::Accept);
                }
                Err(_) => self.order(connection, peer, Order::Refuse(CloseCode::FULL)),
            },
            Event::Agreed => match self.crossing.agreed(connection) {
                Turn::Go => self.order(connection, peer, Order::Go),
                Turn::GiveUp(answer) => tell(answer, Err(superseded(peer))),
                // It ends with the caller of the dial, or has to wait.
                Turn::Hold | Turn::Unknown => {}
            },
            Event::Opened(opened) => self.opened(connection, *opened),
            Event::Failed(kind, why) => {
                if let Some(answer) = self.crossing.end(connection) {
                    tell(answer, Err(error(kind, why)));
                }
                self.came_to_nothing(connection);
            }
            Event::Over => {}
        }
    }

    fn opened(&mut self, connection: ConnectionId, opened: Opened) {
        let peer = opened.peer;
        self.open.insert(connection, Arc::clone(&opened.link));
        let handle: Arc<dyn Connection> = Arc::new(Libp2pConnection::new(opened));
        if let Some(answer) = self.crossing.end(connection) {
            // Whoever has given the dial up drops the last handle, which closes the connection.
            tell(answer, Ok(handle));
        } else if let Some((place, lost)) = self.crossing.opened(connection) {
            place.send(handle);
            for answer in lost {
                tell(answer, Err(superseded(peer)));
            }
        }
    }

    /// A dial of the peer's will not be a connection.
    fn came_to_nothing(&mut self, connection: ConnectionId) {
        if let Some((held, peer)) = self.crossing.failed(connection) {
            self.order(held, peer, Order::Go);
        }
    }

    fn order(&mut self, connection: ConnectionId, peer: PeerId, order: Order) {
        if let Ok(peer) = address::to_libp2p(&peer) {
            self.swarm.behaviour_mut().order(peer, connection, order);
        }
    }

    fn publish(&self) {
        let now = address::published(&self.config, &self.advertised, &self.listened);
        self.addresses.send_if_modified(|told| {
            let differ = *told != now;
            *told = now;
            differ
        });
    }

    /// Ends all dials and connections, and waits for the far sides of the latter as long as they may take.
    async fn shut(mut self) {
        self.dials.close();
        while let Ok(dial) = self.dials.try_recv() {
            tell(dial.answer, Err(closed()));
        }
        for answer in self.crossing.drain() {
            tell(answer, Err(closed()));
        }
        for link in self.open.values() {
            link.close(CloseCode::LEAVING);
        }
        let mut late = std::pin::pin!(sleep(self.config.linger));
        while !self.open.is_empty() {
            let event = tokio::select! { biased;
                event = self.swarm.select_next_some() => event,
                () = &mut late => break,
            };
            match event {
                SwarmEvent::ConnectionClosed { connection_id, .. } => drop(self.open.remove(&connection_id)),
                // It opened at this moment; dropping the handle would lose the code.
                SwarmEvent::Behaviour(News { connection, event: Event::Opened(opened), .. }) => {
                    opened.link.close(CloseCode::LEAVING);
                    self.open.insert(connection, Arc::clone(&opened.link));
                }
                _ => {}
            }
        }
        // Told by its end, after the swarm is gone.
        let Self { swarm, done, .. } = self;
        drop(swarm);
        drop(done);
    }
}

/// Answers a dial; whether anybody still waits does not matter.
fn tell(answer: oneshot::Sender<Dialled>, dialled: Dialled) {
    let _ = answer.send(dialled);
}

fn superseded(peer: PeerId) -> TransportError {
    error(Kind::Superseded, format!("{} has dialled us", peer.short()))
}

pub(crate) fn closed() -> TransportError {
    error(Kind::Closed, "the endpoint is closed")
}
