use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use byway_api::{CloseCode, PeerId, SignalAddress, TransportError, TransportErrorKind};
use tokio::sync::Notify;

use crate::connection::{Channel, End, MemoryConnection, Side};
use crate::cuts::Cuts;
use crate::transport::error;
use crate::{MemoryConfig, MemoryTransport};

/// A network inside one process: the switchboard that its transports share.
///
/// Cheap to clone; every clone is the same network. Devices of two networks cannot reach each other.
/// [`cut`](Self::cut) and [`isolate`](Self::isolate) break it on demand.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    config: MemoryConfig,
    board: Arc<Mutex<Board>>,
}

/// Who is where. Only connecting goes through here; frames do not.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The last number given to an endpoint, a dial or a channel. Never given twice.
    last: u64,
    seats: BTreeMap<u64, Seat>,
    /// Dials that have begun and not ended, from one endpoint to another.
    dials: BTreeMap<u64, (u64, u64)>,
    pub(crate) cuts: Cuts,
}

#[derive(Debug)]
struct Seat {
    peer: PeerId,
    /// Accepted, and not yet taken by `next`.
    waiting: VecDeque<MemoryConnection>,
    arrived: Arc<Notify>,
    /// Not owned: a channel lives as long as somebody holds one of its ends.
    channels: Vec<(Weak<Channel>, Side)>,
}

/// What waits at an endpoint.
#[derive(Debug)]
pub(crate) enum Arrival {
    Connection(MemoryConnection),
    Nothing,
    Closed,
}

impl MemoryNetwork {
    /// A network with the default bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// A network with bounds of your own.
    pub fn with_config(config: MemoryConfig) -> Self {
        Self { config, board: Arc::default() }
    }

    /// A transport whose devices meet on this network.
    pub fn transport(&self) -> MemoryTransport {
        MemoryTransport::new(self.clone())
    }

    pub(crate) const fn config(&self) -> &MemoryConfig {
        &self.config
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(&self, peer: PeerId, arrived: Arc<Notify>) -> u64 {
        let mut board = self.lock();
        let number = board.new_number();
        board.seats.insert(number, Seat { peer, waiting: VecDeque::new(), arrived, channels: Vec::new() });
        number
    }

    pub(crate) fn is_seated(&self, number: u64) -> bool {
        self.lock().seats.contains_key(&number)
    }

    pub(crate) fn next_arrival(&self, number: u64) -> Arrival {
        match self.lock().seats.get_mut(&number).map(|seat| seat.waiting.pop_front()) {
            Some(Some(connection)) => Arrival::Connection(connection),
            Some(None) => Arrival::Nothing,
            None => Arrival::Closed,
        }
    }

    pub(crate) fn leave(&self, number: u64) {
        let mut board = self.lock();
        let seat = board.seats.remove(&number);
        board.dials.retain(|_, (from, _)| *from != number);
        drop(board);
        let Some(seat) = seat else { return };
        for (channel, side) in seat.channels {
            if let Some(channel) = channel.upgrade() {
                channel.close(side, CloseCode::LEAVING);
            }
        }
        seat.arrived.notify_one();
    }
}

impl Board {
    fn new_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Every channel between living ends.
    pub(crate) fn channels(&self) -> impl Iterator<Item = Arc<Channel>> {
        self.seats.values().flat_map(|seat| seat.channels.iter().filter_map(|(channel, _)| channel.upgrade()))
    }

