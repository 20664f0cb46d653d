//! The SQLite [`RouteStore`]: one file for routes, outbox, inbox and marks, made for power cuts.
//!
//! * **Durable means fsynced.** Write-ahead log, `synchronous=FULL` and group commit: one writer thread
//!   takes everything that waits into one transaction and answers after its commit, so that many
//!   callers share one flush of the disk.
//! * **Relaxed means visible, not yet fsynced.** See [`SqliteConfig::relaxed_flush`].
//! * **One process.** A lock file beside the database keeps a second one out.
//! * **Nothing is repaired behind your back.** A damaged, newer, foreign or read-only file is an error of
//!   that kind and is left as it is. After a failed read or write of the disk the store refuses every
//!   call until it is opened again.
//!
//! The tables are meant to be looked at: `sqlite3 store.db 'select * from peer_routes'`.
//!
//! ```no_run
//! use byway_store_sqlite::SqliteStore;
//!
//! # fn main() -> Result<(), byway_api::StoreError> {
//! let store = SqliteStore::open("alice/store.db")?;
//! # let _ = store;
//! # Ok(())
//! # }
//! ```

mod column;
mod config;
mod error;
mod open;
mod page;
mod quick;
mod reader;
mod schema;
mod session;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use byway_api::{Applied, Durability, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write};
use tokio::sync::{Mutex, oneshot};

pub use crate::config::SqliteConfig;
use crate::error::NAME;
use crate::quick::Quick;
use crate::reader::Request;
use crate::session::Session;
use crate::writer::{Job, Reading};
use byway_store_file::lock;
use byway_store_file::queue::Queue;

/// The most writes in a batch and the most rows in a page.
pub(crate) const MAX_BATCH: usize = 4096;
/// The longest name of a named value, in bytes.
const MAX_META_KEY: usize = 128;
/// The largest named value, in bytes.
const MAX_META_VALUE: usize = 64 * 1024;

/// A store in one SQLite file. See the [crate] documentation.
///
/// Dropping it ends its two threads in the background, after everything was written; `close` waits
/// for that.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    session: Arc<Session>,
    writes: Arc<Queue<Job>>,
    reads: Arc<Queue<Request>>,
    quick: Arc<Quick>,
    inline_rows: usize,
    writing: Mutex<Option<Writing>>,
}

/// The writer thread, which ends the reader thread before itself.
#[derive(Debug)]
struct Writing {
    thread: JoinHandle<()>,
    /// What the writer reports when its files and the lock are released.
    end: oneshot::Receiver<Result<(), StoreError>>,
}

impl SqliteStore {
    /// Opens the file, or makes it. The directory must exist. Blocks while SQLite recovers its log and
    /// verifies the file: some milliseconds, and about one more for each MiB.
    ///
    /// # Errors
    /// [`StoreErrorKind::Busy`] if another process has it open, `Corrupt` if it is damaged or not a
    /// store of Byway, `NewerSchema`, `ReadOnly`, `DiskFull` or `Io`. The file is left as it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteConfig::default())
    }

    /// [`open`](Self::open) with other numbers.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(path: impl AsRef<Path>, config: SqliteConfig) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = lock::acquire(path, NAME)?;
        let write = open::writer(path, &config)?;
        let read = open::reader(path, config.busy_timeout)?;
        let quick = Arc::new(Quick::new(open::reader(path, Duration::ZERO)?));
        let inline_rows = config.inline_rows;
        let session = Arc::new(Session::new(path));
        let writes = Arc::new(Queue::new(config.queue));
        let reads = Arc::new(Queue::new(config.loads));

        let reader = reader::Reader::new(read, Arc::clone(&session), Arc::clone(&reads));
        let reader = spawn("byway-store-read", path, move || reader.run())?;
        let reading = Reading { queue: Arc::clone(&reads), thread: reader, quick: Arc::clone(&quick) };
        let writer = writer::Writer::new(write, Arc::clone(&session), Arc::clone(&writes), config, lock, reading);
        let (report, end) = oneshot::channel();
        let thread = spawn("byway-store-write", path, move || writer.run(report)).inspect_err(|_| reads.end())?;
        let writing = Mutex::new(Some(Writing { thread, end }));
        Ok(Self { path: path.to_owned(), session, writes, reads, quick, inline_rows, writing })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn closed(&self) -> StoreError {
        // A thread that ended by itself has left its reason; otherwise the store was closed.
        self.session.check().err().unwrap_or_else(|| StoreError::new(StoreErrorKind::Closed, NAME, ""))
    }
}

fn spawn(name: &str, path: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map_err(|e| error::io(format!("no thread could be started for {}", path.display()), e))
}

impl Drop for SqliteStore {
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
impl RouteStore for SqliteStore {
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
            && let Some(loaded) = self.quick.try_load(&self.session, &what, after.as_ref(), limit)
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
