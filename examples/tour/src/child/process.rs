//! One process: started, written to, read, killed, waited for.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PATIENCE;
use crate::report::{Failure, Result};

/// Lines that wait, in each direction.
const LINES: usize = 1_024;
/// Lines of a log that are kept.
const KEPT: usize = 1_000;
/// What the children log: enough to see why something failed. It is shown only then.
const LOG_FILTER: &str = "info,byway=debug,rtc=error";

/// The last lines of a process's stderr. Outlives the process.
#[derive(Clone, Debug)]
pub struct Log(Arc<watch::Sender<VecDeque<String>>>);

impl Log {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(VecDeque::new())))
    }

    fn push(&self, line: String) {
        self.0.send_modify(|lines| {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        });
    }

    /// The last lines, at most `most`.
    pub fn tail(&self, most: usize) -> Vec<String> {
        let lines = self.0.borrow();
        lines.iter().skip(lines.len().saturating_sub(most)).cloned().collect()
    }

    /// Waits for a line that contains all of these, which may be there already.
    ///
    /// # Errors
    /// [`Failure`] if there is none in time.
    pub async fn until(&self, parts: &[&str]) -> Result<String> {
        let mut lines = self.0.subscribe();
        let find =
            |lines: &VecDeque<String>| lines.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned();
        let found = timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await;
        let found = found.ok().and_then(|lines| lines.ok().and_then(|lines| find(&lines)));
        found.ok_or_else(|| Failure::new(format!("no line in a log has {parts:?}")))
    }
}

/// A process of this same program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: Log,
    stdin: Mutex<Option<mpsc::Sender<String>>>,
    child: Mutex<Option<Child>>,
    /// Copy the lines; end when the process has.
    _pumps: JoinSet<()>,
}

impl Process {
    /// Starts this program again with other arguments. Also returns the lines of its stdout.
    ///
    /// # Errors
    /// If the system does not start it.
    pub fn start(name: &str, args: &[OsString]) -> Result<(Self, mpsc::Receiver<String>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).env("RUST_LOG", LOG_FILTER).env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C is for the tour alone, which then ends its children.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|e| Failure::new(format!("{name} does not start: {e}")))?;
        let missing = || Failure::new(format!("{name} has no pipes"));
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;

        let log = Log::new();
        let (to_child, lines) = mpsc::channel(LINES);
        let (from_child, received) = mpsc::channel(LINES);
        let mut pumps = JoinSet::new();
        pumps.spawn(write_lines(stdin, lines));
        pumps.spawn(read_lines(stdout, from_child));
        let kept = log.clone();
        pumps.spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                kept.push(line);
            }
        });
        let process = Self {
            name: name.to_owned(),
            pid: child.id().unwrap_or_default(),
            log,
            stdin: Mutex::new(Some(to_child)),
            child: Mutex::new(Some(child)),
            _pumps: pumps,
        };
        Ok((process, received))
    }

    /// Its name in the tour.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The system's number for it.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has logged.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Whether it was neither killed nor waited for.
    pub fn is_alive(&self) -> bool {
        lock(&self.child).is_some()
    }

    /// Writes a line to its stdin.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn write(&self, line: String) -> Result<()> {
        let stdin = lock(&self.stdin).clone();
        let ended = || Failure::new(format!("{} has ended", self.name));
        stdin.ok_or_else(ended)?.send(line).await.map_err(|_| ended())
    }

    /// `kill -9`: it learns nothing of it and can do nothing about it.
    ///
    /// # Errors
    /// If the system does not do it.
    pub async fn kill(&self) -> Result<()> {
        let child = lock(&self.child).take();
        if let Some(mut child) = child {
            child.start_kill()?;
            child.wait().await?;
        }
        Ok(())
    }

    /// Closes its stdin and waits until it has ended by itself.
    ///
    /// # Errors
    /// If it does not end in time; then it is killed.
    pub async fn finish(&self) -> Result<ExitStatus> {
        lock(&self.stdin).take();
        let child = lock(&self.child).take();
        let Some(mut child) = child else {
            return Err(Failure::new(format!("{} has ended before", self.name)));
        };
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => Err(Failure::new(format!("{} does not end", self.name))),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends, and closes the pipe, when nobody can send any more.
async fn write_lines(mut stdin: ChildStdin, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

async fn read_lines(pipe: impl AsyncRead + Unpin, to: mpsc::Sender<String>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).await.is_err() {
            return;
        }
    }
}
