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
use byway_store_sqlite::{SqliteConfig, SqliteStore};
use common::{durable, expect_acknowledged, message, peer, relaxed};
use rusqlite::Connection;
use tempfile::TempDir;

/// A closed store with some rows.
async fn store_with_rows() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let store = SqliteStore::open(&file).unwrap();
    for n in 0..50 {
        store.apply(&[relaxed(n)]).await.unwrap();
        store.apply(&durable(n)).await.unwrap();
    }
    store.close().await.unwrap();
    (directory, file)
}

fn refused(file: &Path) -> StoreError {
    let before = fs::read(file).unwrap();
    let error = SqliteStore::open(file).unwrap_err();
    assert!(fs::read(file).unwrap() == before, "the file was changed: {error}");
    error
}

#[tokio::test]
async fn a_closed_store_is_one_file_and_its_lock() {
    let (directory, _) = store_with_rows().await;
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["store.db", "store.db.lock"]);
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let directory = TempDir::new().unwrap();
    for (name, content) in
        [("text", b"hello, this is somebody's diary".as_slice()), ("short", b"x"), ("zeros", &[0; 8192])]
    {
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        let error = refused(&file);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}: {error}");
        assert!(!file.with_file_name(format!("{name}-wal")).exists(), "{name}");
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    fs::write(&file, b"").unwrap();
    SqliteStore::open(&file).unwrap();
}

#[test]
fn a_missing_directory_is_an_error() {
    let directory = TempDir::new().unwrap();
    assert_eq!(SqliteStore::open(directory.path().join("no/store.db")).unwrap_err().kind(), StoreErrorKind::Io);
}

#[test]
fn the_database_of_another_application_is_refused() {
    let directory = TempDir::new().unwrap();
    for (name, id) in [("without_id", 0), ("with_id", 0x1234_5678)] {
        let file = directory.path().join(name);
        let conn = Connection::open(&file).unwrap();
        conn.execute_batch(&format!("PRAGMA application_id = {id}; CREATE TABLE theirs (x)")).unwrap();
        drop(conn);
        let error = refused(&file);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains("another application"), "{error}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let (_directory, file) = store_with_rows().await;
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("version 99"), "{error}");
}

/// A newer program may have been killed: its rows stand in the log, and closing must not copy them.
#[tokio::test]
async fn a_newer_file_with_a_log_is_left_with_its_log() {
    let (directory, file) = store_with_rows().await;
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch("PRAGMA user_version = 99; INSERT INTO blocked VALUES ('mallory')").unwrap();
    let copy = directory.path().join("copy.db");
    fs::copy(&file, &copy).unwrap();
    fs::copy(file.with_file_name("store.db-wal"), copy.with_file_name("copy.db-wal")).unwrap();
    drop(conn);
    let log = fs::read(copy.with_file_name("copy.db-wal")).unwrap();
    assert!(!log.is_empty());
    assert_eq!(refused(&copy).kind(), StoreErrorKind::NewerSchema);
    assert!(fs::read(copy.with_file_name("copy.db-wal")).unwrap() == log, "the log was changed");
}

#[tokio::test]
async fn damage_is_found_where_it_is_met() {
    let (_directory, file) = store_with_rows().await;
    let whole = fs::read(&file).unwrap();
    const PAGE: usize = 4096;
    let mut found = 0;
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        // Behind the header of the database, which stands on the first page.
        let start = if page == 0 { 100 } else { page * PAGE };
        damaged[start..(page + 1) * PAGE].fill(0xa5);
        fs::write(&file, &damaged).unwrap();
        found += usize::from(meets_damage(&file).await);
    }
    // Pages of content alone have no structure that could be wrong.
    assert!(found > 10, "{found} of {} damaged pages were noticed", whole.len() / PAGE);
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(meets_damage(&file).await, "half of the file is missing");
}

/// Opens without verifying and reads everything; true if damage was reported. Any other error is wrong.
async fn meets_damage(file: &Path) -> bool {
    let before = fs::read(file).unwrap();
    let mut config = SqliteConfig::default();
    config.verify = false;
    let store = match SqliteStore::open_with(file, config) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            assert!(fs::read(file).unwrap() == before, "the damaged file was changed");
            return true;
        }
    };
    let mut damaged = false;
    for what in [Load::Outbox, Load::Inbox, Load::Seen, Load::Routes { user: None }] {
        if let Err(error) = store.load(what, None, 4096).await {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            damaged = true;
        }
    }
    if damaged {
        let refused = store.apply(&durable(1000)).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Corrupt, "a damaged file is not written any more");
    }
    assert_eq!(store.close().await.is_err(), damaged, "closing tells it too");
    if damaged {
        assert!(fs::read(file).unwrap() == before, "the damaged file was changed");
    }
    damaged
}

#[tokio::test]
async fn verifying_finds_damage_when_the_store_is_opened() {
    let (_directory, file) = store_with_rows().await;
    let mut damaged = fs::read(&file).unwrap();
    let last_page = damaged.len() - 4096;
    // A page in the middle: with its halves swapped it is a page of nothing.
    damaged[last_page / 2 / 4096 * 4096..][..4096].rotate_left(2048);
    fs::write(&file, &damaged).unwrap();
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
}

