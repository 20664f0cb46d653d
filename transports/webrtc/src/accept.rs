//! Accepted connections that wait for `next`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use byway_api::{Connection, Incoming};
use tokio::sync::Notify;

use crate::sync::lock;

#[derive(Debug)]
pub(crate) struct AcceptQueue {
    limit: usize,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    connections: VecDeque<Arc<dyn Connection>>,
    changed: bool,
    closed: bool,
}

impl AcceptQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), wake: Notify::new() }
    }

    /// Queues a connection, or gives it back if there is no room.
    pub(crate) fn push(&self, connection: Arc<dyn Connection>) -> Result<(), Arc<dyn Connection>> {
        let mut state = lock(&self.state);
        if state.closed || state.connections.len() >= self.limit {
            return Err(connection);
        }
        state.connections.push_back(connection);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Our addresses have changed; told once, however often it happens.
    pub(crate) fn addresses_changed(&self) {
        lock(&self.state).changed = true;
        self.wake.notify_one();
    }

    /// The next event; `None` once closed.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        loop {
            {
                let mut state = lock(&self.state);
                if state.closed {
                    // also for another caller that may wait
                    self.wake.notify_one();
                    return None;
                }
                if let Some(connection) = state.connections.pop_front() {
                    return Some(Incoming::Connection(connection));
                }
                if std::mem::take(&mut state.changed) {
                    return Some(Incoming::AddressesChanged);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Ends `next`. What was waiting is handed out to be dropped outside of any lock.
    pub(crate) fn close(&self) -> VecDeque<Arc<dyn Connection>> {
        let mut state = lock(&self.state);
        state.closed = true;
        let waiting = std::mem::take(&mut state.connections);
        drop(state);
        self.wake.notify_one();
        waiting
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.state).connections.len()
    }
}
