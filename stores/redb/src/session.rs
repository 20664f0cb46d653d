//! What the threads and the handle of one open store share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use byway_api::{Key, Load, Row, StoreError, StoreErrorKind};
use redb::Database;

use crate::error::{Failure, NAME};
use crate::page;

pub(crate) struct Session {
    name: String,
    closed: AtomicBool,
    durable_commits: AtomicU64,
    /// Why nothing may be read or written any more.
    poison: OnceLock<(StoreErrorKind, String)>,
    /// Locked for writing only by the writer, which opens it again after a full disk and closes it.
    database: RwLock<Option<Database>>,
    /// How often the database was opened again or given up.
    turns: Mutex<u64>,
    turned: Condvar,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.name).field("poison", &self.poison).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(name: String, database: Database) -> Self {
        Self {
            name,
            closed: AtomicBool::new(false),
            durable_commits: AtomicU64::new(0),
            poison: OnceLock::new(),
            database: RwLock::new(Some(database)),
            turns: Mutex::new(0),
            turned: Condvar::new(),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether a call may go on.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { self.check_poison() }
    }

    pub(crate) fn check_poison(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            None => Ok(()),
            Some((kind, why)) => Err(StoreError::new(*kind, NAME, why.clone())),
        }
    }

    /// The store error of a failure. After one that leaves the file uncertain nothing is tried again: a
    /// second fsync would report success for pages that the kernel has dropped.
    pub(crate) fn fail(&self, failure: Failure) -> StoreError {
        if !failure.is_fatal() {
            return failure.at(&self.name);
        }
        let kind = match failure.kind() {
            kind @ (StoreErrorKind::Corrupt | StoreErrorKind::DiskFull) => kind,
            _ => StoreErrorKind::Io,
        };
        let error = failure.at(&self.name);
        self.poison(kind, format!("open the store again; it failed before: {error}"));
        StoreError::new(kind, NAME, "open the store again").with_source(error)
    }

    pub(crate) fn poison(&self, kind: StoreErrorKind, why: String) {
        // The first reason stands: later ones follow from it.
        let _ = self.poison.set((kind, why));
        self.turn();
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn count_durable_commit(&self) {
        self.durable_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn durable_commits(&self) -> u64 {
        self.durable_commits.load(Ordering::Relaxed)
    }

    /// The database for a transaction.
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the database when nobody reads any more; `open` is called after the old one is closed.
    /// What the old one could not write while closing is found out when it is opened again.
    pub(crate) fn replace(&self, open: impl FnOnce() -> Result<Option<Database>, Failure>) -> Result<(), Failure> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = open()?;
        drop(database);
        self.turn();
        Ok(())
    }

    fn turns(&self) -> MutexGuard<'_, u64> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) {
        *self.turns() += 1;
        self.turned.notify_all();
    }

    /// Reads without waiting for anything; `None` if that cannot be done now.
    pub(crate) fn try_load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Option<Loaded> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(database)) => database.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        match page::load(database.as_ref()?, what, after, limit) {
            Err(failure) if failure.is_consequence() => None,
            loaded => Some(loaded.map_err(|e| self.fail(e))),
        }
    }

    /// Reads, waiting while the writer opens the database again.
    pub(crate) fn load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Loaded {
        loop {
            let turns = *self.turns();
            self.check_poison()?;
            let database = self.database();
            let loaded = page::load(database.as_ref().ok_or_else(closed)?, what, after, limit);
            drop(database);
            match loaded {
                // Its cause is with the writer, which opens the database again or gives the reason.
                Err(failure) if failure.is_consequence() => {
                    let mut seen = self.turns();
                    while *seen == turns {
                        seen = self.turned.wait(seen).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                loaded => return loaded.map_err(|e| self.fail(e)),
            }
        }
    }
}

type Loaded = Result<Vec<(Key, Row)>, StoreError>;

pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Closed, NAME, "")
}
