//! A directory of its own for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use byway_api::{RouteStore, StoreError};
use tempfile::TempDir;

use super::Subject;
use crate::promise::Broken;

/// Where a store lives, and beside it what the test itself writes.
pub(super) struct Place {
    directory: TempDir,
}

pub(super) fn broken(what: &str, error: impl std::fmt::Display) -> Broken {
    Broken::new(format!("{what}: {error}"))
}

impl Place {
    pub(super) fn new() -> Result<Self, Broken> {
        let directory = TempDir::new().map_err(|e| broken("no temporary directory", e))?;
        let place = Self { directory };
        place.clear()?;
        Ok(place)
    }

    /// The directory of the store.
    pub(super) fn root(&self) -> PathBuf {
        // System calls show the path without symbolic links.
        self.directory.path().canonicalize().unwrap_or_else(|_| self.directory.path().to_owned()).join("profile")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.root().join("store.db")
    }

    /// A file of the test.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes the directory of the store empty.
    pub(super) fn clear(&self) -> Result<(), Broken> {
        let _ = fs::remove_dir_all(self.root());
        fs::create_dir(self.root()).map_err(|e| broken("no directory for the store", e))
    }

    /// What processes printed to their standard error, its end.
    pub(super) fn said(&self) -> String {
        const LAST: usize = 2000;
        let said = fs::read(self.beside("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(LAST)..]).into_owned()
    }

    pub(super) async fn open(&self, subject: &Subject) -> Result<Arc<dyn RouteStore>, StoreError> {
        subject.files.open(&self.store()).await
    }
}

/// Every file below a directory with its content, except scratch.
pub(super) fn content(subject: &Subject, root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, Broken> {
    let unreadable = |e| broken("the files of the store cannot be read", e);
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() {
                directories.push(path);
            } else if !subject.is_scratch(&path) {
                files.push((path.clone(), fs::read(&path).map_err(unreadable)?));
            }
        }
    }
    files.sort();
    Ok(files)
}
