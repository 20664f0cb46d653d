//! The thread that reads pages of many rows. Its own connection sees every commit of the writer at once.

use std::sync::Arc;

use byway_api::{Key, Load, Row, StoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::page;
use crate::session::Session;
use byway_store_file::queue::{Queue, Taken};

/// A load that waits.
pub(crate) struct Request {
    pub(crate) what: Load,
    pub(crate) after: Option<Key>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Result<Vec<(Key, Row)>, StoreError>>,
}

pub(crate) struct Reader {
    conn: Connection,
    session: Arc<Session>,
    queue: Arc<Queue<Request>>,
}

impl Reader {
    pub(crate) fn new(conn: Connection, session: Arc<Session>, queue: Arc<Queue<Request>>) -> Self {
        Self { conn, session, queue }
    }

    pub(crate) fn run(self) {
        let queue = Arc::clone(&self.queue);
        let _abandon = Abandon(&queue);
        let mut requests = Vec::new();
        while queue.take(&mut requests, None) == Taken::Some {
            for Request { what, after, limit, reply } in requests.drain(..) {
                // The caller of a dropped load reads nothing any more.
                if !reply.is_closed() {
                    let _ = reply.send(self.load(&what, after.as_ref(), limit));
                }
            }
        }
    }

    fn load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.session.check_poison()?;
        page::load(&self.conn, what, after, limit).map_err(|e| self.session.fail(e))
    }
}

/// Leaves no caller waiting for a thread that is gone, not even after a panic.
pub(crate) struct Abandon<'q, T>(pub(crate) &'q Queue<T>);

impl<T> Drop for Abandon<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
