//! The redb [`RouteStore`]: plain Rust, one file for routes, outbox, inbox and marks, made for power
//! cuts.
//!
//! * **Durable means fsynced.** Immediate commits and group commit: one writer thread takes everything
//!   that waits into one transaction and answers after its commit, so that many callers share one flush
//!   of the disk.
//! * **Relaxed means visible, not yet fsynced.** See [`RedbConfig::relaxed_flush`].
//! * **Reads wait for nobody.** A load reads what the last commit left while the next one is written.
//! * **One process.** A lock file beside the database keeps a second one out.
//! * **Nothing is repaired behind your back.** A damaged, newer, foreign or read-only file is an error of
//!   that kind and is left as it is. After a failed read or flush of the disk the store refuses every
//!   call until it is opened again; after a full disk it goes on by itself.
//!
//! It has no C in it and is quicker than `byway-store-sqlite`; that one takes less room on the disk, and
//! its tables can be looked at.
//!
//! ```no_run
//! use byway_store_redb::RedbStore;
//!
//! # fn main() -> Result<(), byway_api::StoreError> {
//! let store = RedbStore::open("alice/store.redb")?;
//! # let _ = store;
//! # Ok(())
//! # }
//! ```

mod codec;
mod config;
mod error;
mod keys;
mod open;
mod page;
mod reader;
mod row;
mod rows;
mod schema;
mod session;
mod storage;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use byway_api::{Applied, Durability, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write};
use redb::StorageBackend;
use tokio::sync::{Mutex, oneshot};

pub use crate::config::RedbConfig;
use crate::error::NAME;
use crate::open::Medium;
use crate::reader::Request;
use crate::session::Session;
use crate::writer::{Job, Writer};
use byway_store_file::lock::{self, Lock};
use byway_store_file::queue::Queue;

/// The most writes in a batch and the most rows in a page.
const MAX_BATCH: usize = 4096;
/// The longest name of a named value, in bytes.
const MAX_META_KEY: usize = 128;
/// The largest named value, in bytes.
const MAX_META_VALUE: usize = 64 * 1024;

/// A store in one redb file. See the [crate] documentation.
///
/// Dropping it ends its two threads in the background, after everything was written; `close` waits
/// for that.
#[derive(Debug)]
pub struct RedbStore {
    session: Arc<Session>,
    writes: Arc<Queue<Job>>,
    reads: Arc<Queue<Request>>,
    inline_rows: usize,
    writing: Mutex<Option<Writing>>,
}

/// The writer thread, which ends the reader thread before itself.
#[derive(Debug)]
struct Writing {
    thread: JoinHandle<()>,
    /// What the writer reports when its file and the lock are released.
    end: oneshot::Receiver<Result<(), StoreError>>,
}

