//! The SQLite store keeps the promises of `RouteStore`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_store_sqlite::{SqliteConfig, SqliteStore};
use byway_testkit::store::StoreFixture;
use tempfile::TempDir;

/// One file in a directory of its own.
#[derive(Debug)]
struct InFile {
    path: PathBuf,
    config: SqliteConfig,
    _directory: TempDir,
}

impl InFile {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { path: directory.path().join("store.db"), config: SqliteConfig::default(), _directory: directory }
    }

    /// Queues so short that callers wait, a checkpoint every few batches, and every load by the reader thread.
    fn cramped() -> Self {
        let mut config = SqliteConfig::default();
        config.queue = 16;
        config.loads = 1;
        config.inline_rows = 0;
        config.checkpoint_pages = 50;
        config.journal_size_limit = 0;
        config.verify = false;
        Self { config, ..Self::new() }
    }
}

#[async_trait]
impl StoreFixture for InFile {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(SqliteStore::open_with(&self.path, self.config.clone())?))
    }

    fn has_disk(&self) -> bool {
        true
    }
}

byway_testkit::store_conformance!(sqlite, InFile::new());
byway_testkit::store_conformance!(sqlite_with_short_queues, InFile::cramped());
