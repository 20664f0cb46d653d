//! The durability suite for a [`RouteStore`] in a file: kill -9, power cuts, failing and full disks.
//!
//! ```ignore
//! // in tests/durability.rs
//! byway_testkit::store_durability_conformance!(my_store, |path: PathBuf| async move {
//!     Ok(Arc::new(MyStore::open(path)?) as Arc<dyn RouteStore>)
//! });
//! ```
//!
//! gives a module `my_store` with one `#[test]` per promise and an ignored one, `child`, which is the
//! second process of the others: they start this test executable again. Implement [`StoreInFile`]
//! instead of writing a closure for a store with scratch files or with older versions.
//!
//! | what it needs | who needs it | without it |
//! |---|---|---|
//! | Linux with `strace` | power cuts, errors of system calls | skipped |
//! | the right to `mount` a tmpfs | the full disk | skipped |
//!
//! What is skipped prints `skipped: ...` with the reason.
//!
//! **Counts.** An ordinary run is short. `BYWAY_STORE_THOROUGH=1` kills 30 times, cuts the power 200
//! times, fails every call that the scripted run makes, reads too, and damages more places. Random
//! choices use fixed seeds; `BYWAY_STORE_SEED=n` uses that one, and a failure prints the one it had.
//!
//! **What the power cut believes.** The calls of a real process are recorded and played to a disk that
//! keeps what was not synced apart: data until `fsync`, `fdatasync`, `sync` or a write to a file opened
//! with `O_SYNC`; a new name until its file or its directory is synced; renaming and removing until the
//! directory is synced. A cut keeps none, all, a beginning, or any part of the rest, with writes torn
//! at sectors. Writes that no call shows (a shared writable mapping, io_uring) cannot be played: such a
//! store breaks the promise, loudly, unless the mapped file is [scratch](StoreInFile::scratch).

pub mod broken;
mod child;
mod damage;
mod disk;
mod fail;
mod full;
mod history;
mod kill;
mod place;
mod power;
mod script;
mod strace;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use byway_api::{RouteStore, Row, StoreError};

use crate::promise::Promise;

pub use child::run_child;
pub use damage::*;
pub use fail::every_failed_call_is_told_and_nothing_acknowledged_is_lost;
pub use full::a_full_disk_refuses_and_keeps;
pub use kill::*;
pub use power::what_was_acknowledged_survives_a_power_cut;

/// A store in a file, or in several files whose names begin like it, or in a directory of that name.
///
/// A closure from `PathBuf` to a future of the open store is one.
#[async_trait]
pub trait StoreInFile: Send + Sync + 'static {
    /// Opens the store at `path`, or makes it there. The directory that `path` is in exists and holds
    /// nothing else.
    ///
    /// # Errors
    /// What the store reports.
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError>;

    /// Endings of the names of files that hold nothing across a restart: lock files, shared memory. They are
    /// not there after a power cut, and they may change when a store is refused. Default `.lock`.
    fn scratch(&self) -> &'static [&'static str] {
        &[".lock"]
    }

    /// Puts a closed store of an older version at `path` and answers the rows in it; `None` if there
    /// never was one. Called once.
    async fn older(&self, path: &Path) -> Option<Vec<Row>> {
        let _ = path;
        None
    }

    /// Makes the closed store at `path` one of a newer version; false if that cannot be done.
    async fn newer(&self, path: &Path) -> bool {
        let _ = path;
        false
    }

    /// One promise takes no longer. Default 10 min.
    fn deadline(&self) -> Duration {
        Duration::from_secs(600)
    }
}

#[async_trait]
impl<F, O> StoreInFile for F
where
    F: Fn(PathBuf) -> O + Send + Sync + 'static,
    O: Future<Output = Result<Arc<dyn RouteStore>, StoreError>> + Send,
{
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError> {
        self(path.to_owned()).await
    }
}

/// Syncs that are played as if the store had not made them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leave {
    /// Every sync counts.
    #[default]
    Nothing,
    /// No sync counts: a store that forgot them.
    Syncs,
    /// No sync of a directory counts.
    DirectorySyncs,
}

/// A store under test, and the test that is its second process.
pub struct Subject {
    files: Box<dyn StoreInFile>,
    child: String,
    effort: Effort,
    leave: Leave,
}

