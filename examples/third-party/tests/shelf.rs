//! The shelf keeps the promises of `RouteStore`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError, async_trait};
use byway_testkit::store::StoreFixture;
use byway_testkit::store::durability::StoreInFile;
use byway_third_party::shelf::{Shelf, ShelfConfig};
use sha2::{Digest as _, Sha256};
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

struct OnDisk;

#[async_trait]
impl StoreInFile for OnDisk {
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(Shelf::open(path, ShelfConfig::default())?))
    }
    async fn newer(&self, path: &Path) -> bool {
        let mut bytes = fs::read(path).unwrap();
        let content = bytes.len() - 32;
        bytes[15] = 2;
        let sum = Sha256::digest(&bytes[..content]);
        bytes[content..].copy_from_slice(&sum);
        fs::write(path, bytes).is_ok()
    }
}

byway_testkit::store_durability_conformance!(durability, OnDisk);
