//! The thread that writes: group commit.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use byway_api::{Applied, StoreError, StoreErrorKind, Write};
use redb::{Database, Durability};
use tokio::sync::oneshot;

use crate::error::{Failure, NAME};
use crate::open::Medium;
use crate::reader::{Abandon, Request};
use crate::rows::Rows;
use crate::session::Session;
use crate::write;
use byway_store_file::lock::Lock;
use byway_store_file::queue::{Queue, Taken};

/// A batch that waits.
pub(crate) struct Job {
    pub(crate) batch: Vec<Write>,
    pub(crate) durable: bool,
    pub(crate) reply: oneshot::Sender<Result<Vec<Applied>, StoreError>>,
}

pub(crate) struct Writer {
    medium: Medium,
    session: Arc<Session>,
    queue: Arc<Queue<Job>>,
    lock: Option<Lock>,
    reads: Arc<Queue<Request>>,
    reader: JoinHandle<()>,
    /// What was committed and is not on the disk: it is applied again when the database was opened
    /// again after a full disk.
    unsaved: Vec<Write>,
    /// When it gets a durable commit of its own.
    flush_at: Option<Instant>,
}

/// What became of the batches of one transaction.
type Results = Vec<Vec<Applied>>;

impl Writer {
    pub(crate) fn new(
        medium: Medium,
        session: Arc<Session>,
        queue: Arc<Queue<Job>>,
        lock: Option<Lock>,
        (reads, reader): (Arc<Queue<Request>>, JoinHandle<()>),
    ) -> Self {
        Self { medium, session, queue, lock, reads, reader, unsaved: Vec::new(), flush_at: None }
    }

    pub(crate) fn run(mut self, end: oneshot::Sender<Result<(), StoreError>>) {
        let queue = Arc::clone(&self.queue);
        let _abandon = Abandon(&queue);
        let session = Arc::clone(&self.session);
        let _leave = Leave(&session);
        let mut jobs = Vec::new();
        loop {
            match queue.take(&mut jobs, self.flush_at) {
                Taken::Some => self.commit(&mut jobs),
                Taken::Timeout => {}
                Taken::Ended => break,
            }
            if self.flush_at.is_some_and(|at| at <= Instant::now()) {
                // A failure is kept by the session, or `flush_at` is when it is tried again.
                let _ = self.flush();
            }
        }
        let mut saved = self.flush();
        self.reads.end();
        if self.reader.join().is_err() {
            saved = Err(StoreError::new(StoreErrorKind::Io, NAME, "the reader panicked: open the store again"));
        }
        // Everything is saved, or the reason is known: what closing cannot write is made anew when the
        // store is opened.
        let _ = self.session.replace(|| Ok(None));
        drop(self.lock);
        let _ = end.send(saved);
    }

    /// Commits everything in one transaction and answers. If the disk is too full for it, the batches
    /// that only take away get another one, after some room was made: nobody could empty a full store
    /// otherwise.
    fn commit(&mut self, jobs: &mut Vec<Job>) {
        if let Err(error) = self.session.check_poison() {
            return refuse(&self.session, jobs, error);
        }
        let failed = match self.transaction(jobs) {
            Ok(results) => return self.answer(jobs, results),
            Err(failed) => failed,
        };
        let error = self.give_up(failed);
        let goes_on = self.session.check_poison().is_ok();
        let (mut freeing, mut adding): (Vec<_>, Vec<_>) =
            jobs.drain(..).partition(|job| goes_on && job.batch.iter().all(write::frees));
        refuse(&self.session, &mut adding, error);
        if freeing.is_empty() {
            return;
        }
        let made_room = make_room(self.session.database().as_ref());
        match made_room.and_then(|()| self.transaction(&mut freeing)) {
            Ok(results) => self.answer(&mut freeing, results),
            Err(failed) => {
                let error = self.give_up(failed);
                refuse(&self.session, &mut freeing, error);
            }
        }
    }

    fn answer(&self, jobs: &mut Vec<Job>, results: Results) {
        for (job, applied) in jobs.drain(..).zip(results) {
            let _ = job.reply.send(Ok(applied));
        }
    }

