//! Keys in a file and in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use byway::{FileKeys, MemoryKeys};
use byway_api::KeyStore;
use byway_testkit::key_store_conformance;
use byway_testkit::keys::KeyStoreFixture;

struct File;

impl KeyStoreFixture for File {
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
        Arc::new(FileKeys::new(directory.join("keys")))
    }

    fn file(&self, directory: &Path) -> Option<PathBuf> {
        Some(directory.join("keys"))
    }
}

key_store_conformance!(file, File);

/// One device for each directory; a restarted one has a clone.
#[derive(Default)]
struct Memory(std::sync::Mutex<std::collections::BTreeMap<PathBuf, MemoryKeys>>);

impl KeyStoreFixture for Memory {
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
        Arc::new(self.0.lock().unwrap().entry(directory.to_owned()).or_default().clone())
    }
}

key_store_conformance!(memory, Memory::default());
