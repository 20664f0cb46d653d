//! A store for small programs: everything in memory, and after each commit the whole of it in one file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Error as IoError, ErrorKind, Read as _, Result as IoResult, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use byway_api::{Applied, Durability, Key, Load, RouteStore, Row, StoreError, StoreErrorKind, Write, async_trait};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::codec::{get_row, put_row};
use crate::tables::Tables;

const NAME: &str = "shelf";
const TITLE: &[u8; 12] = b"byway-shelf\0";
const VERSION: u32 = 1;
/// Writes of a batch and rows of a page, at most.
const BATCH: usize = 4_096;

/// The numbers of a [`Shelf`].
#[derive(Clone, Copy, Debug)]
pub struct ShelfConfig {
    /// How long a relaxed write waits for a commit to go with. Default 1 s.
    pub relaxed: Duration,
    /// Batches that wait for the writer, and those that may share a commit. Default 256.
    pub waiting: usize,
}

impl Default for ShelfConfig {
    fn default() -> Self {
        Self { relaxed: Duration::from_secs(1), waiting: 256 }
    }
}

/// Rows in memory, with a copy in a file that is replaced as a whole at each commit: right for a bot with some
/// hundreds of rows, and slow for many thousands.
#[derive(Debug)]
pub struct Shelf {
    tables: Arc<Mutex<Arc<Tables>>>,
    commits: Arc<AtomicU64>,
    closed: AtomicBool,
    writer: mpsc::Sender<Request>,
}

type Reply = oneshot::Sender<Result<Vec<Applied>, StoreError>>;

enum Request {
    Apply(Vec<Write>, Reply),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

impl Shelf {
    /// Opens the store in this file; its directory has to exist. `path` with `.lock` and `.new` behind it are
    /// its own too.
    ///
    /// # Errors
    /// `Busy`, `Corrupt`, `NewerSchema`, `ReadOnly`, `Io`.
    pub fn open(path: impl Into<PathBuf>, config: ShelfConfig) -> Result<Self, StoreError> {
        let path = path.into();
        let lock = lock(&path)?;
        let read = match read(&path) {
            Ok(tables) => Arc::new(tables),
            Err(e) => {
                let _ = lock.unlock();
                return Err(e);
            }
        };
        let (tables, commits) = (Arc::new(Mutex::new(Arc::clone(&read))), Arc::new(AtomicU64::new(0)));
        let (writer, requests) = mpsc::channel(config.waiting);
        let published = Arc::clone(&tables);
        let file = OfFile { path, lock, tables: read, published, commits: Arc::clone(&commits), failed: false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| failed("starting the writer", e))?;
        let started = std::thread::Builder::new()
            .name("shelf".to_owned())
            .spawn(move || runtime.block_on(file.serve(requests, config)));
        started.map_err(|e| failed("starting the writer", e))?;
        Ok(Self { tables, commits, closed: AtomicBool::new(false), writer })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(request(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

#[async_trait]
impl RouteStore for Shelf {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        check(batch)?;
        self.ask(|reply| Request::Apply(batch.to_vec(), reply)).await
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        if !(1..=BATCH).contains(&limit) {
            return Err(error(StoreErrorKind::TooLarge, format!("a page of {limit} rows, 1 to {BATCH}")));
        }
        let tables = Arc::clone(&self.tables.lock().unwrap_or_else(PoisonError::into_inner));
        let page = tables.load(&what, after.as_ref(), limit);
        page.ok_or_else(|| error(StoreErrorKind::Io, format!("{what:?} is of a newer version of the node")))
    }

    fn durable_commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::Release);
        match self.ask(Request::Close).await {
            Err(e) if e.kind() == StoreErrorKind::Closed => Ok(()),
            answer => answer,
        }
    }
}

fn check(batch: &[Write]) -> Result<(), StoreError> {
    if batch.len() > BATCH {
        return Err(error(StoreErrorKind::TooLarge, format!("a batch of {} writes, at most {BATCH}", batch.len())));
    }
    for write in batch {
        if !Tables::knows(write) {
            return Err(error(StoreErrorKind::Io, "a write of a newer version of the node"));
        }
        if let Write::Meta { key, value, .. } = write
            && (key.len() > 128 || value.as_ref().is_some_and(|value| value.len() > 64 * 1024))
        {
            return Err(error(StoreErrorKind::TooLarge, "a named value has at most 64 KiB and its name 128 bytes"));
        }
    }
    Ok(())
}

/// The writer's side.
struct OfFile {
    path: PathBuf,
    lock: File,
    tables: Arc<Tables>,
    published: Arc<Mutex<Arc<Tables>>>,
    commits: Arc<AtomicU64>,
    /// Nobody knows what the disk has.
    failed: bool,
}

impl OfFile {
    /// Until the store is closed or dropped: takes what waits, applies it, commits once, answers.
    async fn serve(mut self, mut requests: mpsc::Receiver<Request>, config: ShelfConfig) {
        let mut due: Option<Instant> = None;
        let mut closing = None;
        while closing.is_none() {
            let first = match due {
                Some(due) => timeout_at(due, requests.recv()).await,
                None => Ok(requests.recv().await),
            };
            let mut group = Vec::new();
            let mut next = match first {
                Ok(Some(request)) => Some(request),
                Ok(None) => break,
                Err(_) => {
                    due = self.commit(Arc::clone(&self.tables)).is_err().then(|| Instant::now() + config.relaxed);
                    continue;
                }
            };
            while let Some(request) = next.take() {
                match request {
                    Request::Apply(batch, reply) => group.push((batch, reply)),
                    Request::Close(reply) => closing = Some(reply),
                }
                if closing.is_none() && group.len() < config.waiting {
                    next = requests.try_recv().ok();
                }
            }
            let durable = self.group(group);
            due = if durable { None } else { due.or_else(|| Some(Instant::now() + config.relaxed)) };
        }
        requests.close();
        let last = if due.is_some() { self.commit(Arc::clone(&self.tables)) } else { Ok(()) };
        // A process that is just being started may have a copy of the descriptor: closing it is not enough.
        let _ = self.lock.unlock();
        drop(self);
        if let Some(reply) = closing {
            let _ = reply.send(last);
        }
    }

