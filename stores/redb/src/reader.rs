//! The thread that reads pages of many rows.

use std::sync::Arc;

use byway_api::{Key, Load, Row, StoreError};
use tokio::sync::oneshot;

use crate::session::Session;
use byway_store_file::queue::{Queue, Taken};

/// A load that waits.
pub(crate) struct Request {
    pub(crate) what: Load,
    pub(crate) after: Option<Key>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Result<Vec<(Key, Row)>, StoreError>>,
}

/// Answers loads until the queue ends.
pub(crate) fn run(session: &Session, queue: &Arc<Queue<Request>>) {
    let _abandon = Abandon(queue);
    let mut requests = Vec::new();
    while queue.take(&mut requests, None) == Taken::Some {
        for Request { what, after, limit, reply } in requests.drain(..) {
            // The caller of a dropped load reads nothing any more.
            if !reply.is_closed() {
                let _ = reply.send(session.load(&what, after.as_ref(), limit));
            }
        }
    }
}

/// Leaves no caller waiting for a thread that is gone, not even after a panic.
pub(crate) struct Abandon<'q, T>(pub(crate) &'q Queue<T>);

impl<T> Drop for Abandon<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
