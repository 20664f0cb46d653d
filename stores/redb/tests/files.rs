//! Files that are damaged, foreign, newer, read-only, or on a full disk: an error of that kind, the
//! file as it was, and nothing acknowledged lost.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use byway_api::{Applied, Durability, Load, RouteStore, StoreError, StoreErrorKind, Write};
use byway_store_redb::{RedbConfig, RedbStore};
use common::{all, durable, expect_acknowledged, forget, relaxed};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

/// A closed store with some rows.
async fn store_with_rows() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    let store = RedbStore::open(&file).unwrap();
    for n in 0..50 {
        store.apply(&[relaxed(n)]).await.unwrap();
        store.apply(&durable(n)).await.unwrap();
    }
    store.close().await.unwrap();
    (directory, file)
}

fn refused(file: &Path) -> StoreError {
    let before = fs::read(file).unwrap();
    let error = RedbStore::open(file).unwrap_err();
    assert!(fs::read(file).unwrap() == before, "the file was changed: {error}");
    error
}

/// Writes to the database behind the back of the store.
fn tamper(file: &Path, table: &str, key: &str, value: u64) {
    let database = Database::create(file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<&str, u64>::new(table)).unwrap().insert(key, value).unwrap();
    transaction.commit().unwrap();
    database.close().unwrap();
}

#[tokio::test]
async fn a_closed_store_is_one_file_and_its_lock() {
    let (directory, _) = store_with_rows().await;
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["store.redb", "store.redb.lock"]);
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let directory = TempDir::new().unwrap();
    let long = [b'x'; 100_000];
    for (name, content) in [
        ("text", b"hello, this is somebody's diary".as_slice()),
        ("short", b"x"),
        ("long", &long),
        ("zeros", &[0; 8192]),
        ("sqlite", b"SQLite format 3\0"),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        let error = refused(&file);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains("move it away"), "{name}: {error}");
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    fs::write(&file, b"").unwrap();
    RedbStore::open(&file).unwrap();
}

/// The power failed while the store was made: under its own name there is nothing yet.
#[tokio::test]
async fn a_half_made_store_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    fs::write(directory.path().join("store.redb.new"), [0; 5000]).unwrap();
    RedbStore::open(&file).unwrap().close().await.unwrap();
    assert!(!directory.path().join("store.redb.new").exists());
    RedbStore::open(&file).unwrap().close().await.unwrap();
}

#[test]
fn a_missing_directory_is_an_error() {
    let directory = TempDir::new().unwrap();
    assert_eq!(RedbStore::open(directory.path().join("no/store.redb")).unwrap_err().kind(), StoreErrorKind::Io);
}

#[test]
fn the_database_of_another_application_is_refused() {
    let directory = TempDir::new().unwrap();
    for table in ["theirs", "rows", "byway"] {
        let file = directory.path().join(table);
        tamper(&file, table, "key", 1);
        let error = refused(&file);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{table}");
        assert!(error.to_string().contains("another application"), "{error}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let (_directory, file) = store_with_rows().await;
    tamper(&file, "byway", "version", 99);
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("version 99"), "{error}");
    tamper(&file, "byway", "version", 1);
    let store = RedbStore::open(&file).unwrap();
    expect_acknowledged(&store, &(0..50).collect(), "its own version again").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_second_store_is_told_who_has_the_file() {
    let (_directory, file) = store_with_rows().await;
    let store = RedbStore::open(&file).unwrap();
    let error = RedbStore::open(&file).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    let said = error.to_string();
    assert!(said.contains("another store in this process"), "{said}");
    assert!(said.contains("a profile directory of its own"), "{said}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn damage_is_found_when_the_store_is_opened() {
    const PAGE: usize = 4096;
    let (_directory, file) = store_with_rows().await;
    let whole = fs::read(&file).unwrap();
    let (mut found, mut harmless) = (0, 0);
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0xa5);
        if damaged == whole {
            continue;
        }
        fs::write(&file, &damaged).unwrap();
        match RedbStore::open(&file) {
            // A page that nothing refers to.
            Ok(store) => {
                expect_acknowledged(&store, &(0..50).collect(), &format!("page {page}")).await;
                store.close().await.unwrap();
                harmless += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "page {page}: {error}");
                assert!(fs::read(&file).unwrap() == damaged, "page {page}: the damaged file was changed");
                found += 1;
            }
        }
    }
    assert!(found > 20, "{found} damaged pages were noticed and {harmless} held nothing");
    for end in [whole.len() / 2, whole.len() - 1, PAGE, 100, 1] {
        fs::write(&file, &whole[..end]).unwrap();
        let error = refused(&file);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "only {end} bytes are left: {error}");
    }
}

