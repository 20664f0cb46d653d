use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use byway_api::{Connection, Endpoint, Incoming, PeerId, SignalAddress, TransportError, TransportErrorKind};
use tokio::sync::Notify;

use crate::MemoryNetwork;
use crate::switchboard::{Arrival, Attempt, address};
use crate::transport::{NAME, error};

/// One seat at the switchboard.
///
/// It owns nothing but its number: what belongs to it is in the switchboard's table, and leaves the
/// table in `close`, or when the endpoint is dropped.
#[derive(Debug)]
pub(crate) struct MemoryEndpoint {
    network: MemoryNetwork,
    number: u64,
    /// Told when a connection begins to wait for `next`, and when the endpoint closes. Whoever is
    /// told looks into the table, so a `next` that is dropped after the news loses nothing.
    arrived: Arc<Notify>,
}

impl MemoryEndpoint {
    pub(crate) fn join(network: MemoryNetwork, me: PeerId) -> Self {
        let arrived = Arc::new(Notify::new());
        let number = network.join(me, Arc::clone(&arrived));
        Self { network, number, arrived }
    }
}

#[async_trait]
impl Endpoint for MemoryEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        if self.network.is_seated(self.number) { vec![address(self.number)] } else { Vec::new() }
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        let to = number_in(to)?;
        // Dropping this future drops the attempt, and with it its entry in the table.
        let attempt = Attempt::begin(&self.network, self.number, to);
        // The far side gets a turn. Without one a dial would be over before another could cross it.
        one_turn().await;
        Ok(Arc::new(attempt.finish(peer)?))
    }

    async fn next(&self) -> Option<Incoming> {
        loop {
            match self.network.next_arrival(self.number) {
                Arrival::Connection(connection) => return Some(Incoming::Connection(Arc::new(connection))),
                Arrival::Closed => return None,
                Arrival::Nothing => self.arrived.notified().await,
            }
        }
    }

    async fn close(&self) {
        self.network.leave(self.number);
    }
}

impl Drop for MemoryEndpoint {
    fn drop(&mut self) {
        self.network.leave(self.number);
    }
}

/// The `7` of `mem:7`.
fn number_in(address: &SignalAddress) -> Result<u64, TransportError> {
    (address.scheme() == NAME)
        .then(|| address.rest().parse().ok())
        .flatten()
        .ok_or_else(|| error(TransportErrorKind::BadAddress, format!("{address} is not of the form {NAME}:7")))
}

/// Lets every other ready task run once.
async fn one_turn() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
