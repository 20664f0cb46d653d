//! The tour's handle to a member that is a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{Command, Line, Listed, Numbers, Request, Shown};
use super::{PATIENCE, Process};
use crate::report::{Failure, Result};

/// Messages and events that are remembered of one process.
const REMEMBERED: usize = 20_000;

/// A member in a process of its own. Cheap to clone: every clone is the same member.
#[derive(Clone, Debug)]
pub struct Person(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: Process,
    peer: String,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    seen: watch::Receiver<Seen>,
    written_to: Mutex<BTreeSet<String>>,
    _reader: JoinSet<()>,
}

/// Everything that the process has shown.
#[derive(Debug, Default)]
struct Seen {
    ready: Option<String>,
    messages: Vec<Shown>,
    roster: Vec<Listed>,
    events: Vec<String>,
    ended: bool,
}

type Answer = std::result::Result<Value, String>;

#[derive(Debug, Default)]
struct Waiting(Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, re: u64, answer: Answer) {
        if let Some(waiting) = self.lock().remove(&re) {
            let _ = waiting.send(answer);
        }
    }
}

impl Person {
    /// Starts a member and waits until its node runs.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(name: &str, args: &[OsString]) -> Result<Self> {
        let (process, lines) = Process::start(name, args)?;
        let (shown, mut seen) = watch::channel(Seen::default());
        let waiting = Arc::new(Waiting::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(lines, Arc::clone(&waiting), shown));
        let _ = timeout(PATIENCE, seen.wait_for(|seen| seen.ready.is_some() || seen.ended)).await.is_ok();
        let peer = seen.borrow().ready.clone();
        let Some(peer) = peer else {
            let log = process.log().tail(5).join("\n");
            return Err(Failure::new(format!("{name} does not start: {log}")));
        };
        Ok(Self(Arc::new(Inner {
            process,
            peer,
            next: AtomicU64::new(1),
            waiting,
            seen,
            written_to: Mutex::default(),
            _reader: reader,
        })))
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.process.name()
    }

    /// Its device.
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// To whom it was told to send.
    pub fn written_to(&self) -> Vec<String> {
        self.0.written_to.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Sends a text; returns its id when `send` has returned.
    ///
    /// # Errors
    /// [`Failure`], like those of all methods here, names the member and what it could not do.
    pub async fn send(&self, to: &str, text: &str) -> Result<String> {
        self.0.written_to.lock().unwrap_or_else(PoisonError::into_inner).insert(to.to_owned());
        self.ask(Command::Send { to: to.to_owned(), text: text.to_owned() }).await
    }

    /// Where a message stands.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn status(&self, id: &str) -> Result<String> {
        self.ask(Command::Status { id: id.to_owned() }).await
    }

    /// Waits until a message is Delivered.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn wait_delivered(&self, id: &str) -> Result<()> {
        self.wait_all_delivered(&[id.to_owned()]).await
    }

    /// Waits until all are Delivered.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn wait_all_delivered(&self, ids: &[String]) -> Result<()> {
        self.ask(Command::WaitDelivered { ids: ids.to_vec() }).await
    }

    /// Waits until a message is Read.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn wait_read(&self, id: &str) -> Result<()> {
        self.ask(Command::WaitRead { id: id.to_owned() }).await
    }

    /// Connects to a user.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(&self, to: &str) -> Result<()> {
        let within_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        self.ask(Command::Connect { to: to.to_owned(), within_ms }).await
    }

    /// Says that a message was read.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read(&self, id: &str) -> Result<()> {
        self.ask(Command::Read { id: id.to_owned() }).await
    }

    /// Says that the app is done with a message.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn done(&self, id: &str) -> Result<()> {
        self.ask(Command::Done { id: id.to_owned() }).await
    }

    /// Its metrics.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn metrics(&self) -> Result<Numbers> {
        self.ask(Command::Metrics).await
    }

    /// Why the last lookup of a user took its path.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn explain(&self, user: &str) -> Result<Option<String>> {
        self.ask(Command::Explain { user: user.to_owned() }).await
    }

    /// Keeps a pair of devices apart, as far as this member has a say.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn refuse(&self, a: &Self, b: &Self) -> Result<()> {
        self.ask(Command::Refuse { a: a.peer().to_owned(), b: b.peer().to_owned() }).await
    }

    /// Lets the pair connect again.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn allow(&self, a: &Self, b: &Self) -> Result<()> {
        self.ask(Command::Allow { a: a.peer().to_owned(), b: b.peer().to_owned() }).await
    }

    /// A text by which others find this member.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn invite(&self) -> Result<String> {
        self.ask(Command::Invite).await
    }

    /// Shuts the node down and waits until the process has ended by itself.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn stop(&self) -> Result<()> {
        let () = self.ask(Command::Stop).await?;
        let status = self.0.process.finish().await?;
        if status.success() { Ok(()) } else { Err(self.failure(format!("has ended with {status}"))) }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn kill(&self) -> Result<()> {
        self.0.process.kill().await
    }

    /// Waits until the inbox has shown a message with this text, which may be before now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn message(&self, text: &str) -> Result<Shown> {
        let wanted = format!("be shown {text:?}");
        self.until(&wanted, |seen| seen.messages.iter().find(|message| message.text == text).cloned()).await
    }

    /// Waits until the inbox has shown so many messages, in the order in which it did.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn messages(&self, count: usize) -> Result<Vec<Shown>> {
        let wanted = format!("be shown {count} messages");
        self.until(&wanted, |seen| (seen.messages.len() >= count).then(|| seen.messages.clone())).await
    }

    /// Waits until the node has told of an event whose text contains all of these, which may be before
    /// now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn event(&self, parts: &[&str]) -> Result<()> {
        let wanted = format!("tell of {parts:?}");
        let fits = |event: &String| parts.iter().all(|part| event.contains(part));
        self.until(&wanted, |seen| seen.events.iter().any(fits).then_some(())).await
    }

    /// What the inbox has shown so far.
    pub fn shown(&self) -> Vec<Shown> {
        self.0.seen.borrow().messages.clone()
    }

    /// How the member list shows a user now.
    pub fn sees(&self, user: &str) -> Option<Listed> {
        self.0.seen.borrow().roster.iter().find(|listed| listed.user == user).cloned()
    }

    /// The member list as it is now.
    pub fn roster(&self) -> Vec<Listed> {
        self.0.seen.borrow().roster.clone()
    }

    /// Waits until the member list shows a user with this icon and, somewhere in the path, this text.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn until_sees(&self, user: &str, icon: &str, path: &str) -> Result<Listed> {
        let wanted = format!("see {icon} {user} {path:?}");
        let shown = |listed: &&Listed| listed.user == user && listed.icon == icon && listed.path.contains(path);
        self.until(&wanted, |seen| seen.roster.iter().find(shown).cloned()).await
    }

    async fn until<T>(&self, wanted: &str, mut find: impl FnMut(&Seen) -> Option<T>) -> Result<T> {
        let mut seen = self.0.seen.clone();
        let mut found = None;
        let wait = seen.wait_for(|seen| {
            found = find(seen);
            found.is_some() || seen.ended
        });
        let _ = timeout(PATIENCE, wait).await.is_ok();
        if let Some(found) = found {
            return Ok(found);
        }
        let roster: Vec<_> = self.roster().iter().map(Listed::to_string).collect();
        let texts: Vec<_> = self.shown().iter().rev().take(5).map(|message| message.text.clone()).collect();
        Err(self.failure(format!("was to {wanted}; its list: [{}]; its last messages: {texts:?}", roster.join(", "))))
    }

    async fn ask<T: DeserializeOwned>(&self, command: Command) -> Result<T> {
        let n = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.0.waiting.lock().insert(n, answer);
        let name = format!("{command:?}");
        self.0.process.write(serde_json::to_string(&Request { n, command })?).await?;
        match timeout(PATIENCE + Duration::from_secs(1), answered).await {
            Ok(Ok(Ok(value))) => Ok(serde_json::from_value(value)?),
            Ok(Ok(Err(error))) => Err(self.failure(format!("{name}: {error}"))),
            Ok(Err(_)) => Err(self.failure(format!("{name}: the process has ended"))),
            Err(_) => {
                self.0.waiting.lock().remove(&n);
                Err(self.failure(format!("{name}: no answer in {} s", PATIENCE.as_secs())))
            }
        }
    }

    fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {what}", self.name()))
    }
}

async fn read(mut lines: mpsc::Receiver<String>, waiting: Arc<Waiting>, shown: watch::Sender<Seen>) {
    while let Some(line) = lines.recv().await {
        let Ok(line) = serde_json::from_str(&line) else { continue };
        match line {
            Line::Ready { peer } => shown.send_modify(|seen| seen.ready = Some(peer)),
            Line::Done { re, ok } => waiting.answer(re, Ok(ok)),
            Line::Failed { re, error } => waiting.answer(re, Err(error)),
            Line::Message(message) => shown.send_modify(|seen| remember(&mut seen.messages, message)),
            Line::Roster { members } => shown.send_modify(|seen| seen.roster = members),
            Line::Event { text } => shown.send_modify(|seen| remember(&mut seen.events, text)),
        }
    }
    waiting.lock().clear();
    shown.send_modify(|seen| seen.ended = true);
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() < REMEMBERED {
        list.push(item);
    }
}
