//! The store among real processes: killed, locked out, and with a failing disk.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use byway_api::{RouteStore, StoreErrorKind};
use byway_store_sqlite::SqliteStore;
use common::{ACK, HELD, REFUSED, Random, Task, child_command, next_line, start, with_task};
use tempfile::TempDir;

#[test]
#[ignore = "the second process of the other tests"]
fn child() {
    common::child();
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    const ROUNDS: u64 = 10;
    const EACH: u64 = 100_000;
    let (mut random, seed) = Random::seeded();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let kill_after = random.below(300);
        let context = format!("BYWAY_STORE_SEED={seed}, round {round}, killed after {kill_after} batches");
        let task = Task { role: "append", file: &file, first: round * EACH, times: EACH };
        let (mut child, mut output) = start(&mut child_command("child", task));
        for _ in 0..kill_after {
            acknowledged.insert(next_line(&mut output, ACK).expect(&context).parse::<u64>().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said and nobody had read yet counts as well.
        while let Some(n) = next_line(&mut output, ACK) {
            acknowledged.insert(n.parse().unwrap());
        }
        let store = SqliteStore::open(&file).expect(&context);
        common::expect_acknowledged(&store, &acknowledged, &context).await;
        store.close().await.unwrap();
    }
    assert!(!acknowledged.is_empty(), "no round came to its first acknowledgement");
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_store() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let task = Task { role: "hold", file: &file, first: 0, times: 0 };
    let (mut holder, mut output) = start(&mut child_command("child", task));
    next_line(&mut output, HELD).unwrap();

    let error = SqliteStore::open(&file).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    let said = error.to_string();
    assert!(said.contains(&format!("process {}", holder.id())), "{said}");
    assert!(said.contains("a profile directory of its own"), "{said}");

    // And the other way round: this process holds it, the other is refused.
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    let store = SqliteStore::open(&file).unwrap();
    let task = Task { role: "open", ..task };
    let (mut second, mut output) = start(&mut child_command("child", task));
    let refused = next_line(&mut output, REFUSED).unwrap();
    assert!(refused.starts_with("Busy"), "{refused}");
    assert!(second.wait().unwrap().success());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_killed_owner_leaves_no_lock() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let task = Task { role: "hold", file: &file, first: 0, times: 0 };
    let (mut holder, mut output) = start(&mut child_command("child", task));
    next_line(&mut output, HELD).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    SqliteStore::open(&file).unwrap().close().await.unwrap();
}

/// The disk refuses a write with an error that is not "full": the limit on the size of files, which the
/// shell sets and whose signal it ignores.
#[cfg(unix)]
#[tokio::test]
async fn after_an_io_error_every_call_says_open_again() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let mut command = Command::new("sh");
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\"").arg(std::env::current_exe().unwrap());
    with_task(&mut command, "child", Task { role: "append until an error", file: &file, first: 0, times: 0 });
    let (mut child, mut output) = start(&mut command);
    let mut acknowledged = BTreeSet::new();
    let mut refused = Vec::new();
    let mut line = String::new();
    use std::io::BufRead;
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, n)) = line.split_once(ACK) {
            acknowledged.insert(n.trim().parse::<u64>().unwrap());
        } else if let Some((_, error)) = line.split_once(REFUSED) {
            refused.push(error.trim().to_owned());
        }
        line.clear();
    }
    assert!(child.wait().unwrap().success());
    assert!(!acknowledged.is_empty());
    assert_eq!(refused.len(), 3, "{refused:?}");
    for said in &refused {
        assert!(said.contains("Io") && said.contains("open the store again"), "{said}");
    }

    let store = SqliteStore::open(&file).unwrap();
    common::expect_acknowledged(&store, &acknowledged, "after an error of the disk").await;
    store.close().await.unwrap();
}
