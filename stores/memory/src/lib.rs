//! A [`RouteStore`] in memory, and the store plugin to read first.
//!
//! Use it in tests, in simulations and for throw-away nodes; nothing survives the process. For a
//! profile that does, see `byway-store-sqlite`.
//!
//! ```
//! use byway_store_memory::MemoryStore;
//!
//! # fn main() -> Result<(), byway_api::StoreError> {
//! let store = MemoryStore::new();
//! // the node runs with a clone of it, and ends with `store.close().await`
//! # store.end();
//! // a "restart" over the same data:
//! let again = store.reopen()?;
//! # let _ = again;
//! # Ok(())
//! # }
//! ```

mod order;
mod tables;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use byway_api::{Applied, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write};

use crate::tables::Tables;

const NAME: &str = "memory";

/// The most writes in a batch and the most rows in a page.
const MAX_BATCH: usize = 4096;
/// The longest name of a named value, in bytes.
const MAX_META_KEY: usize = 128;
/// The largest named value, in bytes.
const MAX_META_VALUE: usize = 64 * 1024;

/// Ordered maps behind a mutex.
///
/// A clone is the same open store. [`reopen`](Self::reopen) gives a new one over the same data, as a
/// restarted process would have, once this one is closed or all its clones are dropped.
///
/// Nothing in it waits: `apply` and `load` end at their first poll, so a batch that was polled once
/// has taken effect.
#[derive(Clone)]
pub struct MemoryStore {
    session: Arc<Session>,
}

/// The data, and which session has it open.
#[derive(Default)]
struct Medium {
    tables: Tables,
    opened: u64,
    open: bool,
}

/// One open handle. Its end, explicit or by the last drop, lets the data be opened again.
struct Session {
    medium: Arc<Mutex<Medium>>,
    number: u64,
}

impl MemoryStore {
    /// Opens a new, empty store.
    pub fn new() -> Self {
        let medium = Medium { open: true, ..Medium::default() };
        Self { session: Arc::new(Session { medium: Arc::new(Mutex::new(medium)), number: 0 }) }
    }

    /// Opens the same data again. Live connections are forgotten; everything else is as it was.
    ///
    /// # Errors
    /// [`StoreErrorKind::Busy`] while any handle to the data is open.
    pub fn reopen(&self) -> Result<Self, StoreError> {
        let mut medium = lock(&self.session.medium);
        if medium.open {
            return Err(StoreError::new(StoreErrorKind::Busy, NAME, "close the store before it is opened again"));
        }
        medium.open = true;
        medium.opened += 1;
        medium.tables.forget_connections();
        let session = Session { medium: Arc::clone(&self.session.medium), number: medium.opened };
        Ok(Self { session: Arc::new(session) })
    }

    /// What `close` does, for a caller outside of async code. Idempotent.
    pub fn end(&self) {
        self.session.end();
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("session", &self.session.number).finish_non_exhaustive()
    }
}

impl Session {
    /// The data, if this session still has it open.
    fn tables(&self) -> Result<MutexGuard<'_, Medium>, StoreError> {
        let medium = lock(&self.medium);
        if medium.open && medium.opened == self.number {
            Ok(medium)
        } else {
            Err(StoreError::new(StoreErrorKind::Closed, NAME, ""))
        }
    }

    fn end(&self) {
        if let Ok(mut medium) = self.tables() {
            medium.open = false;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// A panic cannot leave the maps half changed in a way that matters more than the panic itself.
fn lock(medium: &Mutex<Medium>) -> MutexGuard<'_, Medium> {
    medium.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_large(detail: &str) -> StoreError {
    StoreError::new(StoreErrorKind::TooLarge, NAME, detail)
}

/// Everything that can be wrong with a batch is found before its first write: that makes it atomic.
fn check(batch: &[Write]) -> Result<(), StoreError> {
    if batch.len() > MAX_BATCH {
        return Err(too_large("a batch has at most 4,096 writes"));
    }
    for write in batch {
        if let Write::Meta { key, value, .. } = write {
            if key.len() > MAX_META_KEY {
                return Err(too_large("the name of a value has at most 128 bytes"));
            }
            if value.as_ref().is_some_and(|value| value.len() > MAX_META_VALUE) {
                return Err(too_large("a named value has at most 64 KiB"));
            }
        }
    }
    Ok(())
}

#[async_trait]
impl RouteStore for MemoryStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        check(batch)?;
        let mut medium = self.session.tables()?;
        Ok(batch.iter().map(|write| medium.tables.apply(write)).collect())
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        if !(1..=MAX_BATCH).contains(&limit) {
            return Err(too_large("a page has 1 to 4,096 rows"));
        }
        Ok(self.session.tables()?.tables.load(&what, after.as_ref(), limit))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.session.end();
        Ok(())
    }
}