    /// Ends one dial: with a connection, or with the reason why there is none.
    ///
    /// When two dials cross, the smaller [`PeerId`] wins, so that both sides judge alike.
    fn connect(
        &mut self,
        dial: u64,
        (from, to): (u64, u64),
        peer: PeerId,
        config: &MemoryConfig,
    ) -> Result<MemoryConnection, TransportError> {
        use TransportErrorKind::{Closed, Handshake, Refused, Superseded, Timeout};
        let superseded = || error(Superseded, format!("{} has dialled us", address(to)));

        let near = self.seats.get(&from).ok_or_else(|| error(Closed, "the endpoint is closed"))?;
        let me = near.peer;
        if self.cuts.separate(me, peer) {
            return Err(error(Timeout, format!("the way to {peer} is cut")));
        }
        let far = self.seats.get(&to).ok_or_else(|| error(Refused, format!("nobody is at {}", address(to))))?;
        if from == to || far.peer != peer {
            return Err(error(Handshake, format!("another device than {peer} is at {}", address(to))));
        }
        let crossing_wins = peer < me && self.dials.values().any(|d| *d == (to, from));
        let has_crossed = near.waiting.iter().any(|connection| connection.open_from() == Some(to));
        if self.dials.remove(&dial).is_none() || crossing_wins || has_crossed {
            return Err(superseded());
        }
        if far.waiting.len() >= config.accept_queue {
            return Err(error(Refused, format!("{} connections wait at {}", far.waiting.len(), address(to))));
        }
        self.dials.retain(|_, d| *d != (to, from));

        let number = self.new_number();
        let ends = (End { peer: me, endpoint: from }, End { peer, endpoint: to });
        let channel = Arc::new(Channel::new(number, ends.0, ends.1, config));
        for (endpoint, side) in [(from, Side::Dialer), (to, Side::Answerer)] {
            if let Some(seat) = self.seats.get_mut(&endpoint) {
                seat.channels.retain(|(channel, _)| channel.strong_count() > 0);
                seat.channels.push((Arc::downgrade(&channel), side));
            }
        }
        if let Some(seat) = self.seats.get_mut(&to) {
            seat.waiting.push_back(MemoryConnection::new(Arc::clone(&channel), Side::Answerer));
            seat.arrived.notify_one();
        }
        Ok(MemoryConnection::new(channel, Side::Dialer))
    }
}

/// One dial under way. Dropping it takes it back.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    network: &'a MemoryNetwork,
    dial: u64,
    ends: (u64, u64),
}

impl<'a> Attempt<'a> {
    pub(crate) fn begin(network: &'a MemoryNetwork, from: u64, to: u64) -> Self {
        let mut board = network.lock();
        let dial = board.new_number();
        board.dials.insert(dial, (from, to));
        Self { network, dial, ends: (from, to) }
    }

    pub(crate) fn finish(self, peer: PeerId) -> Result<MemoryConnection, TransportError> {
        self.network.lock().connect(self.dial, self.ends, peer, &self.network.config)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.network.lock().dials.remove(&self.dial);
    }
}

/// The address of an endpoint.
pub(crate) fn address(number: u64) -> SignalAddress {
    match SignalAddress::new(&format!("mem:{number}")) {
        Ok(address) => address,
        Err(error) => unreachable!("a scheme and a number: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use byway_api::{BindContext, Endpoint, NetworkId, Transport};

    use super::*;

    async fn device(network: &MemoryNetwork, number: u8) -> Arc<dyn Endpoint> {
        let cx = BindContext::new(PeerId::from_bytes([number; 32]), NetworkId::new("board").unwrap());
        network.transport().bind(cx).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_stays_on_the_board() {
        let network = MemoryNetwork::new();
        let (a, b) = (device(&network, 1).await, device(&network, 2).await);
        let (to_b, b_peer) = (b.addresses().remove(0), PeerId::from_bytes([2; 32]));
        let mut dial = a.dial(b_peer, &to_b);
        tokio::select! {
            biased;
            dialled = &mut dial => panic!("a dial takes one turn: {dialled:?}"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(network.lock().dials.len(), 1);
        drop(dial);
        assert_eq!(network.lock().dials.len(), 0, "a dropped dial is taken back");

        for _ in 0..100 {
            drop(a.dial(b_peer, &to_b).await.unwrap());
            drop(b.next().await);
        }
        assert!(network.lock().seats.values().all(|seat| seat.channels.len() <= 1), "dead channels are forgotten");

        a.close().await;
        drop(b);
        let board = network.lock();
        assert!(board.seats.is_empty() && board.dials.is_empty(), "{board:?}");
    }
}
