//! The endpoint's task: reads the sockets, fires timers, sends what connections have left behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;

use crate::demux::Remote;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::socket::{Buffers, Received, Socket, Sockets};
use crate::stun::{self, Class};
use crate::sync::lock;

/// Receive calls in a row before timers and writers have their turn.
const MAX_BURST: usize = 8;

/// Runs until it is cancelled.
pub(crate) async fn run(shared: Arc<Shared>, sockets: Arc<Sockets>) {
    let mut driver = Driver { shared, sockets, touched: Vec::new(), relayed: Vec::new() };
    let mut buffers = Buffers::new();
    let sleep = tokio::time::sleep_until(Instant::now().into());
    tokio::pin!(sleep);
    loop {
        let next = driver.next_timer();
        if let Some(next) = next
            && sleep.deadline().into_std() != next
        {
            sleep.as_mut().reset(next.into());
        }
        let mut readable = false;
        tokio::select! { biased;
            ready = driver.sockets.readable() => readable = ready.is_ok(),
            () = driver.shared.wake.notified() => {}
            () = driver.sockets.unblocked(), if driver.sockets.is_blocked() => {
                driver.sockets.iter().for_each(Socket::flush);
            }
            () = &mut sleep, if next.is_some() => {}
        }
        if readable {
            driver.read(&mut buffers);
        }
        driver.fire_timers();
        driver.drain_touched();
        tokio::task::coop::consume_budget().await;
    }
}

struct Driver {
    shared: Arc<Shared>,
    sockets: Arc<Sockets>,
    /// Connections that got datagrams in this round.
    touched: Vec<Arc<Peer>>,
    /// What peers sent through the TURN server in this round.
    relayed: Vec<(SocketAddr, BytesMut)>,
}

impl Driver {
    fn next_timer(&self) -> Option<Instant> {
        let turn = lock(&self.shared.turn).as_mut().and_then(|turn| turn.deadline());
        let peers = lock(&self.shared.timers).next();
        turn.into_iter().chain(peers).min()
    }

    fn read(&mut self, buffers: &mut Buffers) {
        let sockets = Arc::clone(&self.sockets);
        for socket in sockets.iter() {
            for _ in 0..MAX_BURST {
                let more = socket.receive(buffers, |received| self.received(socket, received));
                if !more {
                    break;
                }
            }
        }
        self.poll_turn();
    }

    fn received(&mut self, socket: &Socket, received: Received<'_>) {
        let now = Instant::now();
        let Received { from, to, datagrams } = received;
        let bound = socket.bound();
        let local = match to {
            _ if !bound.ip().is_unspecified() => bound,
            Some(ip) => SocketAddr::new(ip, bound.port()),
            None => lock(&self.shared.candidates).host_like(bound).unwrap_or(bound),
        };
        // datagrams of one bundle have one sender
        let mut owner = None;
        for datagram in datagrams {
            if self.is_for_turn(from, datagram) {
                if let Some(turn) = lock(&self.shared.turn).as_mut() {
                    turn.input(datagram, now);
                }
                continue;
            }
            let remote = Remote { address: from, relayed: false };
            self.deliver(local, remote, datagram, now, &mut owner);
        }
    }

    /// True if the datagram belongs to the TURN client: it comes from the server, and is neither the
    /// answer to a question of the gatherer nor a connectivity check.
    fn is_for_turn(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let turn = lock(&self.shared.turn);
        let Some(turn) = turn.as_ref().filter(|turn| turn.server() == from) else { return false };
        match stun::classify(datagram) {
            Class::Request { .. } => false,
            Class::Response { transaction, .. } => turn.awaits(transaction),
            Class::Indication | Class::Other => true,
        }
    }

    /// Sends the TURN client's packets and delivers what came through it.
    fn poll_turn(&mut self) {
        let now = Instant::now();
        let local = {
            let mut turn = lock(&self.shared.turn);
            let Some(turn) = turn.as_mut() else { return };
            turn.poll(&mut self.relayed, now);
            self.shared.flush_turn(turn, &self.sockets);
            turn.relayed()
        };
        let mut relayed = std::mem::take(&mut self.relayed);
        if let Some(local) = local {
            for (address, datagram) in &relayed {
                self.deliver(local, Remote { address: *address, relayed: true }, datagram, now, &mut None);
            }
        }
        relayed.clear();
        self.relayed = relayed;
    }

    /// Gives a datagram to its connection, or drops it.
    fn deliver(
        &mut self,
        local: SocketAddr,
        remote: Remote,
        datagram: &[u8],
        now: Instant,
        owner: &mut Option<Arc<Peer>>,
    ) {
        let mut sent = None;
        let peer = match stun::classify(datagram) {
            Class::Request { ufrag: Some(ufrag) } if remote.relayed || !self.shared.config.relay_only => {
                let tables = lock(&self.shared.tables);
                tables.demux.by_ufrag(ufrag).and_then(|id| tables.peers.get(&id).map(Arc::clone))
            }
            Class::Response { transaction, .. } => {
                if self.answer(transaction, local, remote, datagram) {
                    return;
                }
                let mut tables = lock(&self.shared.tables);
                tables.demux.take_transaction(&transaction).and_then(|(id, at)| {
                    sent = Some(at);
                    tables.peers.get(&id).map(Arc::clone)
                })
            }
            Class::Other => owner.take().or_else(|| {
                let tables = lock(&self.shared.tables);
                tables.demux.by_remote(remote).and_then(|id| tables.peers.get(&id).map(Arc::clone))
            }),
            Class::Request { .. } | Class::Indication => None,
        };
        let Some(peer) = peer else {
            self.shared.strays.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if peer.input(&self.shared, local, remote.address, datagram, now) {
            if !self.touched.iter().any(|touched| touched.id == peer.id) {
                self.touched.push(Arc::clone(&peer));
            }
            if let Some(sent) = sent {
                peer.round_trip(now.saturating_duration_since(sent));
            }
        }
        if stun::classify(datagram) == Class::Other {
            *owner = Some(peer);
        }
    }

    /// The answer to a question of the gatherer.
    fn answer(&self, transaction: stun::Transaction, local: SocketAddr, remote: Remote, datagram: &[u8]) -> bool {
        let mut questions = lock(&self.shared.questions);
        if questions.get(&transaction).is_none_or(|question| remote.relayed || question.server != remote.address) {
            return false;
        }
        if let (Some(question), Some(mapped)) = (questions.remove(&transaction), stun::mapped_address(datagram)) {
            // nobody may be waiting any more
            let _ = question.answer.send((local, mapped));
        }
        true
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        let turn_due = {
            let mut turn = lock(&self.shared.turn);
            turn.as_mut().is_some_and(|turn| {
                let due = turn.deadline().is_some_and(|at| at <= now);
                if due {
                    turn.timeout(now);
                }
                due
            })
        };
        if turn_due {
            self.poll_turn();
        }
        loop {
            let due = lock(&self.shared.timers).pop(now);
            let Some(id) = due else { break };
            if let Some(peer) = self.shared.peer(id) {
                peer.tick(&self.shared, now);
            }
        }
    }

    fn drain_touched(&mut self) {
        let dirty = std::mem::take(&mut *lock(&self.shared.dirty));
        let now = Instant::now();
        for peer in self.touched.drain(..).chain(dirty) {
            peer.drain(&self.shared, now);
        }
    }
}
