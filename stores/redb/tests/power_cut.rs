//! What was acknowledged survives a power cut, which forgets any part of what was not synced.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod disk;

use std::sync::Arc;
use std::time::Duration;

use byway_api::{Applied, RouteStore, Write};
use byway_store_redb::{RedbConfig, RedbStore};
use common::{Random, batches, durable, expect_acknowledged, forget, relaxed, routes};
use disk::{Cut, Disk, Event, cut};

const CUTS: u64 = 300;

fn config() -> RedbConfig {
    let mut config = RedbConfig::default();
    // Some pages go to the disk before they are committed.
    config.cache = 128 * 1024;
    config
}

/// What callers do with a store, from number `n` on; what it acknowledges is told to the disk.
type Acts = fn(u64) -> Vec<Write>;

/// What happened on a disk, from the moment on at which the store had been made.
async fn history(acts: Acts, forgets: bool) -> (usize, Vec<Event>) {
    const CALLERS: u64 = 8;
    const BATCHES: u64 = 160;
    const KEPT: u64 = 40;
    let disk = Disk::default();
    let store = Arc::new(disk.open(config()).unwrap());
    let made = disk.history().len();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (store, disk) = (Arc::clone(&store), disk.clone());
        callers.spawn(async move {
            for n in (caller..BATCHES).step_by(usize::try_from(CALLERS).unwrap()) {
                assert_eq!(store.apply(&[relaxed(n)]).await.unwrap(), [Applied::Done]);
                store.apply(&acts(n)).await.unwrap();
                disk.tell(Event::Acknowledged(n));
                // Room that is used again: a page that is still needed must not be.
                if forgets && n >= KEPT {
                    disk.tell(Event::Forgotten(n - KEPT));
                    assert_eq!(store.apply(&forget(n - KEPT)).await.unwrap(), [Applied::Done; 3]);
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    store.close().await.unwrap();
    (made, disk.history())
}

fn some_cut(made: usize, events: &[Event], syncs: bool, random: &mut Random) -> (Cut, usize) {
    let happened = made + random.place(events.len() - made);
    (cut(&events[..happened], syncs, random), happened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut() {
    let (mut random, seed) = Random::seeded();
    let (made, events) = history(durable, true).await;
    let syncs = events.iter().filter(|event| matches!(event, Event::Sync)).count();
    assert!(syncs > 20, "only {syncs} syncs");
    for n in 0..CUTS {
        let (Cut { bytes, acknowledged }, happened) = some_cut(made, &events, true, &mut random);
        let context = format!("BYWAY_STORE_SEED={seed}, cut {n}, after {happened} of {} events", events.len());
        let store = Disk::holding(bytes).open(config()).unwrap_or_else(|e| panic!("{context}: {e}"));
        expect_acknowledged(&store, &acknowledged, &context).await;
        store.apply(&[relaxed(5000)]).await.unwrap();
        assert_eq!(store.apply(&durable(5000)).await.expect(&context), [Applied::Done; 2]);
        store.close().await.expect(&context);
    }
}

/// A second cut while the store is recovering from the first one.
#[tokio::test]
async fn a_power_cut_during_recovery_loses_nothing() {
    let (mut random, seed) = Random::seeded();
    let (made, events) = history(durable, true).await;
    for n in 0..CUTS / 6 {
        let (Cut { bytes, acknowledged }, _) = some_cut(made, &events, true, &mut random);
        let context = format!("BYWAY_STORE_SEED={seed}, cut {n}");
        let recovering = Disk::default();
        redb::StorageBackend::write(&recovering, 0, &bytes).unwrap();
        redb::StorageBackend::sync_data(&recovering).unwrap();
        let before = recovering.history().len();
        recovering.open(config()).expect(&context).close().await.expect(&context);
        let (again, _) = some_cut(before, &recovering.history(), true, &mut random);
        let store = Disk::holding(again.bytes).open(config()).unwrap_or_else(|e| panic!("{context}: {e}"));
        expect_acknowledged(&store, &acknowledged, &context).await;
        store.close().await.expect(&context);
    }
}

fn open(bytes: Vec<u8>) -> Option<RedbStore> {
    Disk::holding(bytes).open(config()).ok()
}

/// The tests above can fail: on a disk that only says that it has synced, rows are lost.
#[tokio::test]
async fn a_lying_disk_is_found_out() {
    let (mut random, seed) = Random::seeded();
    let (made, events) = history(durable, false).await;
    let mut losses = 0;
    for _ in 0..CUTS / 5 {
        let (Cut { bytes, acknowledged }, _) = some_cut(made, &events, false, &mut random);
        let kept = match open(bytes) {
            Some(store) => acknowledged.is_subset(&batches(&store, "lying disk").await),
            None => false,
        };
        losses += u64::from(!kept);
    }
    assert!(losses > CUTS / 50, "BYWAY_STORE_SEED={seed}: {losses} of {} cuts lost something", CUTS / 5);
}

/// And so can they on a store that acknowledges what it committed with `Durability::None`, which is what
/// it does with relaxed writes.
#[tokio::test]
async fn a_commit_that_is_not_durable_is_found_out() {
    let (mut random, seed) = Random::seeded();
    let (made, events) = history(|n| vec![relaxed(n + 1000)], false).await;
    let (mut losses, mut opened) = (0, 0);
    for _ in 0..CUTS / 5 {
        let (Cut { bytes, acknowledged }, _) = some_cut(made, &events, true, &mut random);
        let Some(store) = open(bytes) else { continue };
        opened += 1;
        let routes = routes(&store).await;
        losses += u64::from(!acknowledged.iter().all(|n| routes.contains(&(n + 1000))));
    }
    assert_eq!(opened, CUTS / 5, "BYWAY_STORE_SEED={seed}: the store does not open");
    assert!(losses > CUTS / 50, "BYWAY_STORE_SEED={seed}: {losses} of {opened} cuts lost something");
}

/// What is relaxed is on the disk after about the time that the configuration says, without a durable
/// batch.
#[tokio::test]
async fn relaxed_writes_come_to_the_disk_by_themselves() {
    let disk = Disk::default();
    let mut config = config();
    config.relaxed_flush = Duration::from_millis(20);
    let store = disk.open(config.clone()).unwrap();
    let before = store.durable_commits();
    store.apply(&[relaxed(1)]).await.unwrap();
    while store.durable_commits() == before {
        tokio::task::yield_now().await;
    }
    let events = disk.history();
    let synced = events.iter().rposition(|event| matches!(event, Event::Sync)).unwrap();
    let bytes = cut(&events[..=synced], true, &mut Random::seeded().0).bytes;
    let again = Disk::holding(bytes).open(config).unwrap();
    assert_eq!(routes(&again).await.len(), 1);
    store.close().await.unwrap();
}