    /// Either all of it is committed, or nothing is and the error says so.
    fn transaction(&mut self, jobs: &mut [Job]) -> Result<Results, Failure> {
        let durable = jobs.iter().any(|job| job.durable) || self.unsaved.len() >= self.medium.config.relaxed_writes;
        let session = Arc::clone(&self.session);
        let database = session.database();
        let database = opened(database.as_ref())?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        let mut results = Results::with_capacity(jobs.len());
        let mut rows = Rows::open(&transaction)?;
        for job in &*jobs {
            let applied: Result<Vec<_>, _> = job.batch.iter().map(|write| write::apply(&mut rows, write)).collect();
            results.push(applied?);
        }
        drop(rows);
        let changed = results.iter().flatten().any(|applied| *applied == Applied::Done);
        let saves = durable && !self.unsaved.is_empty();
        if !changed && !saves {
            transaction.abort()?;
            return Ok(results);
        }
        transaction.commit()?;
        if durable {
            self.saved();
        } else {
            self.unsaved.extend(jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.batch)));
            let flush = self.medium.config.relaxed_flush;
            self.flush_at.get_or_insert_with(|| Instant::now() + flush);
        }
        Ok(results)
    }

    fn saved(&mut self) {
        self.unsaved.clear();
        self.flush_at = None;
        self.session.count_durable_commit();
    }

    /// Makes relaxed commits durable.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.session.check_poison()?;
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let promoted = promote(self.session.database().as_ref());
        match promoted {
            Ok(()) => {
                self.saved();
                Ok(())
            }
            Err(failed) => {
                let full = failed.kind() == StoreErrorKind::DiskFull;
                let error = self.give_up(failed);
                self.flush_at = full.then(|| Instant::now() + self.medium.config.retry_full);
                Err(error)
            }
        }
    }

    /// The error for the callers of a transaction that failed. A full disk is no reason to end: redb
    /// refuses to go on, and the database is opened again as its last durable commit left it.
    fn give_up(&mut self, failed: Failure) -> StoreError {
        if failed.kind() != StoreErrorKind::DiskFull {
            return self.session.fail(failed);
        }
        let reopened = self.session.replace(|| self.medium.reopen().map(Some)).and_then(|()| self.apply_unsaved());
        match reopened {
            Ok(()) => failed.at(self.session.name()),
            Err(failure) => self.session.fail(failure),
        }
    }

    fn apply_unsaved(&self) -> Result<(), Failure> {
        let database = self.session.database();
        let mut transaction = opened(database.as_ref())?.begin_write()?;
        transaction.set_durability(Durability::None)?;
        let mut rows = Rows::open(&transaction)?;
        for write in &self.unsaved {
            write::apply(&mut rows, write)?;
        }
        drop(rows);
        transaction.commit()?;
        Ok(())
    }
}

fn opened(database: Option<&Database>) -> Result<&Database, Failure> {
    database.ok_or_else(|| redb::StorageError::DatabaseClosed.into())
}

/// A durable commit takes every commit before it to the disk.
fn promote(database: Option<&Database>) -> Result<(), Failure> {
    let mut transaction = opened(database)?.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction.commit()?)
}

/// Removing copies pages before it frees any. What the last commits freed, of the rows and then of the
/// record of free pages, can be used after a commit each.
fn make_room(database: Option<&Database>) -> Result<(), Failure> {
    promote(database)?;
    promote(database)
}

/// A reader that waits for the writer does not wait for one that panicked.
struct Leave<'s>(&'s Session);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(StoreErrorKind::Io, "the writer panicked: open the store again".to_owned());
        }
    }
}

/// Answers every batch with the error; the first gets the one with its source.
fn refuse(session: &Session, jobs: &mut Vec<Job>, error: StoreError) {
    let (kind, detail) = (error.kind(), error.to_string());
    let mut first = Some(error);
    for job in jobs.drain(..) {
        let again = || session.check_poison().err();
        let error = first.take().or_else(again).unwrap_or_else(|| StoreError::new(kind, NAME, detail.clone()));
        let _ = job.reply.send(Err(error));
    }
}
