//! The thread that writes: group commit.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use byway_api::{Applied, StoreError, StoreErrorKind, Write};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::config::SqliteConfig;
use crate::error;
use crate::quick::Quick;
use crate::reader::{Abandon, Request};
use crate::session::Session;
use crate::{schema, write};
use byway_store_file::lock::Lock;
use byway_store_file::queue::{Queue, Taken};

/// A batch that waits.
pub(crate) struct Job {
    pub(crate) batch: Vec<Write>,
    pub(crate) durable: bool,
    pub(crate) reply: oneshot::Sender<Result<Vec<Applied>, StoreError>>,
}

/// Everything that reads: the writer ends it before itself.
pub(crate) struct Reading {
    pub(crate) queue: Arc<Queue<Request>>,
    pub(crate) thread: JoinHandle<()>,
    pub(crate) quick: Arc<Quick>,
}

pub(crate) struct Writer {
    conn: Connection,
    session: Arc<Session>,
    queue: Arc<Queue<Job>>,
    config: SqliteConfig,
    lock: Lock,
    reading: Reading,
    /// Whether the next commit fsyncs.
    full: bool,
    /// When the oldest commit that was not fsynced yet was made.
    relaxed_since: Option<Instant>,
}

/// What became of the batches of one transaction.
type Results = Vec<rusqlite::Result<Vec<Applied>>>;

impl Writer {
    pub(crate) fn new(
        conn: Connection,
        session: Arc<Session>,
        queue: Arc<Queue<Job>>,
        config: SqliteConfig,
        lock: Lock,
        reading: Reading,
    ) -> Self {
        Self { conn, session, queue, config, lock, reading, full: true, relaxed_since: None }
    }

