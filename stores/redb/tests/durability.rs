//! The redb store keeps what it acknowledged: through kill -9, power cuts, failing and full disks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_store_redb::RedbStore;
use byway_testkit::store::durability::StoreInFile;
use redb::{Database, TableDefinition};

struct Files;

#[async_trait]
impl StoreInFile for Files {
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(RedbStore::open(path)?))
    }

    async fn newer(&self, path: &Path) -> bool {
        const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("byway");
        let database = Database::open(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ABOUT).unwrap().insert("version", 99).unwrap();
        transaction.commit().unwrap();
        database.close().unwrap();
        true
    }
}

byway_testkit::store_durability_conformance!(redb_store, Files);
