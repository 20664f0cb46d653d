//! The disk fails at any one call: the error is told, nothing acknowledged is lost, and nothing is tried
//! again but by opening the store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod disk;

use std::collections::BTreeSet;
use std::io::ErrorKind;

use byway_api::{Load, RouteStore, StoreErrorKind};
use byway_store_redb::{RedbConfig, RedbStore};
use common::{Random, durable, expect_acknowledged, relaxed, routes};
use disk::{Call, Cut, Disk, cut};

const BATCHES: u64 = 12;

fn config() -> RedbConfig {
    let mut config = RedbConfig::default();
    // So little that committed pages must be read again.
    config.cache = 8 * 1024;
    config
}

/// What a store acknowledged until it failed.
#[derive(Default)]
struct Acknowledged {
    batches: BTreeSet<u64>,
    relaxed: BTreeSet<u64>,
    failed: Option<StoreErrorKind>,
}

/// Writes and reads until something fails.
async fn use_it(store: &RedbStore, from: u64) -> Acknowledged {
    let mut done = Acknowledged::default();
    for n in from..from + BATCHES {
        let calls = async {
            store.apply(&[relaxed(n)]).await?;
            done.relaxed.insert(n);
            store.apply(&durable(n)).await?;
            done.batches.insert(n);
            store.load(Load::Outbox, None, 4096).await?;
            store.load(Load::Routes { user: Some(common::user()) }, None, 1).await
        };
        if let Err(error) = calls.await {
            done.failed = Some(error.kind());
            break;
        }
    }
    done
}

/// The calls of a run that meets no failure.
async fn calls_of_a_run() -> Vec<Call> {
    let disk = Disk::default();
    let store = disk.open(config()).unwrap();
    assert_eq!(use_it(&store, 0).await.failed, None);
    store.close().await.unwrap();
    let calls = disk.calls();
    for call in [Call::Len, Call::Read, Call::Write, Call::SetLen, Call::Sync] {
        assert!(calls.contains(&call), "no {call:?} among {} calls", calls.len());
    }
    calls
}

#[tokio::test]
async fn an_error_at_any_call_is_told_and_loses_nothing() {
    let (mut random, seed) = Random::seeded();
    let calls = calls_of_a_run().await;
    let mut told = 0;
    for (n, call) in calls.iter().enumerate() {
        let context = format!("BYWAY_STORE_SEED={seed}, {call:?}, call {n} of {}", calls.len());
        let disk = Disk::default();
        disk.fail_at(n, ErrorKind::Other);
        let mut done = Acknowledged::default();
        if let Ok(store) = disk.open(config()) {
            done = use_it(&store, 0).await;
            if done.failed.is_some() {
                told += 1;
                assert_eq!(done.failed, Some(StoreErrorKind::Io), "{context}");
                let refused = [
                    store.apply(&durable(1000)).await.map(drop),
                    store.load(Load::Outbox, None, 1).await.map(drop),
                    store.load(Load::Outbox, None, 4096).await.map(drop),
                    store.close().await,
                ];
                for refused in refused {
                    let error = refused.expect_err(&context);
                    assert_eq!(error.kind(), StoreErrorKind::Io, "{context}: {error}");
                    assert!(error.to_string().contains("open the store again"), "{context}: {error}");
                }
            } else {
                // A read ahead, or what is done while closing: it is made good when the store is opened.
                let _ = store.close().await;
            }
        }
        // The process goes on, or the power fails as well.
        let made = disk.history();
        disk.heal();
        if !done.batches.is_empty() {
            let Cut { bytes, .. } = cut(&made, true, &mut random);
            let store = Disk::holding(bytes).open(config()).unwrap_or_else(|e| panic!("{context}, cut: {e}"));
            expect_acknowledged(&store, &done.batches, &context).await;
        }
        if done.failed.is_some() || !done.batches.is_empty() {
            let store = disk.open(config()).unwrap_or_else(|e| panic!("{context}: {e}"));
            expect_acknowledged(&store, &done.batches, &context).await;
            assert_eq!(use_it(&store, 2000).await.failed, None, "{context}");
            store.close().await.expect(&context);
        }
    }
    assert!(told > calls.len() / 4, "only {told} of {} failures were told", calls.len());
}

/// A full disk refuses what does not fit, and the same store goes on when there is room: with everything
/// that it acknowledged, relaxed writes that were not on the disk yet included.
#[tokio::test]
async fn a_store_goes_on_after_a_full_disk() {
    let calls = calls_of_a_run().await;
    let mut refused = 0;
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| matches!(call, Call::Write | Call::SetLen)) {
        let context = format!("{call:?}, call {n} of {}", calls.len());
        let disk = Disk::default();
        let store = disk.open(config()).unwrap();
        let Some(n) = n.checked_sub(disk.calls().len()) else {
            store.close().await.unwrap();
            continue;
        };
        disk.fail_at(n, ErrorKind::StorageFull);
        let mut done = use_it(&store, 0).await;
        if let Some(failed) = done.failed {
            refused += 1;
            assert_eq!(failed, StoreErrorKind::DiskFull, "{context}");
            let there = routes(&store).await;
            assert!(done.relaxed.is_subset(&there), "{context}: relaxed writes are gone: {there:?}");
            let more = use_it(&store, 2000).await;
            assert_eq!(more.failed, None, "{context}");
            done.batches.extend(more.batches);
            expect_acknowledged(&store, &done.batches, &context).await;
        }
        let _ = store.close().await;
        let store = disk.open(config()).unwrap_or_else(|e| panic!("{context}: {e}"));
        expect_acknowledged(&store, &done.batches, &context).await;
        store.close().await.unwrap();
    }
    assert!(refused > 20, "only {refused} writes were refused");
}

/// A flush that fails for want of room is still a flush that failed.
#[tokio::test]
async fn a_full_disk_that_is_noticed_by_a_flush_ends_the_store() {
    let disk = Disk::default();
    let store = disk.open(config()).unwrap();
    store.apply(&durable(1)).await.unwrap();
    disk.fail_next(Call::Sync, ErrorKind::StorageFull);
    let error = store.apply(&durable(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
    assert_eq!(store.apply(&durable(3)).await.unwrap_err().kind(), StoreErrorKind::Io);
    store.close().await.unwrap_err();
    let store = disk.open(config()).unwrap();
    let there = common::batches(&store, "after the flush").await;
    assert!(there.contains(&1), "{there:?}");
}
