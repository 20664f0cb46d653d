//! Small pages, read by the caller itself on a connection of their own: handing a load to the reader
//! thread and back takes several times as long as reading a few rows.

use std::sync::{Mutex, PoisonError, TryLockError};

use byway_api::{Key, Load, Row, StoreError, StoreErrorKind};
use rusqlite::Connection;

use crate::session::Session;
use crate::{error, page};

/// The connection, until it is closed.
#[derive(Debug)]
pub(crate) struct Quick(Mutex<Option<Connection>>);

impl Quick {
    /// The connection waits for no lock.
    pub(crate) fn new(conn: Connection) -> Self {
        Self(Mutex::new(Some(conn)))
    }

    /// Reads a page; `None` if that would wait for another caller or program.
    pub(crate) fn try_load(
        &self,
        session: &Session,
        what: &Load,
        after: Option<&Key>,
        limit: usize,
    ) -> Option<Result<Vec<(Key, Row)>, StoreError>> {
        let conn = match self.0.try_lock() {
            Ok(conn) => conn,
            Err(TryLockError::Poisoned(conn)) => conn.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        match page::load(conn.as_ref()?, what, after, limit) {
            Err(error) if error::kind(&error) == StoreErrorKind::Busy => None,
            loaded => Some(loaded.map_err(|e| session.fail(e))),
        }
    }

    /// Closes the connection, after a load that is on its way.
    pub(crate) fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