fn cap(pages: u32) -> SqliteConfig {
    let mut config = SqliteConfig::default();
    config.max_pages = Some(pages);
    config
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let store = SqliteStore::open_with(&file, cap(100)).unwrap();
    let stored = fill(&store).await;
    let forget = |n| Write::Forget { message: message(n), to_peer: Some(peer()) };
    // Deleting makes room, also beside callers who still want to add.
    let first = *stored.first().unwrap();
    let take = Write::Take { from_peer: peer(), epoch: first, seq: 1 };
    let unsee = Write::Unsee { from_peer: peer(), epoch: first };
    let big = durable(4);
    let room = [forget(first), take, unsee];
    let (added, freed) = tokio::join!(store.apply(&big), store.apply(&room));
    assert!(added.is_err() || added.unwrap() == [Applied::Duplicate; 2]);
    assert_eq!(freed.unwrap(), [Applied::Done; 3]);
    let left = stored.range(first + 1..).copied().collect();
    expect_acknowledged(&store, &left, "full").await;
    store.close().await.unwrap();

    let store = SqliteStore::open_with(&file, cap(10_000)).unwrap();
    expect_acknowledged(&store, &left, "full, and opened again").await;
    store.apply(&[relaxed(5000)]).await.unwrap();
    store.apply(&durable(5000)).await.unwrap();
    store.close().await.unwrap();
}

/// Adds until the disk is full, by several callers at once; what was acknowledged.
async fn fill(store: &SqliteStore) -> BTreeSet<u64> {
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

async fn add(store: &SqliteStore, n: u64) -> Result<(), StoreError> {
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
    let Some(disk) = Mounted::tmpfs("a_full_disk_refuses_and_keeps_and_goes_on", "2m") else { return };
    let file = disk.0.path().join("store.db");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 512 * 1024]).unwrap();
    let store = SqliteStore::open(&file).unwrap();
    let stored = fill(&store).await;
    assert!(!stored.is_empty());
    expect_acknowledged(&store, &stored, "on a full disk").await;
    fs::remove_file(&ballast).unwrap();
    add(&store, 5000).await.unwrap();
    store.close().await.unwrap();
    let store = SqliteStore::open(&file).unwrap();
    expect_acknowledged(&store, &stored, "the disk was full").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_without_room_for_a_new_store_is_full() {
    let Some(disk) = Mounted::tmpfs("a_disk_without_room_for_a_new_store_is_full", "64k") else { return };
    fs::write(disk.0.path().join("ballast"), vec![0; 60 * 1024]).unwrap();
    let error = SqliteStore::open(disk.0.path().join("store.db")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::DiskFull, "{error}");
}

/// Permissions do not bind root, a read-only file system does.
#[tokio::test]
async fn a_read_only_disk_is_refused() {
    let Some(disk) = Mounted::tmpfs("a_read_only_disk_is_refused", "4m") else { return };
    let file = disk.0.path().join("store.db");
    let store = SqliteStore::open(&file).unwrap();
    store.apply(&durable(1)).await.unwrap();
    store.close().await.unwrap();
    disk.read_only();
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

/// Only the database cannot be written; its directory and lock can.
#[cfg(unix)]
#[tokio::test]
async fn a_read_only_file_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, file) = store_with_rows().await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let bound = if fs::OpenOptions::new().write(true).open(&file).is_err() {
        None
    } else {
        // Root writes anyway: bind a read-only view of the file over it.
        let bind = |args: &[&str]| Command::new("mount").args(args).arg(&file).output().unwrap();
        let this = file.to_str().unwrap();
        let done = bind(&["--bind", this]);
        if !done.status.success() {
            println!("skipped: a_read_only_file_is_refused: {}", String::from_utf8_lossy(&done.stderr).trim());
            return;
        }
        assert!(bind(&["-o", "remount,bind,ro"]).status.success());
        Some(Unmount(file.clone()))
    };
    let error = refused(&file);
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error}");
    drop(bound);
    drop(directory);
}

#[cfg(unix)]
struct Unmount(PathBuf);

#[cfg(unix)]
impl Drop for Unmount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|done| done.success()) || std::thread::panicking(), "a test mount is left");
    }
}

/// A store whose handle is dropped with calls on the way: they end, whichever way.
#[tokio::test]
async fn calls_on_the_way_end_when_the_store_closes() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(SqliteStore::open(directory.path().join("store.db")).unwrap());
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
    let store = SqliteStore::open(store.path()).unwrap();
    let stored = common::all(&store, Load::Outbox).await.len();
    assert_eq!(stored, acknowledged.len(), "a refused call left a row, or an acknowledged one none");
    store.close().await.unwrap();
}

/// What a caller asks to be durable is durable, whatever the kind of the write.
#[tokio::test]
async fn a_durable_value_is_a_durable_commit_and_an_unchanged_store_is_none() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(directory.path().join("store.db")).unwrap();
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
