//! The log store keeps the promises of `RouteStore`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_custom_store::{LogConfig, LogStore};
use byway_testkit::store::StoreFixture;
use tempfile::TempDir;

/// One file in a directory of its own.
#[derive(Debug)]
struct InFile {
    path: PathBuf,
    config: LogConfig,
    _directory: TempDir,
}

impl InFile {
    fn new(config: LogConfig) -> Self {
        let directory = TempDir::new().unwrap();
        Self { path: directory.path().join("store.log"), config, _directory: directory }
    }
}

#[async_trait]
impl StoreFixture for InFile {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(LogStore::open(&self.path, self.config.clone())?))
    }

    fn has_disk(&self) -> bool {
        true
    }
}

/// A short queue, and a compaction every few batches.
fn cramped() -> LogConfig {
    let mut config = LogConfig::default();
    config.queue = 64;
    config.compact_from = 0;
    config
}

byway_testkit::store_conformance!(log, InFile::new(LogConfig::default()));
byway_testkit::store_conformance!(log_that_compacts, InFile::new(cramped()));
