//! The embedded database's thread: SQL runs there and nowhere else.

use std::path::Path;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::backend::BackendError;
use crate::config::Database;

/// "bywy": tells our file from any other SQLite file.
const APPLICATION_ID: i32 = 0x6279_7779;
const SCHEMA_VERSION: i32 = 1;
/// Calls that wait for the thread.
const QUEUE: usize = 1024;
/// Calls in one transaction.
const BATCH: usize = 128;

/// How long a registry that is just stopping may still hold the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

const SCHEMA: &str = "
CREATE TABLE active_peers (
  network_id TEXT NOT NULL, user_id TEXT NOT NULL, peer_id TEXT NOT NULL, signal_address TEXT NOT NULL,
  last_seen INTEGER NOT NULL, is_coordinator INTEGER NOT NULL DEFAULT 0, expires_at INTEGER NOT NULL,
  PRIMARY KEY (network_id, peer_id)) WITHOUT ROWID;
CREATE INDEX active_peers_last_seen ON active_peers (last_seen);
CREATE TABLE records (
  network_id TEXT NOT NULL, peer_id TEXT NOT NULL, user_id TEXT NOT NULL, signal_address TEXT NOT NULL,
  seq INTEGER NOT NULL, record BLOB NOT NULL, expires_at INTEGER NOT NULL, coordinators BLOB NOT NULL,
  capacity INTEGER, last_seen INTEGER NOT NULL, announced_at INTEGER NOT NULL,
  PRIMARY KEY (network_id, peer_id));
CREATE INDEX records_user ON records (network_id, user_id);
CREATE INDEX records_expiry ON records (expires_at);
CREATE TABLE coordinators (
  network_id TEXT NOT NULL, peer_id TEXT NOT NULL, capacity INTEGER NOT NULL, last_heartbeat INTEGER NOT NULL,
  active_peers INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (network_id, peer_id)) WITHOUT ROWID;
";

type Committed = Result<(), String>;
type Reply = Box<dyn FnOnce(&Committed) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Reply + Send>;

/// A handle on the thread. Calls that wait together share one transaction and are answered after it.
#[derive(Debug)]
pub(crate) struct Sqlite {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    patience: Duration,
}

impl Sqlite {
    /// Opens or makes the database. Blocks while it reads the file.
    pub(crate) fn open(database: &Database, patience: Duration) -> Result<Self, BackendError> {
        let connection = match database {
            Database::Memory => Connection::open_in_memory(),
            Database::File(path) => Connection::open(path),
        };
        let connection = connection.map_err(|e| unusable(database, &e))?;
        prepare(&connection).map_err(|e| match e {
            BackendError::Failed(e) => unusable(database, &e),
            other => other,
        })?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("byway-registry-db".to_owned())
            .spawn(move || run(&connection, queue))
            .map_err(|e| BackendError::Failed(e.to_string()))?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), patience })
    }

    /// Runs `f` in the thread's next transaction and answers once that is committed. If `f` fails,
    /// nothing of it is kept; the others of the transaction are.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let done = in_savepoint(connection, f);
            Box::new(move |committed| {
                let done = done.map_err(|e| BackendError::Failed(e.to_string()));
                let outcome = committed.clone().map_err(BackendError::Failed).and(done);
                let _ = answer.send(outcome);
            })
        });
        let jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        jobs.ok_or(BackendError::Closed)?.try_send(job).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => BackendError::Busy,
            mpsc::error::TrySendError::Closed(_) => BackendError::Closed,
        })?;
        match timeout(self.patience, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(BackendError::Closed),
            Err(_) => Err(BackendError::Timeout),
        }
    }

    /// Lets the thread finish what waits, and joins it.
    pub(crate) async fn close(&self) {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn run(connection: &Connection, mut queue: mpsc::Receiver<Job>) {
    let mut replies: Vec<Reply> = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| e.to_string());
        let mut next = Some(first);
        while let Some(job) = next {
            replies.push(job(connection));
            next = if replies.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        let committed = begun.and_then(|()| {
            connection.execute_batch("COMMIT").map_err(|e| {
                let _ = connection.execute_batch("ROLLBACK");
                e.to_string()
            })
        });
        if let Err(why) = &committed {
            tracing::error!(target: "byway::registry", %why, "the database does not commit");
        }
        for reply in replies.drain(..) {
            reply(&committed);
        }
    }
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

fn in_savepoint<T>(connection: &Connection, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT call")?;
    match f(connection) {
        Ok(value) => connection.execute_batch("RELEASE call").map(|()| value),
        Err(e) => {
            let _ = connection.execute_batch("ROLLBACK TO call; RELEASE call");
            Err(e)
        }
    }
}

fn prepare(connection: &Connection) -> Result<(), BackendError> {
    let failed = |e: rusqlite::Error| BackendError::Failed(e.to_string());
    connection.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
    // What is lost in a power cut is announced again; a crash of the process loses nothing.
    connection
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             PRAGMA journal_size_limit = 16777216; BEGIN IMMEDIATE;",
        )
        .map_err(failed)?;
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (id, version) = (pragma("application_id").map_err(failed)?, pragma("user_version").map_err(failed)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    match (id, version, tables) {
        (0, 0, 0) => connection
            .execute_batch(&format!(
                "{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))
            .map_err(failed),
        (APPLICATION_ID, SCHEMA_VERSION, _) => connection.execute_batch("COMMIT").map_err(failed),
        (APPLICATION_ID, newer, _) => Err(BackendError::Unusable(format!(
            "the database has version {newer}; this registry knows {SCHEMA_VERSION}: use a newer one, or another file"
        ))),
        _ => Err(BackendError::Unusable("the database is not a registry's: give another file with --db".to_owned())),
    }
}

fn unusable(database: &Database, why: &dyn std::fmt::Display) -> BackendError {
    let name = match database {
        Database::Memory => ":memory:".to_owned(),
        Database::File(path) => display(path),
    };
    BackendError::Unusable(format!(
        "the database {name} cannot be used ({why}); is another registry running on it, and is it writable?"
    ))
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
