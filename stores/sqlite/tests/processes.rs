//! The store among real processes: what a person is told who starts a second one, or whose disk fails.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use byway_api::{RouteStore, StoreErrorKind};
use byway_store_sqlite::SqliteStore;
use common::{ACK, HELD, REFUSED, Task, child_command, next_line, start, with_task};
use tempfile::TempDir;

#[test]
#[ignore = "the second process of the other tests"]
fn child() {
    common::child();
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_store() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let task = Task { role: "hold", file: &file };
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

/// The disk refuses a write with an error that is not "full": the limit on the size of files, which the
/// shell sets and whose signal it ignores.
#[cfg(unix)]
#[tokio::test]
async fn after_an_io_error_every_call_says_open_again() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.db");
    let mut command = Command::new("sh");
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\"").arg(std::env::current_exe().unwrap());
    with_task(&mut command, "child", Task { role: "append until an error", file: &file });
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
