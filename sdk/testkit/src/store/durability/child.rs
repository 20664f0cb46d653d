//! The second process: this test executable, started again for one ignored test.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use byway_api::{RouteStore, StoreError, Write};

use super::place::{Place, broken};
use super::script::{CALLERS, durable, lasting, relaxed, sized};
use super::{StoreInFile, Subject};
use crate::promise::{Broken, ensure};

/// What the second process does, where, from which number on, and how often.
const ROLE: &str = "BYWAY_STORE_ROLE";
const FILE: &str = "BYWAY_STORE_FILE";
const FIRST: &str = "BYWAY_STORE_FIRST";
const TIMES: &str = "BYWAY_STORE_TIMES";
/// How long a store may take for one answer, in milliseconds.
const ANSWER: &str = "BYWAY_STORE_ANSWER";

/// How long a process may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const ACK: &str = "acknowledged ";
pub(super) const HELD: &str = "the store is open";
pub(super) const REFUSED: &str = "refused: ";
pub(super) const SILENT: &str = "no answer: ";
pub(super) const END: &str = "the script has ended";

#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// Eight callers, each in a loop; every durable batch is acknowledged on standard output.
    Append,
    /// The same in two halves, with the store closed and opened between them.
    AppendTwice,
    /// Holds the store until its standard input ends.
    Hold,
    /// A few batches by two callers; every error is told, and the store is closed and opened again.
    Script,
}

impl Role {
    const ALL: [Self; 4] = [Self::Append, Self::AppendTwice, Self::Hold, Self::Script];

    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::AppendTwice => "append twice",
            Self::Hold => "hold",
            Self::Script => "script",
        }
    }
}

/// What a process does from which number on, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) role: Role,
    pub(super) first: u64,
    pub(super) times: u64,
}

/// A running second process; killed when dropped.
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this executable, or a command that starts it, as its last argument says.
    pub(super) fn start(subject: &Subject, place: &Place, task: Task, prefix: &[String]) -> Result<Self, Broken> {
        let this = std::env::current_exe().map_err(|e| broken("this executable is not known", e))?;
        let mut command = match prefix {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(this);
                command
            }
            [] => Command::new(this),
        };
        command.args([&*subject.child, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, task.role.name()).env(FILE, place.store());
        command.env(ANSWER, subject.effort.answer.as_millis().to_string());
        command.env(FIRST, task.first.to_string()).env(TIMES, task.times.to_string());
        let said = OpenOptions::new().create(true).append(true).open(place.beside("stderr"));
        command.stderr(said.map_err(|e| broken("no file for the process", e))?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| broken("no second process", e))?;
        let output = child.stdout.take();
        let (sender, lines) = sync_channel(1024);
        thread::spawn(move || {
            let Some(output) = output else { return };
            let mut output = BufReader::new(output);
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|n| n > 0) {
                // A line that a kill cut off was not said.
                if line.pop() != Some('\n') || sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line, `None` at the end of the process.
    pub(super) fn line(&self) -> Result<Option<String>, Broken> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Broken::new(format!("a process said nothing for {PATIENCE:?}"))),
        }
    }

    /// What follows `prefix` on the next line that has it.
    pub(super) fn next(&self, prefix: &str) -> Result<Option<String>, Broken> {
        while let Some(line) = self.line()? {
            // libtest prints the name of a test without ending the line.
            if let Some((_, rest)) = line.split_once(prefix) {
                return Ok(Some(rest.to_owned()));
            }
        }
        Ok(None)
    }

    /// Closes its standard input and waits for its end.
    pub(super) fn end(mut self) -> Result<ExitStatus, Broken> {
        drop(self.child.stdin.take());
        while self.line()?.is_some() {}
        self.child.wait().map_err(|e| broken("a process cannot be waited for", e))
    }

    /// Kills it with signal 9 and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<(), Broken> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|e| broken("a process cannot be killed", e))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the ignored test of a suite: what the second process does. Without a parent it does
/// nothing.
#[expect(clippy::panic, reason = "this is the body of a #[test]")]
pub fn run_child(files: impl StoreInFile) {
    let (Ok(role), Some(file)) = (std::env::var(ROLE), std::env::var_os(FILE)) else { return };
    let Some(role) = Role::ALL.into_iter().find(|known| known.name() == role) else { panic!("no role {role}") };
    let task = Task { role, first: number(FIRST), times: number(TIMES) };
    let _ended = Watchdog::start(files.deadline());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no tokio runtime: {error}"),
    };
    if let Err(broken) = runtime.block_on(run(&files, &PathBuf::from(file), task)) {
        panic!("{broken}");
    }
}

/// What the parent process said.
fn number(name: &str) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Ends a process whose store does not: nobody else may be there to end it.
struct Watchdog(std::sync::mpsc::SyncSender<()>);

