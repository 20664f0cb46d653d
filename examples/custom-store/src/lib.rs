//! A store of your own, from outside the SDK: an append-only log with everything else in memory.
//!
//! It depends on `byway-api` and a channel. `sdk/docs/writing-a-store.md` explains it part by part.
//!
//! * A **batch** changes the [tables](crate::LogStore) in memory and becomes one record at the end of
//!   the log; batches that wait at the same time share a record and its sync.
//! * A **relaxed** batch is answered at once and goes into the next record, at latest after
//!   [`relaxed_flush`](LogConfig::relaxed_flush).
//! * The log is **compacted** into a new file when most of it is history.
//!
//! Honest limits: every row is in memory, every page looks at every row of its kind, `load` waits for a
//! commit on its way, and a caller waits, with its thread, while 1,024 batches are ahead of it.

mod codec;
mod log;
mod tables;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use byway_api::{Applied, Durability, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write, async_trait};
use tokio::sync::{oneshot, watch};

use crate::log::{Log, failed};
use crate::tables::{Done, Tables};

pub(crate) const NAME: &str = "log";

/// The most writes in a batch and the most rows in a page.
const MAX_BATCH: usize = 4096;
/// The longest name and the largest value of a named value, in bytes.
const MAX_META_KEY: usize = 128;
const MAX_META_VALUE: usize = 64 * 1024;

/// The numbers of a [`LogStore`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogConfig {
    /// How long a relaxed batch may wait for a record. 1 s.
    pub relaxed_flush: Duration,
    /// A shorter log is not compacted, in bytes. 1 MiB; a longer one when it is four times as long as
    /// after the last compaction.
    pub compact_from: u64,
    /// Batches that may wait. 1,024.
    pub queue: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { relaxed_flush: Duration::from_secs(1), compact_from: 1 << 20, queue: 1024 }
    }
}

struct Job {
    batch: Vec<Write>,
    answer: oneshot::Sender<Result<Vec<Applied>, StoreError>>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    ended: bool,
}

/// What callers and the writer thread share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrival: Condvar,
    room: Condvar,
    tables: Mutex<Tables>,
    /// Why nothing works any more until the file is opened again.
    failure: Mutex<Option<String>>,
    closed: AtomicBool,
    commits: AtomicU64,
}

/// How the writer ended; `None` while it runs.
type Ended = Option<Result<(), String>>;

/// A [`RouteStore`] in a log file. See the [crate] documentation.
pub struct LogStore {
    shared: Arc<Shared>,
    queue: usize,
    ended: watch::Receiver<Ended>,
}

impl std::fmt::Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Opens the file, or makes it. The directory must exist. Blocks while it reads the file.
    ///
    /// # Errors
    /// `Busy`, `Corrupt`, `NewerSchema`, `ReadOnly`, `DiskFull` or `Io`; the file is left as it is.
    pub fn open(path: impl AsRef<Path>, config: LogConfig) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let queue = config.queue.max(1);
        let log = Log::open(path.as_ref(), |record| locked(&shared.tables).replay(record))?;
        let (report, ended) = watch::channel(None);
        let writer = Writer { shared: Arc::clone(&shared), log, config, unsaved: Vec::new(), since: None, report };
        let thread = thread::Builder::new().name("log-store".to_owned()).spawn(|| writer.run());
        thread.map_err(|e| failed("served by a thread", path.as_ref(), e))?;
        Ok(Self { shared, queue, ended })
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(StoreError::new(StoreErrorKind::Closed, NAME, ""));
        }
        self.shared.check()
    }
}

impl Shared {
    fn check(&self) -> Result<(), StoreError> {
        let failure = locked(&self.failure);
        failure.as_ref().map_or(Ok(()), |why| Err(StoreError::new(StoreErrorKind::Io, NAME, why.clone())))
    }

    fn end(&self) {
        locked(&self.queue).ended = true;
        self.arrival.notify_one();
        self.room.notify_all();
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn too_large(detail: &str) -> StoreError {
    StoreError::new(StoreErrorKind::TooLarge, NAME, detail)
}

#[async_trait]
impl RouteStore for LogStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        if batch.len() > MAX_BATCH {
            return Err(too_large("a batch has at most 4,096 writes"));
        }
        let large = |write: &Write| {
            matches!(write, Write::Meta { key, value, .. }
                if key.len() > MAX_META_KEY || value.as_ref().is_some_and(|value| value.len() > MAX_META_VALUE))
        };
        if batch.iter().any(large) {
            return Err(too_large("a named value has a name of at most 128 bytes and at most 64 KiB"));
        }
        self.check()?;
        let (answer, answered) = oneshot::channel();
        {
            let full = |queue: &mut Queue| queue.jobs.len() >= self.queue && !queue.ended;
            let queue = self.shared.room.wait_while(locked(&self.shared.queue), full);
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            if !queue.ended {
                queue.jobs.push(Job { batch: batch.to_vec(), answer });
                self.shared.arrival.notify_one();
            }
        }
        let gone = |_| self.check().err().unwrap_or_else(|| StoreError::new(StoreErrorKind::Io, NAME, "open it again"));
        answered.await.unwrap_or_else(|e| Err(gone(e)))
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        if !(1..=MAX_BATCH).contains(&limit) {
            return Err(too_large("a page has 1 to 4,096 rows"));
        }
        self.check()?;
        Ok(locked(&self.shared.tables).load(&what, after.as_ref(), limit))
    }

