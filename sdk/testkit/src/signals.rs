//! Signalling inside one process, for testing transports that need it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{PeerId, Signal, SignalAddress, SignalError, SignalErrorKind, SignalIn, SignalPort, async_trait};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Signals that wait at one port; more are answered with `Busy`.
const PORT_QUEUE: usize = 256;

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at once.
    Arrives,
    /// It is lost; the sender learns nothing.
    Lost,
    /// It arrives this much later.
    Late(Duration),
    /// It arrives two times, as if the sender had repeated it.
    Twice,
}

type Rule = Arc<dyn Fn(PeerId, PeerId, &Signal) -> Fate + Send + Sync>;

/// Carries signals between its ports. Cheap to clone; every clone is the same switchboard.
#[derive(Clone, Default)]
pub struct Switchboard {
    board: Arc<Mutex<Board>>,
}

#[derive(Default)]
struct Board {
    ports: BTreeMap<(PeerId, String), Arc<Mailbox>>,
    rule: Option<Rule>,
    carried: u64,
}

#[derive(Default)]
struct Mailbox {
    /// By the time at which they arrive.
    queue: Mutex<VecDeque<(Instant, SignalIn)>>,
    news: Notify,
}

/// A switchboard on which every signal arrives at once.
pub fn switchboard() -> Switchboard {
    Switchboard::default()
}

impl Switchboard {
    /// A port for the signals of `transport` on the device `me`. A second one replaces the first,
    /// and dropping it removes it.
    pub fn port(&self, me: PeerId, transport: &str) -> Arc<dyn SignalPort> {
        let mailbox = Arc::new(Mailbox::default());
        self.lock().ports.insert((me, transport.to_owned()), Arc::clone(&mailbox));
        Arc::new(Port { board: self.clone(), me, transport: transport.to_owned(), mailbox })
    }

    /// The address by which ports of this switchboard reach `peer`.
    pub fn address(peer: PeerId) -> SignalAddress {
        match SignalAddress::socket("ws://switchboard.invalid", peer) {
            Ok(address) => address,
            Err(error) => unreachable!("a socket base and a peer id: {error}"),
        }
    }

    /// From now on `rule` decides about every signal: from whom, to whom, which.
    pub fn decide(&self, rule: impl Fn(PeerId, PeerId, &Signal) -> Fate + Send + Sync + 'static) {
        self.lock().rule = Some(Arc::new(rule));
    }

    /// How many signals were handed over so far, lost ones included.
    pub fn carried(&self) -> u64 {
        self.lock().carried
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard").field("ports", &self.lock().ports.keys()).finish_non_exhaustive()
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, SignalIn)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, due: Instant, signal: SignalIn) -> Result<(), SignalError> {
        let mut queue = self.lock();
        if queue.len() >= PORT_QUEUE {
            return Err(error(SignalErrorKind::Busy, format!("{PORT_QUEUE} signals wait")));
        }
        let at = queue.partition_point(|(other, _)| *other <= due);
        queue.insert(at, (due, signal));
        drop(queue);
        self.news.notify_one();
        Ok(())
    }
}

struct Port {
    board: Switchboard,
    me: PeerId,
    transport: String,
    mailbox: Arc<Mailbox>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({:?}, {})", self.me, self.transport)
    }
}

#[async_trait]
impl SignalPort for Port {
    async fn send(&self, to: PeerId, _at: &SignalAddress, signal: Signal) -> Result<(), SignalError> {
        let (mailbox, rule) = {
            let mut board = self.board.lock();
            board.carried += 1;
            (board.ports.get(&(to, signal.transport.clone())).cloned(), board.rule.clone())
        };
        let mailbox = mailbox
            .ok_or_else(|| error(SignalErrorKind::NoSuchPeer, format!("{to} has no port for this transport")))?;
        let fate = rule.map_or(Fate::Arrives, |rule| rule(self.me, to, &signal));
        let now = Instant::now();
        let signal = SignalIn::new(self.me, Switchboard::address(self.me), signal);
        match fate {
            Fate::Arrives => mailbox.put(now, signal),
            Fate::Lost => Ok(()),
            Fate::Late(delay) => mailbox.put(now + delay, signal),
            Fate::Twice => mailbox.put(now, signal.clone()).and_then(|()| mailbox.put(now, signal)),
        }
    }

    async fn next(&self) -> Option<SignalIn> {
        loop {
            let first = {
                let mut queue = self.mailbox.lock();
                match queue.front() {
                    Some((due, _)) if *due <= Instant::now() => return queue.pop_front().map(|(_, signal)| signal),
                    first => first.map(|(due, _)| *due),
                }
            };
            let news = self.mailbox.news.notified();
            match first {
                None => news.await,
                Some(due) => tokio::select! {
                    () = news => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut board = self.board.lock();
        let key = (self.me, std::mem::take(&mut self.transport));
        if board.ports.get(&key).is_some_and(|mailbox| Arc::ptr_eq(mailbox, &self.mailbox)) {
            board.ports.remove(&key);
        }
    }
}

fn error(kind: SignalErrorKind, detail: impl Into<String>) -> SignalError {
    SignalError::new(kind, "switchboard", detail)
}
