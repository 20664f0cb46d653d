//! What was acknowledged survives a power cut, which forgets what was not fsynced.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod disk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use byway_api::{Load, RouteStore, Row};
use byway_store_sqlite::SqliteStore;
use common::{Random, Task, with_task};
use disk::{CALLS, Disk, Event, events};
use tempfile::TempDir;

#[test]
#[ignore = "the second process of the other tests"]
fn child() {
    common::child();
}

/// What a process with a store did; `None`, with the reason printed, where it cannot be watched.
fn watched(directory: &TempDir, test: &str) -> Option<(PathBuf, Vec<Event>)> {
    // Every batch is about twenty pages: enough for many checkpoints.
    const BATCHES: u64 = 80;
    let file = directory.path().join("store.db");
    let trace = directory.path().join("trace.txt");
    let mut command = Command::new("strace");
    command.args(["-f", "-xx", "-s", "70000", "-e", CALLS, "-o"]).arg(&trace).arg(std::env::current_exe().unwrap());
    with_task(
        &mut command,
        "child",
        Task { role: "append with many checkpoints", file: &file, first: 0, times: BATCHES },
    );
    match command.output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            println!("skipped: {test}: {}", String::from_utf8_lossy(&done.stderr).trim());
            return None;
        }
        Err(error) => {
            println!("skipped: {test}: strace: {error}");
            return None;
        }
    }
    let events = events(&std::fs::read_to_string(&trace).unwrap());
    let acknowledged = events.iter().filter(|event| matches!(event, Event::Acknowledged(_))).count();
    assert_eq!(acknowledged as u64, BATCHES, "the trace is not complete");
    let syncs = events.iter().filter(|event| matches!(event, Event::SyncEnds { .. })).count();
    assert!(syncs > 10, "only {syncs} fsyncs");
    Some((file, events))
}

/// The disk after the first `happened` events and a cut, and what was acknowledged by then.
fn cut(
    store: &Path,
    events: &[Event],
    happened: usize,
    forgets: Option<&'static str>,
    random: &mut Random,
) -> (TempDir, BTreeSet<u64>) {
    let mut disk = Disk::new(store, forgets);
    let mut acknowledged = BTreeSet::new();
    for event in &events[..happened] {
        disk.play(event);
        if let Event::Acknowledged(n) = event {
            acknowledged.insert(*n);
        }
    }
    let directory = TempDir::new().unwrap();
    disk.cut(random, directory.path());
    (directory, acknowledged)
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    const CUTS: usize = 200;
    let (mut random, seed) = Random::seeded();
    let directory = TempDir::new().unwrap();
    let Some((file, events)) = watched(&directory, "what_was_acknowledged_survives_a_power_cut") else { return };
    for n in 0..CUTS {
        let happened = random.below(events.len() as u64 + 1) as usize;
        let context = format!("BYWAY_STORE_SEED={seed}, cut {n}, after {happened} of {} events", events.len());
        let (directory, acknowledged) = cut(&file, &events, happened, None, &mut random);
        let store = SqliteStore::open(directory.path().join("store.db")).expect(&context);
        common::expect_acknowledged(&store, &acknowledged, &context).await;
        store.close().await.unwrap();
    }
}

/// The test above can fail: on a disk that lies about fsyncs of the log, rows are lost.
#[tokio::test]
async fn a_lying_disk_is_found_out() {
    const CUTS: u64 = 60;
    let (mut random, seed) = Random::seeded();
    let directory = TempDir::new().unwrap();
    let Some((file, events)) = watched(&directory, "a_lying_disk_is_found_out") else { return };
    let mut losses = 0;
    for _ in 0..CUTS {
        let happened = random.below(events.len() as u64 + 1) as usize;
        let (directory, acknowledged) = cut(&file, &events, happened, Some("-wal"), &mut random);
        losses += u64::from(loses(&directory, &acknowledged).await);
    }
    assert!(losses > CUTS / 10, "BYWAY_STORE_SEED={seed}: {losses} of {CUTS} cuts lost something");
}

async fn loses(directory: &TempDir, acknowledged: &BTreeSet<u64>) -> bool {
    let Ok(store) = SqliteStore::open(directory.path().join("store.db")) else { return true };
    let rows = store.load(Load::Outbox, None, 4096).await;
    let _ = store.close().await;
    let Ok(rows) = rows else { return true };
    let there =
        |n: &u64| rows.iter().any(|(_, row)| matches!(row, Row::Outbox(row) if row.message == common::message(*n)));
    !acknowledged.iter().all(there)
}