    pub(crate) fn run(mut self, end: oneshot::Sender<Result<(), StoreError>>) {
        let queue = Arc::clone(&self.queue);
        let _abandon = Abandon(&queue);
        let mut jobs = Vec::new();
        loop {
            let flush_at = self.relaxed_since.map(|since| since + self.config.relaxed_flush);
            match queue.take(&mut jobs, flush_at) {
                Taken::Some => self.commit(&mut jobs),
                Taken::Timeout => {}
                Taken::Ended => break,
            }
            if flush_at.is_some_and(|at| at <= Instant::now()) {
                // A failure is kept by the session, or by `relaxed_since` for the next attempt.
                let _ = self.flush();
            }
            self.checkpoint();
        }
        let mut saved = self.flush();
        // The last connection to close copies the log and removes it; two that close at once both
        // leave that to the other.
        self.reading.queue.end();
        self.reading.quick.close();
        if self.reading.thread.join().is_err() {
            saved = Err(StoreError::new(StoreErrorKind::Io, error::NAME, "the reader panicked: open the store again"));
        }
        if self.session.is_poisoned() {
            // After a failed fsync the log must be read again, with its checksums, before anything is
            // copied from it.
            let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        drop(self.conn);
        drop(self.lock);
        let _ = end.send(saved);
    }

    /// Commits everything in one transaction and answers. If the disk is too full for all of it, each
    /// batch gets its own chance: one that deletes must not fail with one that adds.
    fn commit(&mut self, jobs: &mut Vec<Job>) {
        if let Err(error) = self.session.check_poison() {
            return refuse(&self.session, jobs, error);
        }
        match self.transaction(jobs) {
            Ok(results) => {
                for (job, result) in jobs.drain(..).zip(results) {
                    let _ = job.reply.send(result.map_err(|e| self.session.fail(e)));
                }
            }
            Err(failed) if jobs.len() > 1 && error::kind(&failed) == StoreErrorKind::DiskFull => {
                for job in std::mem::take(jobs) {
                    self.commit(&mut vec![job]);
                }
            }
            Err(failed) => {
                let error = self.session.fail(failed);
                refuse(&self.session, jobs, error);
            }
        }
    }

    /// Either all of it is committed, or nothing is and the error says so. A batch that fails alone is
    /// undone alone.
    fn transaction(&mut self, jobs: &[Job]) -> rusqlite::Result<Results> {
        let durable = jobs.iter().any(|job| job.durable);
        self.fsync_at_commit(durable)?;
        let before = self.conn.total_changes();
        self.begin()?;
        let results = self.batches(jobs).and_then(|results| {
            let mut changed = self.conn.total_changes() != before;
            if durable && self.relaxed_since.is_some() && (!changed || results.iter().any(Result::is_err)) {
                self.touch()?;
                changed = true;
            }
            self.execute("COMMIT")?;
            Ok((results, changed))
        });
        match results {
            Ok((results, changed)) => {
                if changed {
                    self.committed(durable);
                }
                Ok(results)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn batches(&self, jobs: &[Job]) -> rusqlite::Result<Results> {
        let [only] = jobs else { return jobs.iter().map(|job| self.guarded(&job.batch)).collect() };
        // The transaction itself guards a batch that is alone in it.
        Ok(vec![Ok(self.batch(&only.batch)?)])
    }

    fn batch(&self, batch: &[Write]) -> rusqlite::Result<Vec<Applied>> {
        batch.iter().map(|write| write::apply(&self.conn, write)).collect()
    }

    /// The outer error says that the whole transaction is lost.
    fn guarded(&self, batch: &[Write]) -> rusqlite::Result<rusqlite::Result<Vec<Applied>>> {
        self.execute("SAVEPOINT batch")?;
        match self.batch(batch) {
            Ok(applied) => {
                self.execute("RELEASE batch")?;
                Ok(Ok(applied))
            }
            // SQLite has undone the transaction by itself, or the file cannot be trusted.
            Err(error) if self.conn.is_autocommit() || error::is_fatal(&error) => Err(error),
            Err(error) => {
                self.execute("ROLLBACK TO batch")?;
                self.execute("RELEASE batch")?;
                Ok(Err(error))
            }
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            self.session.poison(StoreErrorKind::Io, format!("open the store again; a rollback failed: {error}"));
        }
    }

    /// Chooses `FULL` or `NORMAL` for the next commit; see
    /// [`relaxed_flush`](SqliteConfig::relaxed_flush). Never `OFF`: checkpoints rely on their fsyncs.
    fn fsync_at_commit(&mut self, full: bool) -> rusqlite::Result<()> {
        if self.full != full {
            self.conn.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
            self.full = full;
        }
        Ok(())
    }

    /// Changes a page without changing a row. A commit without a page writes nothing to the log and
    /// therefore does not fsync what stands in it.
    fn touch(&self) -> rusqlite::Result<()> {
        self.conn.pragma_update(None, "user_version", schema::newest(schema::MIGRATIONS))
    }

    fn committed(&mut self, durable: bool) {
        if durable {
            self.relaxed_since = None;
            self.session.count_durable_commit();
        } else {
            self.relaxed_since.get_or_insert_with(Instant::now);
        }
    }

    /// Makes relaxed commits durable.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.session.check_poison()?;
        if self.relaxed_since.is_none() {
            return Ok(());
        }
        let flushed = self.fsync_at_commit(true).and_then(|()| self.begin()).and_then(|()| {
            self.touch()?;
            self.execute("COMMIT")
        });
        match flushed {
            Ok(()) => {
                self.committed(true);
                Ok(())
            }
            Err(error) => {
                self.roll_back();
                // Not before another interval: a full disk is not asked in a loop.
                self.relaxed_since = Some(Instant::now());
                Err(self.session.fail(error))
            }
        }
    }

    /// Copies the log into the database when it has grown enough.
    fn checkpoint(&self) {
        if self.session.is_poisoned() {
            return;
        }
        let result = self.log_pages("PRAGMA wal_checkpoint(NOOP)").and_then(|pages| {
            if pages >= i64::from(self.config.checkpoint_pages) {
                self.log_pages("PRAGMA wal_checkpoint(PASSIVE)")?;
            }
            Ok(())
        });
        match result {
            // What is not copied now stays in the log and is copied later.
            Err(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                ) => {}
            Err(error) => drop(self.session.fail(error)),
            Ok(()) => {}
        }
    }

    /// Runs a checkpoint and answers how many pages of the log are not in the database.
    fn log_pages(&self, pragma: &str) -> rusqlite::Result<i64> {
        self.conn.prepare_cached(pragma)?.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    }
}

/// Answers every batch with the error; the first gets the one with its source.
fn refuse(session: &Session, jobs: &mut Vec<Job>, error: StoreError) {
    let (kind, detail) = (error.kind(), error.to_string());
    let mut first = Some(error);
    for job in jobs.drain(..) {
        let again = || session.check_poison().err();
        let error = first.take().or_else(again).unwrap_or_else(|| StoreError::new(kind, error::NAME, detail.clone()));
        let _ = job.reply.send(Err(error));
    }
}
