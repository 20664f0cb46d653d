//! The memory store keeps the promises of `RouteStore`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use byway_api::{RouteStore, StoreError, async_trait};
use byway_store_memory::MemoryStore;
use byway_testkit::store::StoreFixture;

/// One set of data in this process.
#[derive(Debug, Default)]
struct InMemory(Mutex<Option<MemoryStore>>);

#[async_trait]
impl StoreFixture for InMemory {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        let mut data = self.0.lock().unwrap();
        // The fixture keeps a closed handle to find the data again, never an open one.
        let (store, handle) = match data.take() {
            None => {
                let first = MemoryStore::new();
                first.end();
                (first.reopen(), first)
            }
            Some(handle) => (handle.reopen(), handle),
        };
        *data = Some(handle);
        Ok(Arc::new(store?))
    }
}

byway_testkit::store_conformance!(memory, InMemory::default());
