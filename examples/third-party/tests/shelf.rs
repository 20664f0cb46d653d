//! The shelf keeps the promises of `RouteStore`.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_testkit::store::StoreFixture;
use byway_third_party::shelf::{Shelf, ShelfConfig};
use tempfile::TempDir;

struct InFile(TempDir);

#[async_trait]
impl StoreFixture for InFile {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(Shelf::open(self.0.path().join("shelf"), ShelfConfig::default())?))
    }
    fn has_disk(&self) -> bool {
        true
    }
}

byway_testkit::store_conformance!(shelf, InFile(tempfile::tempdir().unwrap()));

byway_testkit::store_durability_conformance!(durability, |path: PathBuf| async move {
    Ok(Arc::new(Shelf::open(path, ShelfConfig::default())?) as Arc<dyn RouteStore>)
});
