//! Sockets to members' listeners: opened when something is to be sent, shared, closed when idle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{PeerId, SignalError, SignalErrorKind};
use byway_socket::Client;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::NAME;
use super::open::{Opening, is_same_server};
use super::shared::Shared;

/// The open sockets, by base URL. At most [`CarrierConfig::sockets`](super::CarrierConfig::sockets).
#[derive(Debug, Default)]
pub(super) struct Listeners {
    lines: Mutex<BTreeMap<String, Arc<Line>>>,
}

/// One socket, from the wish to open it to its end.
#[derive(Debug)]
pub(super) struct Line {
    base: String,
    /// The device whose listener it is meant to be.
    listener: PeerId,
    state: watch::Sender<State>,
    usage: Mutex<Usage>,
    give_way: Notify,
}

#[derive(Clone, Debug)]
enum State {
    Opening,
    Up(Arc<Client>),
    Ended(SignalErrorKind, String),
}

#[derive(Debug)]
struct Usage {
    sending: usize,
    last: Instant,
}

/// Counts as use of the line as long as it lives.
#[derive(Debug)]
struct InUse(Arc<Line>);

impl InUse {
    fn of(line: &Arc<Line>) -> Self {
        line.usage().sending += 1;
        Self(Arc::clone(line))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.sending -= 1;
        usage.last = Instant::now();
    }
}

impl Listeners {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lines().len()
    }

    /// Sends over the socket to `base`. If there is none, `spawn` is given the task of a new one.
    pub(super) async fn send(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        base: &str,
        listener: PeerId,
        (to, envelope): (PeerId, Bytes),
        spawn: impl FnOnce(Task),
    ) -> Result<(), SignalError> {
        let line = self.line(shared, base, listener, spawn)?;
        let client = line.0.opened().await?;
        client.send(to, envelope).await
    }

    fn line(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        base: &str,
        listener: PeerId,
        spawn: impl FnOnce(Task),
    ) -> Result<InUse, SignalError> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(base) {
            return Ok(InUse::of(line));
        }
        if lines.len() >= shared.config.sockets {
            let Some(victim) = longest_unused(&lines, shared.config.evictable) else {
                let detail = format!("{} sockets to listeners are in use; try again later", lines.len());
                return Err(SignalError::new(SignalErrorKind::Busy, NAME, detail));
            };
            lines.remove(&victim.base);
            victim.give_way.notify_one();
        }
        let line = Arc::new(Line {
            base: base.to_owned(),
            listener,
            state: watch::Sender::new(State::Opening),
            usage: Mutex::new(Usage { sending: 0, last: Instant::now() }),
            give_way: Notify::new(),
        });
        lines.insert(base.to_owned(), Arc::clone(&line));
        let in_use = InUse::of(&line);
        drop(lines);
        spawn(Task { listeners: Arc::clone(self), shared: Arc::clone(shared), line });
        Ok(in_use)
    }

    /// Takes the line out, so that the next send opens a new one.
    fn forget(&self, line: &Arc<Line>) {
        let mut lines = self.lines();
        if lines.get(&line.base).is_some_and(|other| Arc::ptr_eq(other, line)) {
            lines.remove(&line.base);
        }
    }

    /// Takes the line out if nothing was sent or received on it since `since`; else tells when to ask again.
    /// Sends enter under the same lock, so none ever meets a line that closes for idleness.
    fn retire(&self, line: &Arc<Line>, idle: Duration) -> Result<(), Instant> {
        let mut lines = self.lines();
        let (sending, due) = {
            let usage = line.usage();
            (usage.sending, usage.last + idle)
        };
        let now = Instant::now();
        if sending > 0 {
            return Err(now + idle);
        }
        if due > now {
            return Err(due);
        }
        if lines.get(&line.base).is_some_and(|other| Arc::ptr_eq(other, line)) {
            lines.remove(&line.base);
        }
        Ok(())
    }
}

fn longest_unused(lines: &BTreeMap<String, Arc<Line>>, evictable: Duration) -> Option<Arc<Line>> {
    let unused = |line: &&Arc<Line>| {
        let usage = line.usage();
        usage.sending == 0 && usage.last.elapsed() >= evictable
    };
    lines.values().filter(unused).min_by_key(|line| line.usage().last).map(Arc::clone)
}

impl Line {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn opened(&self) -> Result<Arc<Client>, SignalError> {
        let mut state = self.state.subscribe();
        let gone = || SignalError::new(SignalErrorKind::Closed, NAME, "the carrier is closed");
        let state = state.wait_for(|s| !matches!(s, State::Opening)).await.map_err(|_| gone())?;
        match &*state {
            State::Up(client) => Ok(Arc::clone(client)),
            State::Ended(kind, detail) => Err(SignalError::new(*kind, NAME, detail.clone())),
            State::Opening => Err(gone()),
        }
    }
}

/// What runs one line.
#[derive(Debug)]
pub(super) struct Task {
    listeners: Arc<Listeners>,
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Task {
    pub(super) async fn run(self) {
        let ended = tokio::select! {
            biased;
            () = self.shared.closing() => (SignalErrorKind::Closed, "the carrier is closed".to_owned()),
            opened = self.open() => match opened {
                Ok(client) => self.serve(Arc::new(client)).await,
                Err(e) => (e.kind(), e.to_string()),
            },
        };
        self.listeners.forget(&self.line);
        self.line.state.send_replace(State::Ended(ended.0, ended.1));
    }

    async fn open(&self) -> Result<Client, SignalError> {
        let Shared { cx, config, .. } = &*self.shared;
        let opening = Opening {
            base: &self.line.base,
            me: cx.me,
            tls: config.tls.as_ref(),
            connect_timeout: config.connect_timeout,
            socket: config.socket.clone(),
        };
        // a listener asks for a proof for its own PeerId; a registry that is not our home, for its URL
        let listener = self.line.listener.to_string();
        let accepts = |target: &str| target == listener || is_same_server(target, &self.line.base, cx.me);
        opening.open(&*cx.prover, accepts).await
    }

    async fn serve(&self, client: Arc<Client>) -> (SignalErrorKind, String) {
        let idle = self.shared.config.idle;
        let mut network = self.shared.network.clone();
        network.mark_unchanged();
        self.line.usage().last = Instant::now();
        self.line.state.send_replace(State::Up(Arc::clone(&client)));
        {
            let reading = self.shared.hand_on(&client, &self.line.base, || self.line.usage().last = Instant::now());
            tokio::pin!(reading);
            let mut ask_at = Instant::now() + idle;
            loop {
                tokio::select! {
                    biased;
                    () = self.shared.closing() => break,
                    () = self.line.give_way.notified() => break,
                    _ = network.changed() => break,
                    () = &mut reading => break,
                    () = sleep_until(ask_at) => match self.listeners.retire(&self.line, idle) {
                        Ok(()) => break,
                        Err(later) => ask_at = later,
                    },
                }
            }
        }
        // whoever comes now opens a new one
        self.listeners.forget(&self.line);
        client.close().await;
        (SignalErrorKind::Unreachable, "the socket has ended".to_owned())
    }
}
