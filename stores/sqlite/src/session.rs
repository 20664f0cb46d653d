//! What the threads and the handle of one open store share.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use byway_api::{StoreError, StoreErrorKind};

use crate::error::{self, NAME};

#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    closed: AtomicBool,
    durable_commits: AtomicU64,
    /// Why nothing may be read or written any more.
    poison: OnceLock<(StoreErrorKind, String)>,
}

impl Session {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            closed: AtomicBool::new(false),
            durable_commits: AtomicU64::new(0),
            poison: OnceLock::new(),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether a call may go on.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::new(StoreErrorKind::Closed, NAME, ""));
        }
        self.check_poison()
    }

    pub(crate) fn check_poison(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            None => Ok(()),
            Some((kind, why)) => Err(StoreError::new(*kind, NAME, why.clone())),
        }
    }

    /// The store error of an error of SQLite. After one that leaves the file uncertain nothing is
    /// tried again: a second fsync would report success for pages that the kernel has dropped.
    pub(crate) fn fail(&self, error: rusqlite::Error) -> StoreError {
        if error::is_fatal(&error) {
            let kind = match error::kind(&error) {
                StoreErrorKind::Corrupt => StoreErrorKind::Corrupt,
                _ => StoreErrorKind::Io,
            };
            let error = error::of(&self.path, error);
            self.poison(kind, format!("open the store again; it failed before: {error}"));
            return StoreError::new(kind, NAME, "open the store again").with_source(error);
        }
        error::of(&self.path, error)
    }

    pub(crate) fn poison(&self, kind: StoreErrorKind, why: String) {
        // The first reason stands: later ones follow from it.
        let _ = self.poison.set((kind, why));
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    pub(crate) fn count_durable_commit(&self) {
        self.durable_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn durable_commits(&self) -> u64 {
        self.durable_commits.load(Ordering::Relaxed)
    }
}
