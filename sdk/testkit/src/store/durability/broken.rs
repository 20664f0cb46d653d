//! Stores that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails the promises that it breaks, and perhaps some that
//! follow from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{Applied, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{Leave, StoreInFile, Subject};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No file is ever synced.
    ForgetsSyncs,
    /// No directory is ever synced.
    ForgetsDirectorySyncs,
    /// A batch is acknowledged before it is written.
    AnswersEarly,
    /// The writes of a batch are batches of their own.
    SplitsBatches,
    /// There is no lock.
    OpensTwice,
    /// The lock is a file that a killed process leaves.
    LeavesLock,
    /// `close` releases nothing.
    HoldsOn,
    /// A damaged file is replaced by an empty store.
    StartsOver,
    /// A file that is shorter than it was is replaced by an empty store.
    TakesShortForEmpty,
    /// A damaged file is a panic.
    PanicsOnDamage,
    /// A damaged file is an error of the disk, to be tried again.
    BlamesTheDisk,
    /// A batch that finds no room is acknowledged.
    HidesFullDisk,
    /// A batch that meets an error is acknowledged.
    HidesErrors,
    /// A batch that meets an error is never answered.
    HangsOnErrors,
    /// A row of an older file is lost.
    LosesOlderRows,
    /// A newer file is opened.
    OpensNewer,
}

const KILL: &str = "what_was_acknowledged_survives_kill_9";
const BUSY: &str = "a_second_process_is_busy";
const FREE: &str = "a_closed_store_is_free_for_another_process";
const OWNER: &str = "a_killed_owner_leaves_no_lock";
const POWER: &str = "what_was_acknowledged_survives_a_power_cut";
const FAIL: &str = "every_failed_call_is_told_and_nothing_acknowledged_is_lost";
const FULL: &str = "a_full_disk_refuses_and_keeps";
const KIND: &str = "a_file_of_another_kind_is_refused";
const SHORT: &str = "a_truncated_file_is_never_taken_for_an_empty_one";
const HEADER: &str = "a_damaged_header_is_told_or_harmless";
const OLDER: &str = "an_older_file_is_read_and_written";
const NEWER: &str = "a_newer_file_is_refused";

impl Fault {
    /// All of them, with the promises that each breaks, and those that may break with them.
    pub const ALL: &[(Self, &[&str], &[&str])] = &[
        (Self::ForgetsSyncs, &[POWER], &[]),
        (Self::ForgetsDirectorySyncs, &[POWER], &[]),
        (Self::AnswersEarly, &[KILL, POWER], &[FAIL, FULL]),
        (Self::SplitsBatches, &[POWER], &[KILL, FAIL, FULL, SHORT]),
        (Self::OpensTwice, &[BUSY], &[]),
        (Self::LeavesLock, &[OWNER, KILL], &[POWER, FAIL]),
        (Self::HoldsOn, &[FREE], &[KILL, BUSY, OWNER, POWER, FAIL, FULL, SHORT, HEADER, OLDER, NEWER]),
        (Self::StartsOver, &[KIND, HEADER], &[SHORT]),
        (Self::TakesShortForEmpty, &[SHORT], &[KILL, POWER, FAIL, FULL]),
        (Self::PanicsOnDamage, &[KIND, HEADER], &[SHORT]),
        (Self::BlamesTheDisk, &[KIND, HEADER], &[SHORT]),
        (Self::HidesFullDisk, &[FULL], &[FAIL]),
        (Self::HidesErrors, &[FAIL], &[FULL]),
        (Self::HangsOnErrors, &[FAIL], &[]),
        (Self::LosesOlderRows, &[OLDER], &[]),
        (Self::OpensNewer, &[NEWER], &[]),
    ];

    /// A sound store with this fault, and few repetitions.
    pub fn subject(self, sound: impl StoreInFile, child: &str) -> Subject {
        let leave = match self {
            Self::ForgetsSyncs => Leave::Syncs,
            Self::ForgetsDirectorySyncs => Leave::DirectorySyncs,
            _ => Leave::Nothing,
        };
        Subject::new(self.files(sound), child).briefly().leaving_out(leave)
    }

    /// A sound store with this fault, for the second process.
    pub fn files(self, sound: impl StoreInFile) -> impl StoreInFile {
        BrokenFiles { sound: Box::new(sound), fault: self }
    }
}

