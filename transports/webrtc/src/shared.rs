//! What the parts of an endpoint share.
//!
//! Locks are taken in this order and never the other way round: a peer's core, then any one of the
//! others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use byway_api::PeerId;
use tokio::sync::{Notify, oneshot};

use crate::accept::AcceptQueue;
use crate::candidate::Candidates;
use crate::config::Config;
use crate::demux::Demux;
use crate::offers::Offers;
use crate::peer::{ConnId, Peer};
use crate::signals::Outbox;
use crate::socket::Sockets;
use crate::stun::Transaction;
use crate::sync::lock;
use crate::task::Tasks;
use crate::timers::Timers;
use crate::turn::Turn;

/// Connections and the ways to them.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) peers: HashMap<ConnId, Arc<Peer>>,
    pub(crate) demux: Demux,
}

/// A question to a STUN server.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) server: SocketAddr,
    /// Where the answer arrived and what it says.
    pub(crate) answer: oneshot::Sender<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) config: Config,
    pub(crate) outbox: Outbox,
    pub(crate) sockets: Mutex<Option<Arc<Sockets>>>,
    pub(crate) candidates: Mutex<Candidates>,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) timers: Mutex<Timers>,
    pub(crate) offers: Mutex<Offers>,
    pub(crate) questions: Mutex<HashMap<Transaction, Question>>,
    pub(crate) turn: Mutex<Option<Turn>>,
    /// Connections with frames that the driver has to send.
    pub(crate) dirty: Mutex<Vec<Arc<Peer>>>,
    /// Makes the driver look at timers, dirty connections and blocked sockets.
    pub(crate) wake: Arc<Notify>,
    /// Makes the gatherer ask its servers again.
    pub(crate) regather: Notify,
    pub(crate) accepted: AcceptQueue,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) closed: AtomicBool,
    pub(crate) strays: AtomicU64,
    next_id: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        me: PeerId,
        config: Config,
        outbox: Outbox,
        sockets: Arc<Sockets>,
        candidates: Candidates,
        tasks: Arc<Tasks>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            me,
            offers: Mutex::new(Offers::new(me, &config)),
            accepted: AcceptQueue::new(config.accept_queue),
            config,
            outbox,
            sockets: Mutex::new(Some(sockets)),
            candidates: Mutex::new(candidates),
            tables: Mutex::default(),
            timers: Mutex::default(),
            questions: Mutex::default(),
            turn: Mutex::default(),
            dirty: Mutex::default(),
            wake,
            regather: Notify::new(),
            tasks,
            closed: AtomicBool::new(false),
            strays: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
        }
    }

    pub(crate) fn next_id(&self) -> ConnId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn peer(&self, id: ConnId) -> Option<Arc<Peer>> {
        lock(&self.tables).peers.get(&id).map(Arc::clone)
    }

    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.tables).peers.values().map(Arc::clone).collect()
    }

    /// Enters a new attempt. False if there is no room, or the endpoint is closed.
    pub(crate) fn register(&self, peer: &Arc<Peer>, ufrag: &str) -> bool {
        let mut tables = lock(&self.tables);
        if self.is_closed() || tables.peers.len() >= self.config.connections {
            return false;
        }
        tables.demux.add_ufrag(ufrag.to_owned(), peer.id);
        tables.peers.insert(peer.id, Arc::clone(peer));
        true
    }

    /// Removes every trace of a connection or attempt.
    pub(crate) fn forget(&self, id: ConnId, ufrag: &str, armed: Option<Instant>) {
        let peer = {
            let mut tables = lock(&self.tables);
            tables.demux.remove(id, ufrag);
            tables.peers.remove(&id)
        };
        if let Some(at) = armed {
            lock(&self.timers).disarm(id, at);
        }
        lock(&self.offers).remove(id);
        drop(peer);
    }

    /// Has the driver call the connection at `at` instead of `old`.
    pub(crate) fn arm(&self, id: ConnId, old: Option<Instant>, at: Instant) {
        let first = lock(&self.timers).arm(id, old, at);
        if first {
            self.wake.notify_one();
        }
    }

    /// Has the driver send the connection's frames.
    pub(crate) fn mark_dirty(&self, peer: &Arc<Peer>) {
        lock(&self.dirty).push(Arc::clone(peer));
        self.wake.notify_one();
    }

    /// Sends what the TURN client has to say.
    pub(crate) fn flush_turn(&self, turn: &mut Turn, sockets: &Sockets) {
        let (local, server) = (turn.local(), turn.server());
        let Some(socket) = sockets.of(server) else { return };
        while let Some(datagram) = turn.poll_write() {
            socket.send(local.ip(), server, &datagram, None);
        }
    }
}
