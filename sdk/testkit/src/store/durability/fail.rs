//! A promise about a disk that fails.

use std::collections::{BTreeMap, BTreeSet};

use super::child::{ACK, END, Role, SILENT, Task};
use super::history::{CALLS, RAW, events, paths};
use super::place::{Place, broken};
use super::script::{check, works_on};
use super::strace::{self, Moment, moments};
use super::{Subject, seed};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// Calls that fail with EIO.
const CHANGES: &[&str] = &[
    "fsync",
    "fdatasync",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "openat",
    "mkdir",
    "mkdirat",
    "sync_file_range",
];
const READS: &[&str] = &["read", "pread64", "readv", "preadv", "lseek", "fstat", "statx"];
/// Calls that may find the disk full as well.
const FILLS: &[&str] = &["write", "writev", "pwrite64", "pwritev", "ftruncate", "fallocate", "fsync"];

/// The n-th call of this name fails.
#[derive(Clone, Copy, Debug)]
struct Failure {
    call: &'static str,
    error: &'static str,
    n: usize,
    /// All later ones fail too.
    on: bool,
}

const TASK: Task = Task { role: Role::Script, first: 0, times: 12 };

/// Every call of a small run that changes a file fails, one at a time: the caller is told, every
/// pending call gets its answer, the process goes on, and after reopening without failures nothing
/// acknowledged is lost and the store works on.
pub async fn every_failed_call_is_told_and_nothing_acknowledged_is_lost(subject: &Subject) -> Verdict {
    if let Some(why) = strace::missing() {
        return Ok(Outcome::Skipped(why));
    }
    let (seed, place) = (seed(), Place::new()?);
    let (trace, _) = strace::run(subject, &place, TASK, &["-e", CALLS, "-e", RAW].map(str::to_owned))?;
    // Only calls about files of the store fail, and the same ones are counted.
    let mut about = vec!["-P".to_owned(), place.root().to_string_lossy().into_owned()];
    for path in paths(&events(&trace), &place.root()).iter().filter(|path| !subject.is_scratch(path)) {
        about.extend(["-P".to_owned(), path.to_string_lossy().into_owned()]);
    }
    let mut failures = Vec::new();
    let reads = if subject.effort.fails_reads { READS } else { &[] };
    let counts = counts(subject, &place, &about)?;
    for call in CHANGES.iter().chain(reads).copied() {
        for n in 1..=counts.get(call).copied().unwrap_or(0) {
            failures.push(Failure { call, error: "EIO", n, on: false });
            if subject.effort.fails_reads && CHANGES.contains(&call) {
                failures.push(Failure { call, error: "EIO", n, on: true });
            }
            if FILLS.contains(&call) && (subject.effort.fails_reads || n % 4 == 1) {
                failures.push(Failure { call, error: "ENOSPC", n, on: false });
            }
        }
    }
    ensure!(!failures.is_empty(), "the run changes no file");
    let (all, most) = (failures.len(), subject.effort.failures.min(failures.len()));
    if most < all {
        println!("{most} of {all} failures are tried; BYWAY_STORE_THOROUGH=1 tries all");
    }
    let mut met = 0;
    for n in 0..most {
        let failure = failures[n * all / most];
        let here = |e: Broken| {
            let said = place.said();
            broken(&format!("BYWAY_STORE_SEED={seed}, {failure:?}"), format!("{e}\n{said}"))
        };
        met += usize::from(attempt(subject, &place, failure, &about).await.map_err(here)?);
    }
    ensure!(met * 2 >= most, "of {most} failures only {met} were met");
    Ok(Outcome::Kept)
}

/// How often the run makes each call, at most in any thread: strace counts for each of them.
fn counts(subject: &Subject, place: &Place, about: &[String]) -> Result<BTreeMap<String, usize>, Broken> {
    place.clear()?;
    let mut options = about.to_vec();
    options.extend(["-e".to_owned(), format!("trace={},{}", CHANGES.join(","), READS.join(","))]);
    options.extend(["-e".to_owned(), "raw=all".to_owned()]);
    let (trace, _) = strace::run(subject, place, TASK, &options)?;
    let mut of_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let moments = moments(&trace);
    for moment in &moments {
        if let Moment::Begins(call) = moment {
            *of_thread.entry((call.thread, call.name)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), n) in of_thread {
        let highest: &mut usize = most.entry(call.to_owned()).or_default();
        *highest = n.max(*highest);
    }
    Ok(most)
}

/// Runs the script with the failure, then opens without; true if the failure was met.
async fn attempt(subject: &Subject, place: &Place, failure: Failure, about: &[String]) -> Result<bool, Broken> {
    let Failure { call, error, n, on } = failure;
    place.clear()?;
    let mut options = about.to_vec();
    let inject = format!("inject={call}:error={error}:when={n}{}", if on { "+" } else { "" });
    options.extend(["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), inject]);
    let (trace, said) = strace::run(subject, place, TASK, &options)?;
    if let Some(silent) = said.iter().find(|line| line.contains(SILENT)) {
        return Err(Broken::new(silent.clone()));
    }
    ensure!(said.iter().any(|line| line.contains(END)), "the process ended early: {said:?}");
    let acknowledged = said.iter().filter_map(|line| line.split_once(ACK)).filter_map(|(_, n)| n.parse().ok());
    let acknowledged: BTreeSet<u64> = acknowledged.collect();
    let store = place.open(subject).await;
    let store = store.map_err(|e| broken("with a disk that works again it does not open", e))?;
    let mut there = check(&*store, &acknowledged).await.map_err(|e| broken(&said.join("; "), e))?;
    works_on(&*store, &mut there).await?;
    store.close().await.map_err(|e| broken("it does not close", e))?;
    Ok(trace.contains("(INJECTED)"))
}