    fn durable_commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Acquire)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.end();
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        let told = told.unwrap_or_else(|| Err("its thread panicked: open it again".to_owned()));
        told.map_err(|why| StoreError::new(StoreErrorKind::Io, NAME, why))
    }
}

/// The one thread that changes anything.
struct Writer {
    shared: Arc<Shared>,
    log: Log,
    config: LogConfig,
    /// Relaxed changes that no record has yet, and since when.
    unsaved: Vec<u8>,
    since: Option<Instant>,
    report: watch::Sender<Ended>,
}

impl Drop for Writer {
    /// Also after a panic nobody waits for an answer that cannot come.
    fn drop(&mut self) {
        self.shared.end();
        locked(&self.shared.queue).jobs.clear();
    }
}

impl Writer {
    fn run(mut self) {
        loop {
            let (jobs, ended) = self.take();
            if !jobs.is_empty() {
                self.commit(jobs);
            }
            if self.since.is_some_and(|since| ended || since.elapsed() >= self.config.relaxed_flush) {
                // Later again if the disk is full.
                self.since = Some(Instant::now());
                let shared = Arc::clone(&self.shared);
                let _tables = locked(&shared.tables);
                let _ = self.save(&[]);
            }
            if ended {
                break;
            }
            self.compact();
        }
        let saved = self.shared.check().map_err(|e| e.to_string());
        let saved = saved.and_then(|()| if self.unsaved.is_empty() { Ok(()) } else { Err("the disk is full".into()) });
        let report = self.report.clone();
        // Releases the file and the lock, and then says so.
        drop(self);
        report.send_replace(Some(saved));
    }

    /// What waits, and whether that was all. Waits for something to do.
    fn take(&self) -> (Vec<Job>, bool) {
        let wait = self.since.map(|since| self.config.relaxed_flush.saturating_sub(since.elapsed()));
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.ended;
        let queue = locked(&self.shared.queue);
        let mut queue = match wait {
            None => self.shared.arrival.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                self.shared.arrival.wait_timeout_while(queue, wait, idle).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let jobs = std::mem::take(&mut queue.jobs);
        self.shared.room.notify_all();
        (jobs, queue.ended)
    }

    /// Applies everything that waits and answers; either all of it is written, or it is undone.
    fn commit(&mut self, jobs: Vec<Job>) {
        let shared = Arc::clone(&self.shared);
        // Held until the record is synced: nobody reads what may yet be undone.
        let mut tables = locked(&shared.tables);
        let mut done = Done::default();
        let apply = |job: &Job| job.batch.iter().map(|write| tables.apply(write, &mut done)).collect::<Vec<_>>();
        let answers: Vec<_> = jobs.iter().map(apply).collect();
        let durable = |write: &Write| write.durability() == Durability::Durable;
        let result = if jobs.iter().any(|job| job.batch.iter().any(durable)) {
            self.save(&done.record)
        } else {
            self.shared.check().map(|()| {
                self.unsaved.extend_from_slice(&done.record);
                self.since = self.since.or_else(|| (!self.unsaved.is_empty()).then(Instant::now));
            })
        };
        if let Err(error) = &result {
            tables.undo(done);
            let again = || StoreError::new(error.kind(), NAME, error.to_string());
            jobs.into_iter().for_each(|job| drop(job.answer.send(Err(again()))));
            return;
        }
        drop(tables);
        jobs.into_iter().zip(answers).for_each(|(job, answer)| drop(job.answer.send(Ok(answer))));
    }

    /// Writes what was not saved and this as one record. A failure after which nobody knows what the
    /// disk holds is the last.
    fn save(&mut self, record: &[u8]) -> Result<(), StoreError> {
        self.shared.check()?;
        if self.unsaved.is_empty() && record.is_empty() {
            return Ok(());
        }
        let saved = self.log.append(&[&self.unsaved, record].concat());
        match &saved {
            Ok(()) => {
                self.unsaved.clear();
                self.since = None;
                self.shared.commits.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) if error.kind() == StoreErrorKind::DiskFull => {}
            Err(error) => *locked(&self.shared.failure) = Some(error.to_string()),
        }
        saved
    }

    fn compact(&mut self) {
        if !self.unsaved.is_empty() || self.shared.check().is_err() || !self.log.has_outgrown(self.config.compact_from)
        {
            return;
        }
        let record = locked(&self.shared.tables).record();
        if let Err(error) = self.log.compact(&record) {
            *locked(&self.shared.failure) = Some(error.to_string());
        }
    }
}