impl Watchdog {
    fn start(after: Duration) -> Self {
        let (ended, waits) = sync_channel(1);
        thread::spawn(move || {
            if waits.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                std::process::abort();
            }
        });
        Self(ended)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn run(files: &dyn StoreInFile, file: &Path, task: Task) -> Result<(), Broken> {
    match task.role {
        Role::Append => append(files, file, task.first, task.times).await,
        Role::AppendTwice => {
            let half = task.times / 2;
            append(files, file, task.first, half).await?;
            append(files, file, task.first + half, task.times - half).await
        }
        Role::Hold => hold(files, file).await,
        Role::Script => script(files, file, task).await,
    }
}

/// Past libtest, which keeps what `println!` prints.
fn say(line: &str) -> Result<(), Broken> {
    let mut out = std::io::stdout().lock();
    let said = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    said.map_err(|e| broken("nobody listens", e))
}

async fn append(files: &dyn StoreInFile, file: &Path, first: u64, times: u64) -> Result<(), Broken> {
    let store = files.open(file).await.map_err(|e| broken("it does not open", e))?;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for n in (first..first + times).filter(|n| n % CALLERS == caller) {
                for batch in [vec![relaxed(n)], durable(n)] {
                    let applied = store.apply(&batch).await.map_err(|e| broken("a batch is refused", e))?;
                    ensure!(applied.iter().all(|a| *a == byway_api::Applied::Done), "batch {n}: {applied:?}");
                }
                say(&format!("{ACK}{n}"))?;
            }
            Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|e| broken("apply panicked", e))??;
    }
    store.close().await.map_err(|e| broken("it does not close", e))
}

async fn hold(files: &dyn StoreInFile, file: &Path) -> Result<(), Broken> {
    match files.open(file).await {
        Ok(store) => {
            say(HELD)?;
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(|e| broken("no standard input", e))?;
            store.close().await.map_err(|e| broken("it does not close", e))
        }
        Err(error) => say(&format!("{REFUSED}{:?} {error}", error.kind())),
    }
}

/// Tells how one call ended.
async fn told<T>(what: &str, call: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, Broken> {
    let limit = Duration::from_millis(number(ANSWER));
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(done)) => return Ok(Some(done)),
        Ok(Err(error)) => say(&format!("{REFUSED}{what}: {:?} {error}", error.kind()))?,
        Err(_) => say(&format!("{SILENT}{what} within {limit:?}"))?,
    }
    Ok(None)
}

/// One caller's batches: told one by one.
async fn attempt(store: &dyn RouteStore, n: u64) -> Result<(), Broken> {
    for (what, batch) in [("a relaxed batch", vec![relaxed(n)]), ("a durable batch", durable(n))] {
        let Some(applied) = told(what, store.apply(&batch)).await? else { return Ok(()) };
        ensure!(applied.len() == batch.len(), "{} writes have {} answers", batch.len(), applied.len());
    }
    say(&format!("{ACK}{n}"))
}

async fn script(files: &dyn StoreInFile, file: &Path, task: Task) -> Result<(), Broken> {
    const SESSIONS: u64 = 2;
    let each = task.times / SESSIONS;
    for session in 0..SESSIONS {
        let Some(store) = told("open", files.open(file)).await? else { continue };
        for n in (task.first + session * each..task.first + (session + 1) * each).step_by(2) {
            tokio::try_join!(attempt(&*store, n), attempt(&*store, n + 1))?;
        }
        told("load", store.load(byway_api::Load::Outbox, None, 10)).await?;
        told("close", store.close()).await?;
    }
    say(END)
}

/// How the disk filled up.
pub(super) struct Filled {
    pub(super) acknowledged: BTreeSet<u64>,
    pub(super) refused: Vec<StoreError>,
}

/// Adds large batches by two callers until some are refused.
pub(super) async fn fill(store: &dyn RouteStore) -> Result<Filled, Broken> {
    const REFUSALS: usize = 4;
    const SIZE: usize = 60_000;
    /// No disk for a test is larger than so many.
    const MOST: u64 = 10_000;
    let mut filled = Filled { acknowledged: BTreeSet::new(), refused: Vec::new() };
    let started = Instant::now();
    let add = async |n| {
        store.apply(&[relaxed(n)]).await?;
        let batch: Vec<Write> = sized(n, SIZE);
        store.apply(&batch).await.map(drop)
    };
    for n in (0..MOST).step_by(2) {
        let (one, other) = (lasting(n), lasting(n + 1));
        let (a, b) = tokio::join!(add(one), add(other));
        for (n, result) in [(one, a), (other, b)] {
            match result {
                Ok(()) => drop(filled.acknowledged.insert(n)),
                Err(error) => filled.refused.push(error),
            }
        }
        if filled.refused.len() >= REFUSALS {
            return Ok(filled);
        }
        ensure!(started.elapsed() < PATIENCE, "the disk is not full after {PATIENCE:?}");
    }
    Err(Broken::new("more was acknowledged than the disk can hold"))
}
