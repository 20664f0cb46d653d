//! The store suite can fail: each broken store fails exactly the promises it breaks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use byway_api::{RouteStore, StoreError, async_trait};
use byway_store_memory::MemoryStore;
use byway_testkit::promise::Outcome;
use byway_testkit::store::broken::{BrokenFixture, Fault};
use byway_testkit::store::{PROMISES, StoreFixture, boxed};

/// Compares with a model; it may see any fault.
const NET: &str = "random_batches_match_the_model";

#[derive(Debug, Default)]
struct InMemory(Mutex<Option<MemoryStore>>);

#[async_trait]
impl StoreFixture for InMemory {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        let mut closed = self.0.lock().unwrap();
        let handle = closed.get_or_insert_with(|| {
            let first = MemoryStore::new();
            first.end();
            first
        });
        Ok(Arc::new(handle.reopen()?))
    }
}

#[tokio::test]
async fn each_broken_store_fails_exactly_its_promises() {
    for (fault, breaks) in Fault::ALL {
        let mut failed = BTreeSet::new();
        for promise in PROMISES.iter().filter(|promise| promise.name() != NET) {
            let fixture = boxed(BrokenFixture::new(InMemory::default(), *fault));
            if let Err(broken) = promise.test(&*fixture, fixture.deadline()).await {
                println!("{fault:?}: {}: {broken}", promise.name());
                failed.insert(promise.name());
            }
        }
        assert_eq!(failed, breaks.iter().copied().collect(), "{fault:?}");
    }
}

#[tokio::test]
async fn the_model_sees_what_has_no_test_of_its_own() {
    for fault in [Fault::OverwritesOnAppend, Fault::ForgetsMarks, Fault::KeepsContent, Fault::RepeatsRows] {
        let net = PROMISES.iter().find(|promise| promise.name() == NET).unwrap();
        let fixture = boxed(BrokenFixture::new(InMemory::default(), fault));
        let broken = net.test(&*fixture, fixture.deadline()).await.unwrap_err().to_string();
        assert!(broken.contains("BYWAY_STORE_SEED="), "the seed is not told: {broken}");
    }
}

#[tokio::test]
async fn the_sound_store_keeps_or_skips_every_promise() {
    let mut skipped = Vec::new();
    for promise in PROMISES {
        let fixture = boxed(InMemory::default());
        match promise.test(&*fixture, fixture.deadline()).await {
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Skipped(_)) => skipped.push(promise.name()),
            Err(broken) => panic!("{}: {broken}", promise.name()),
        }
    }
    let of_disks = [
        "a_durable_batch_is_one_durable_commit",
        "relaxed_batches_share_durable_commits",
        "callers_share_durable_commits",
    ];
    assert_eq!(skipped, of_disks);
}