    /// Answers a group. True if all there is is on the disk now.
    fn group(&mut self, group: Vec<(Vec<Write>, Reply)>) -> bool {
        let durable = |write: &Write| write.durability() == Durability::Durable;
        let must = group.iter().any(|(batch, _)| batch.iter().any(durable));
        let mut tables = Arc::clone(&self.tables);
        // copies the map once for the group, and none of its rows
        let changed = Arc::make_mut(&mut tables);
        let answers: Vec<(Vec<Applied>, Reply)> = group
            .into_iter()
            .map(|(batch, reply)| (batch.iter().map(|write| changed.apply(write)).collect(), reply))
            .collect();
        let done = if must {
            self.commit(tables)
        } else if self.failed {
            Err(unknown())
        } else {
            self.publish(tables);
            Ok(())
        };
        let saved = must && done.is_ok();
        for (answer, reply) in answers {
            let answer = done.as_ref().map(|()| answer).map_err(|e| error(e.kind(), e.detail()));
            // a caller that has gone away needs none
            let _ = reply.send(answer);
        }
        saved
    }

    fn publish(&mut self, tables: Arc<Tables>) {
        self.tables = Arc::clone(&tables);
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// On the disk, and then for all to see; or neither.
    fn commit(&mut self, tables: Arc<Tables>) -> Result<(), StoreError> {
        if self.failed {
            return Err(unknown());
        }
        let (new, bytes) = (beside(&self.path, ".new"), print(&tables));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&new);
            return Err(failed("writing", e));
        }
        let renamed = fs::rename(&new, &self.path).and_then(|()| sync_directory(&self.path));
        renamed.map_err(|e| {
            self.failed = true;
            failed("replacing the file", e)
        })?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.publish(tables);
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, ".lock"));
    let lock = lock.map_err(|e| failed("locking", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(error(StoreErrorKind::Busy, format!("{} is open", path.display()))),
        Err(TryLockError::Error(e)) => Err(failed("locking", e)),
    }
}

fn read(path: &Path) -> Result<Tables, StoreError> {
    let mut bytes = Vec::new();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map_err(|e| failed("reading", e))?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Tables::default()),
        Err(e) => return Err(failed("opening", e)),
    };
    let corrupt = || error(StoreErrorKind::Corrupt, format!("restore {} from a copy", path.display()));
    let (version, _) = bytes.strip_prefix(TITLE).and_then(<[u8]>::split_first_chunk).ok_or_else(corrupt)?;
    let (content, sum) = bytes.split_last_chunk::<32>().ok_or_else(corrupt)?;
    if <[u8; 32]>::from(Sha256::digest(content)) != *sum {
        return Err(corrupt());
    }
    if u32::from_be_bytes(*version) != VERSION {
        return Err(error(StoreErrorKind::NewerSchema, format!("{} needs a newer program", path.display())));
    }
    let mut tables = Tables::default();
    let mut rest = content.get(TITLE.len() + size_of::<u32>()..).ok_or_else(corrupt)?;
    while !rest.is_empty() {
        tables.insert(get_row(&mut rest).ok_or_else(corrupt)?);
    }
    Ok(tables)
}

/// Title, version, rows, SHA-256 of all that.
fn print(tables: &Tables) -> Vec<u8> {
    let mut bytes = [&TITLE[..], &VERSION.to_be_bytes()].concat();
    tables.rows().for_each(|row| put_row(row, &mut bytes));
    let sum: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&sum);
    bytes
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn sync_directory(path: &Path) -> IoResult<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(".".as_ref()))?.sync_all()
}

fn failed(what: &str, e: IoError) -> StoreError {
    let kind = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::DiskFull,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => StoreErrorKind::ReadOnly,
        _ => StoreErrorKind::Io,
    };
    error(kind, what).with_source(e)
}

fn unknown() -> StoreError {
    error(StoreErrorKind::Io, "the disk failed before; open the store again")
}

fn closed() -> StoreError {
    error(StoreErrorKind::Closed, "")
}

fn error(kind: StoreErrorKind, detail: impl Into<String>) -> StoreError {
    StoreError::new(kind, NAME, detail)
}
