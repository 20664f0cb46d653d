//! The sheet of keys keeps the promises of `KeyStore`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use byway_api::KeyStore;
use byway_testkit::keys::KeyStoreFixture;
use byway_third_party::sheet::Sheet;

struct InFile;

impl KeyStoreFixture for InFile {
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
        Arc::new(Sheet::new(directory.join("keys.txt")))
    }
    fn file(&self, directory: &Path) -> Option<PathBuf> {
        Some(directory.join("keys.txt"))
    }
}

byway_testkit::key_store_conformance!(sheet, InFile);
