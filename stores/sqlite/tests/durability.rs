//! The SQLite store keeps what it acknowledged: through kill -9, power cuts, failing and full disks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_store_sqlite::{SqliteConfig, SqliteStore};
use byway_testkit::store::durability::StoreInFile;
use rusqlite::Connection;

/// The store with the log copied into the database every few batches.
struct Files;

#[async_trait]
impl StoreInFile for Files {
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError> {
        let mut config = SqliteConfig::default();
        config.checkpoint_pages = 60;
        Ok(Arc::new(SqliteStore::open_with(path, config)?))
    }

    /// The index of the log is shared memory and is made anew by whoever opens the store.
    fn scratch(&self) -> &'static [&'static str] {
        &[".lock", "-shm"]
    }

    async fn newer(&self, path: &Path) -> bool {
        Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        true
    }
}

byway_testkit::store_durability_conformance!(sqlite, Files);