/// Single bits, also in the header: told, or without any effect.
#[tokio::test]
async fn a_flipped_bit_is_found_or_harmless() {
    let (mut random, seed) = common::Random::seeded();
    let (_directory, file) = store_with_rows().await;
    let whole = fs::read(&file).unwrap();
    for n in 0..120 {
        let within = if n < 60 { 512 } else { whole.len() };
        let (at, bit) = (random.place(within - 1), random.below(8));
        let context = format!("BYWAY_STORE_SEED={seed}: bit {bit} of byte {at}");
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        fs::write(&file, &damaged).unwrap();
        match RedbStore::open(&file) {
            Ok(store) => {
                expect_acknowledged(&store, &(0..50).collect(), &context).await;
                store.close().await.expect(&context);
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{context}: {error}");
                assert!(fs::read(&file).unwrap() == damaged, "{context}: the damaged file was changed");
            }
        }
    }
}

fn cap(bytes: u64) -> RedbConfig {
    let mut config = RedbConfig::default();
    config.max_bytes = Some(bytes);
    config
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    let store = RedbStore::open_with(&file, cap(1024 * 1024)).unwrap();
    let stored = fill(&store).await;
    // Deleting makes room, also beside callers who still want to add.
    let first = *stored.first().unwrap();
    let (big, room) = (durable(4), forget(first));
    let (added, freed) = tokio::join!(store.apply(&big), store.apply(&room));
    assert!(added.is_err() || added.unwrap() == [Applied::Duplicate; 2]);
    assert_eq!(freed.unwrap(), [Applied::Done; 3]);
    let second = *stored.range(first + 1..).next().unwrap();
    assert_eq!(store.apply(&forget(second)).await.unwrap(), [Applied::Done; 3], "also alone");
    let left = stored.range(second + 1..).copied().collect();
    expect_acknowledged(&store, &left, "full").await;
    store.close().await.unwrap();

    let store = RedbStore::open_with(&file, cap(100 * 1024 * 1024)).unwrap();
    expect_acknowledged(&store, &left, "full, and opened again").await;
    store.apply(&[relaxed(5000)]).await.unwrap();
    store.apply(&durable(5000)).await.unwrap();
    store.close().await.unwrap();
}

/// Adds until the disk is full, by several callers at once; what was acknowledged.
async fn fill(store: &RedbStore) -> BTreeSet<u64> {
    let mut stored = BTreeSet::new();
    let mut full = 0;
    for n in (0..).step_by(2) {
        let (a, b) = tokio::join!(add(store, n), add(store, n + 1));
        for (n, result) in [(n, a), (n + 1, b)] {
            match result {
                Ok(()) => drop(stored.insert(n)),
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::DiskFull, "{error}");
                    full += 1;
                }
            }
        }
        if full > 4 {
            return stored;
        }
    }
    unreachable!("no disk is that large")
}

async fn add(store: &RedbStore, n: u64) -> Result<(), StoreError> {
    store.apply(&[relaxed(n)]).await?;
    store.apply(&durable(n)).await.map(drop)
}

/// A file system of its own, unmounted when dropped.
struct Mounted(TempDir);