struct BrokenFiles {
    sound: Box<dyn StoreInFile>,
    fault: Fault,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn failed(kind: StoreErrorKind, why: impl ToString) -> StoreError {
    StoreError::new(kind, "broken", why.to_string())
}

#[async_trait]
impl StoreInFile for BrokenFiles {
    async fn open(&self, path: &Path) -> Result<Arc<dyn RouteStore>, StoreError> {
        if self.fault == Fault::OpensTwice {
            self.sound.scratch().iter().for_each(|ending| drop(fs::remove_file(beside(path, ending))));
        }
        let owner = beside(path, ".owner");
        if self.fault == Fault::LeavesLock {
            fs::File::create_new(&owner).map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => failed(StoreErrorKind::Busy, "there is a lock file"),
                _ => failed(StoreErrorKind::Io, e),
            })?;
        }
        if self.fault == Fault::TakesShortForEmpty {
            let was = fs::read_to_string(beside(path, ".length")).ok().and_then(|was| was.parse().ok());
            if was.is_some_and(|was: u64| fs::metadata(path).is_ok_and(|file| file.len() < was)) {
                fs::remove_file(path).map_err(|e| failed(StoreErrorKind::Io, e))?;
            }
        }
        let inner = match self.sound.open(path).await {
            Err(damage) if damage.kind() == StoreErrorKind::Corrupt => match self.fault {
                Fault::StartsOver => {
                    fs::remove_file(path).map_err(|e| failed(StoreErrorKind::Io, e))?;
                    self.sound.open(path).await
                }
                #[expect(clippy::panic, reason = "this is the fault")]
                Fault::PanicsOnDamage => panic!("{damage}"),
                Fault::BlamesTheDisk => Err(failed(StoreErrorKind::Io, damage)),
                _ => Err(damage),
            },
            opened => opened,
        };
        let inner = inner.inspect_err(|_| drop(fs::remove_file(&owner)))?;
        let path = path.to_owned();
        Ok(Arc::new(BrokenStore { inner, fault: self.fault, path, early: Mutex::default() }))
    }

    fn scratch(&self) -> &'static [&'static str] {
        self.sound.scratch()
    }

    async fn older(&self, path: &Path) -> Option<Vec<Row>> {
        if self.fault != Fault::LosesOlderRows {
            return self.sound.older(path).await;
        }
        let store = self.sound.open(path).await.ok()?;
        store.close().await.ok()?;
        Some(vec![Row::Meta { key: "of the older version".into(), value: "lost".into() }])
    }

    async fn newer(&self, path: &Path) -> bool {
        self.fault == Fault::OpensNewer || self.sound.newer(path).await
    }
}

#[derive(Debug)]
struct BrokenStore {
    inner: Arc<dyn RouteStore>,
    fault: Fault,
    path: PathBuf,
    /// What was acknowledged and goes on.
    early: Mutex<JoinSet<()>>,
}

impl BrokenStore {
    async fn catch_up(&self) {
        let mut early = self.early.lock().await;
        while early.join_next().await.is_some() {}
    }
}

#[async_trait]
impl RouteStore for BrokenStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        let acknowledged = || vec![Applied::Done; batch.len()];
        match self.fault {
            Fault::AnswersEarly => {
                let (inner, batch) = (Arc::clone(&self.inner), batch.to_vec());
                let applying = async move { drop(inner.apply(&batch).await) };
                self.early.lock().await.spawn(applying);
                return Ok(acknowledged());
            }
            Fault::SplitsBatches => {
                let mut applied = Vec::new();
                for write in batch {
                    applied.extend(self.inner.apply(std::slice::from_ref(write)).await?);
                }
                return Ok(applied);
            }
            _ => {}
        }
        let result = self.inner.apply(batch).await;
        match (self.fault, result.as_ref().err().map(StoreError::kind)) {
            (Fault::HidesFullDisk, Some(StoreErrorKind::DiskFull)) => Ok(acknowledged()),
            (Fault::HidesErrors, Some(StoreErrorKind::Io)) => Ok(acknowledged()),
            (Fault::HangsOnErrors, Some(StoreErrorKind::Io)) => std::future::pending().await,
            _ => result,
        }
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.catch_up().await;
        self.inner.load(what, after, limit).await
    }

    fn durable_commits(&self) -> u64 {
        self.inner.durable_commits()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.catch_up().await;
        if self.fault == Fault::HoldsOn {
            return Ok(());
        }
        let closed = self.inner.close().await;
        match self.fault {
            Fault::LeavesLock => drop(fs::remove_file(beside(&self.path, ".owner"))),
            Fault::TakesShortForEmpty => {
                let length = fs::metadata(&self.path).map_or(0, |file| file.len());
                let _ = fs::write(beside(&self.path, ".length"), length.to_string());
            }
            _ => {}
        }
        closed
    }
}