impl RedbStore {
    /// Opens the file, or makes it. The directory must exist. Blocks while the file is verified: some
    /// milliseconds, and about one more for each MiB.
    ///
    /// # Errors
    /// [`StoreErrorKind::Busy`] if another process has it open, `Corrupt` if it is damaged or not a
    /// store of Byway, `NewerSchema`, `ReadOnly`, `DiskFull` or `Io`. The file is left as it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, RedbConfig::default())
    }

    /// [`open`](Self::open) with other numbers.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(path: impl AsRef<Path>, config: RedbConfig) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = lock::acquire(path, NAME)?;
        open::create(path, &config)?;
        let name = path.display().to_string();
        Self::start(Medium { name, open: storage::of_file(path.to_owned()), config }, Some(lock))
    }

    /// Opens the store in bytes that lie elsewhere than in a file: encrypted, on flash, in memory.
    ///
    /// `open` gives access to the same bytes each time: when the store is opened it is called twice,
    /// and once more after each time that they were full. What it gave before is closed by then. Errors
    /// of kind [`StorageFull`](std::io::ErrorKind::StorageFull) mean full. Keeping a second process out
    /// is left to the locks of the backend. `name` is how errors call it.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_storage(
        name: &str,
        open: impl Fn() -> std::io::Result<Box<dyn StorageBackend>> + Send + 'static,
        config: RedbConfig,
    ) -> Result<Self, StoreError> {
        Self::start(Medium { name: name.to_owned(), open: Box::new(open), config }, None)
    }

    fn start(medium: Medium, lock: Option<Lock>) -> Result<Self, StoreError> {
        let database = medium.open()?;
        let name = medium.name.clone();
        let inline_rows = medium.config.inline_rows;
        let session = Arc::new(Session::new(name.clone(), database));
        let writes = Arc::new(Queue::new(medium.config.queue));
        let reads = Arc::new(Queue::new(medium.config.loads));

        let (of_reader, requests) = (Arc::clone(&session), Arc::clone(&reads));
        let reader = spawn("byway-store-read", &name, move || reader::run(&of_reader, &requests))?;
        let reading = (Arc::clone(&reads), reader);
        let writer = Writer::new(medium, Arc::clone(&session), Arc::clone(&writes), lock, reading);
        let (report, end) = oneshot::channel();
        let thread = spawn("byway-store-write", &name, move || writer.run(report)).inspect_err(|_| reads.end())?;
        let writing = Mutex::new(Some(Writing { thread, end }));
        Ok(Self { session, writes, reads, inline_rows, writing })
    }

    fn closed(&self) -> StoreError {
        // A thread that ended by itself has left its reason; otherwise the store was closed.
        self.session.check().err().unwrap_or_else(session::closed)
    }
}

fn spawn(thread: &str, name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(thread.to_owned()).spawn(body);
    spawned.map_err(|e| error::io(format!("no thread could be started for {name}"), e))
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.reads.end();
        self.writes.end();
    }
}

/// What can be refused is refused before it reaches the writer.
fn check(batch: &[Write]) -> Result<(), StoreError> {
    let too_large = |detail: &str| Err(StoreError::new(StoreErrorKind::TooLarge, NAME, detail));
    if batch.len() > MAX_BATCH {
        return too_large("a batch has at most 4,096 writes");
    }
    for write in batch {
        if let Write::Meta { key, value, .. } = write {
            if key.len() > MAX_META_KEY {
                return too_large("the name of a value has at most 128 bytes");
            }
            if value.as_ref().is_some_and(|value| value.len() > MAX_META_VALUE) {
                return too_large("a named value has at most 64 KiB");
            }
        }
    }
    Ok(())
}

#[async_trait]
impl RouteStore for RedbStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        check(batch)?;
        self.session.check()?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let durable = batch.iter().any(|write| write.durability() == Durability::Durable);
        let (reply, answer) = oneshot::channel();
        let job = Job { batch: batch.to_vec(), durable, reply };
        self.writes.push(job, batch.len()).await.map_err(|_| self.closed())?;
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        if !(1..=MAX_BATCH).contains(&limit) {
            return Err(StoreError::new(StoreErrorKind::TooLarge, NAME, "a page has 1 to 4,096 rows"));
        }
        self.session.check()?;
        if limit <= self.inline_rows
            && let Some(loaded) = self.session.try_load(&what, after.as_ref(), limit)
        {
            return loaded;
        }
        let (reply, answer) = oneshot::channel();
        self.reads.push(Request { what, after, limit, reply }, 1).await.map_err(|_| self.closed())?;
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn durable_commits(&self) -> u64 {
        self.session.durable_commits()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.session.close();
        self.reads.end();
        self.writes.end();
        // The lock lets a second caller wait for the same end. A dropped `close` leaves the threads
        // in place for the next one.
        let mut guard = self.writing.lock().await;
        let Some(writing) = guard.as_mut() else { return Ok(()) };
        let report = (&mut writing.end).await;
        let Some(Writing { thread, .. }) = guard.take() else { return Ok(()) };
        // It has said its last word, so this waits for nothing but its exit.
        let ended = thread.join();
        match (ended, report) {
            (Ok(()), Ok(report)) => report,
            _ => Err(StoreError::new(StoreErrorKind::Io, NAME, "the writer panicked: open the store again")),
        }
    }
}