impl Mounted {
    /// `None`, with the reason printed, where mounting is not permitted.
    fn tmpfs(test: &str, size: &str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "byway-test"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(directory)),
            Ok(done) => {
                println!("skipped: {test}: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: {test}: {error}");
                None
            }
        }
    }

    fn read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0.path()).status();
        assert!(done.is_ok_and(|done| done.success()) || std::thread::panicking(), "a test mount is left");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_and_goes_on() {
    let Some(disk) = Mounted::tmpfs("a_full_disk_refuses_and_keeps_and_goes_on", "3m") else { return };
    let file = disk.0.path().join("store.redb");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
    let store = RedbStore::open(&file).unwrap();
    let stored = fill(&store).await;
    assert!(!stored.is_empty());
    expect_acknowledged(&store, &stored, "on a full disk").await;
    fs::remove_file(&ballast).unwrap();
    add(&store, 5000).await.unwrap();
    store.close().await.unwrap();
    let store = RedbStore::open(&file).unwrap();
    expect_acknowledged(&store, &stored, "the disk was full").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_without_room_for_a_new_store_is_full() {
    let Some(disk) = Mounted::tmpfs("a_disk_without_room_for_a_new_store_is_full", "64k") else { return };
    fs::write(disk.0.path().join("ballast"), vec![0; 60 * 1024]).unwrap();
    let error = RedbStore::open(disk.0.path().join("store.redb")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::DiskFull, "{error}");
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    assert!(!disk.0.path().join("store.redb.new").exists(), "what was begun takes no room");
}

/// Permissions do not bind root, a read-only file system does.
#[tokio::test]
async fn a_read_only_disk_is_refused() {
    let Some(disk) = Mounted::tmpfs("a_read_only_disk_is_refused", "4m") else { return };
    let file = disk.0.path().join("store.redb");
    let store = RedbStore::open(&file).unwrap();
    store.apply(&durable(1)).await.unwrap();
    store.close().await.unwrap();
    disk.read_only();
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

/// A store whose handle is dropped with calls on the way: they end, whichever way.
#[tokio::test]
async fn calls_on_the_way_end_when_the_store_closes() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    let store = Arc::new(RedbStore::open(&file).unwrap());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200 {
        let store = Arc::clone(&store);
        calls.spawn(async move { (n, store.apply(&durable(n)).await) });
    }
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    let mut acknowledged = BTreeSet::new();
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            (n, Ok(_)) => drop(acknowledged.insert(n)),
            (_, Err(error)) => assert_eq!(error.kind(), StoreErrorKind::Closed, "{error}"),
        }
    }
    let store = RedbStore::open(&file).unwrap();
    let stored = all(&store, Load::Outbox).await.len();
    assert_eq!(stored, acknowledged.len(), "a refused call left a row, or an acknowledged one none");
    store.close().await.unwrap();
}

/// What a caller asks to be durable is durable, whatever the kind of the write.
#[tokio::test]
async fn a_durable_value_is_a_durable_commit_and_an_unchanged_store_is_none() {
    let directory = TempDir::new().unwrap();
    let store = RedbStore::open(directory.path().join("store.redb")).unwrap();
    let value = |durability| Write::Meta { key: "k".into(), value: Some("v".into()), durability };
    let before = store.durable_commits();
    store.apply(&[value(Durability::Durable)]).await.unwrap();
    assert_eq!(store.durable_commits(), before + 1);
    store.apply(&durable(1)).await.unwrap();
    assert_eq!(store.durable_commits(), before + 2);
    assert_eq!(store.apply(&durable(1)).await.unwrap(), [Applied::Duplicate; 2]);
    assert_eq!(store.durable_commits(), before + 2, "there was nothing to write");
    store.apply(&[value(Durability::Relaxed)]).await.unwrap();
    assert_eq!(store.apply(&durable(1)).await.unwrap(), [Applied::Duplicate; 2]);
    assert_eq!(store.durable_commits(), before + 3, "the relaxed value became durable with it");
    store.close().await.unwrap();
    assert_eq!(store.durable_commits(), before + 3, "nothing was left to save");
}

/// A key of another load is refused, and the store goes on.
#[tokio::test]
async fn a_foreign_key_is_refused_and_does_no_harm() {
    let (_directory, file) = store_with_rows().await;
    let store = RedbStore::open(&file).unwrap();
    let page = store.load(Load::Outbox, None, 1).await.unwrap();
    let key = page[0].0.clone();
    for limit in [1, 4096] {
        let error = store.load(Load::Inbox, Some(key.clone()), limit).await.unwrap_err();
        assert!(error.to_string().contains("not of this load"), "{error}");
    }
    store.apply(&durable(100)).await.unwrap();
    store.close().await.unwrap();
}