impl Subject {
    /// A store, and the path of the ignored test that calls [`run_child`] with the same store, as
    /// `concat!(module_path!(), "::child")` tells it.
    pub fn new(files: impl StoreInFile, child: &str) -> Self {
        let child = child.split_once("::").map_or(child, |(_, in_crate)| in_crate).to_owned();
        let effort = if super::thorough() { THOROUGH } else { ORDINARY };
        Self { files: Box::new(files), child, effort, leave: Leave::Nothing }
    }

    /// The store with some syncs left out, as far as a power cut can tell.
    #[must_use]
    pub fn leaving_out(self, leave: Leave) -> Self {
        Self { leave, ..self }
    }

    /// Few repetitions, enough to find a store that breaks a promise often.
    #[must_use]
    pub fn briefly(self) -> Self {
        Self { effort: BRIEF, ..self }
    }

    fn is_scratch(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        self.files.scratch().iter().any(|ending| name.ends_with(ending))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("child", &self.child).field("effort", &self.effort).finish_non_exhaustive()
    }
}

/// How often things are done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    kills: u64,
    cuts: u64,
    /// Durable batches in the recorded run.
    batches: u64,
    /// Calls that fail, at most.
    failures: usize,
    /// Reads fail too, and writes in more than one way.
    fails_reads: bool,
    /// Damaged places.
    damages: u64,
    /// How long a store may take for one answer.
    answer: Duration,
}

const BRIEF: Effort = Effort {
    kills: 3,
    cuts: 40,
    batches: 56,
    failures: 10,
    fails_reads: false,
    damages: 12,
    answer: Duration::from_secs(2),
};
const ORDINARY: Effort = Effort {
    kills: 8,
    cuts: 60,
    batches: 80,
    failures: 80,
    fails_reads: false,
    damages: 48,
    answer: Duration::from_secs(20),
};
const THOROUGH: Effort = Effort {
    kills: 30,
    cuts: 200,
    batches: 120,
    failures: usize::MAX,
    fails_reads: true,
    damages: 256,
    answer: Duration::from_secs(20),
};

fn seed() -> u64 {
    std::env::var("BYWAY_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// Every promise of the suite.
pub const PROMISES: &[Promise<Subject>] = crate::__store_durability_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(subject: &Subject) -> Duration {
    subject.files.deadline()
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_durability_promises {
    (table) => { $crate::__store_durability_promises! { list table [] } };
    (tests [$files:expr]) => { $crate::__store_durability_promises! { list tests [$files] } };
    (list $mode:ident [$($files:expr)?]) => {
        $crate::__store_durability_promises! { make $mode [$($files)?]
            what_was_acknowledged_survives_kill_9
            a_second_process_is_busy
            a_closed_store_is_free_for_another_process
            a_killed_owner_leaves_no_lock
            what_was_acknowledged_survives_a_power_cut
            every_failed_call_is_told_and_nothing_acknowledged_is_lost
            a_full_disk_refuses_and_keeps
            a_file_of_another_kind_is_refused
            a_truncated_file_is_never_taken_for_an_empty_one
            a_damaged_header_is_told_or_harmless
            an_older_file_is_read_and_written
            a_newer_file_is_refused
        }
    };
    (make table [] $($name:ident)*) => {
        &[$($crate::promise::Promise::new(stringify!($name), |subject| Box::pin($name(subject)))),*]
    };
    (make tests [$files:expr] $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::promise::check(
                    async { $crate::store::durability::Subject::new($files, concat!(module_path!(), "::child")) },
                    $crate::store::durability::deadline,
                    $crate::promise::Promise::new(stringify!($name), |subject| {
                        Box::pin($crate::store::durability::$name(subject))
                    }),
                );
            }
        )*
    };
}

/// Tests what a store in a file keeps through crashes: a module `$suite` with one test per promise, and the
/// ignored test `child`.
///
/// `$files` makes a [`StoreInFile`](crate::store::durability::StoreInFile); it is evaluated anew for each
/// test and in each second process.
#[macro_export]
macro_rules! store_durability_conformance {
    ($suite:ident, $files:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            #[ignore = "the second process of the other tests"]
            fn child() {
                $crate::store::durability::run_child($files);
            }

            $crate::__store_durability_promises! { tests [$files] }
        }
    };
}
