//! What a store costs: durable messages a second, flushes of the disk for them, and the best route.
//!
//! For benchmarks, with the optimised program and on the disk that is meant:
//!
//! ```ignore
//! let open = |name: &str| Ok(Arc::new(MyStore::open(directory.join(name))?) as Arc<dyn RouteStore>);
//! for figure in byway_testkit::store::measure::figures(&open, Effort::default()).await? {
//!     println!("{figure}");
//! }
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{
    InboxRow, InboxState, Key, Load, MessageId, OutboxRow, OutboxState, PeerId, RouteRow, RouteStore, Row, SeenRow,
    SignalAddress, StoreError, UserId, WallTime, Write,
};
use tokio::task::JoinSet;

/// Bytes of content in each message.
pub const CONTENT: usize = 200;

/// How much is measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Effort {
    /// How long each way to write is measured. 3 s.
    pub span: Duration,
    /// Routes among which one is looked for; a user has four. 100,000.
    pub routes: u32,
    /// How often the best one is looked for. 20,000.
    pub lookups: u32,
}

impl Default for Effort {
    fn default() -> Self {
        Self { span: Duration::from_secs(3), routes: 100_000, lookups: 20_000 }
    }
}

/// One measured figure. Shown as the row of a table in Markdown.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What is asked for, if anything is.
    pub target: Option<&'static str>,
    /// What it was.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Whether the target is met; true without one.
    pub met: bool,
}

impl Figure {
    /// The head of the table that figures are rows of.
    pub const HEAD: &'static str = "| figure | target | measured | verdict |\n|---|---|---|---|";

    fn plain(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), target: None, value, unit, met: true }
    }

    fn with(self, target: &'static str, met: bool) -> Self {
        Self { target: Some(target), met, ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value >= 1000.0 { 0 } else { 1 };
        let verdict = match (self.target, self.met) {
            (None, _) => "",
            (_, true) => "MET",
            (_, false) => "MISSED",
        };
        let target = self.target.unwrap_or_default();
        write!(f, "| {} | {target} | {:.digits$} {} | {verdict} |", self.name, self.value, self.unit)
    }
}

/// Which durable batch is written: one message each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It enters the outbox.
    Outgoing,
    /// It enters the inbox together with its mark.
    Incoming,
}

/// What was written within a span.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Durable messages a second.
    pub per_second: f64,
    /// Messages that shared a durable commit, which is one flush of the disk.
    pub per_commit: f64,
}

/// Callers who each write one durable message after the other. `one_at_a_time`: they take turns, so that
/// each call has a commit of its own.
///
/// # Errors
/// What the store reports.
pub async fn write(
    store: &Arc<dyn RouteStore>,
    message: Message,
    callers: u64,
    one_at_a_time: bool,
    span: Duration,
) -> Result<Written, StoreError> {
    let before = store.durable_commits();
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (store, turn) = (Arc::clone(store), Arc::clone(&turn));
        tasks.spawn(async move {
            let mut done = 0;
            while begin.elapsed() < span {
                let batch = [batch(message, caller, done)];
                let _turn = if one_at_a_time { Some(turn.lock().await) } else { None };
                store.apply(&batch).await?;
                done += 1;
            }
            Ok::<u64, StoreError>(done)
        });
    }
    let done = sum(tasks).await? as f64;
    let commits = (store.durable_commits() - before).max(1) as f64;
    Ok(Written { per_second: done / begin.elapsed().as_secs_f64(), per_commit: done / commits })
}

async fn sum(mut tasks: JoinSet<Result<u64, StoreError>>) -> Result<u64, StoreError> {
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        done += ended.unwrap_or_else(|e| panic!("a caller of the store: {e}"))?;
    }
    Ok(done)
}

/// Writes routes, four for each user.
///
/// # Errors
/// What the store reports.
pub async fn write_routes(store: &dyn RouteStore, routes: u32) -> Result<(), StoreError> {
    const BATCH: u32 = 4000;
    for first in (0..routes).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..routes.min(first + BATCH)).map(route).collect();
        store.apply(&batch).await?;
    }
    Ok(())
}

/// How long something took, over many times.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// On average.
    pub mean: Duration,
    /// Half of the times it took no longer.
    pub median: Duration,
    /// 99 of 100 times it took no longer.
    pub p99: Duration,
}

/// Looks for the best route of one user after the other.
///
/// # Errors
/// What the store reports.
///
/// # Panics
/// If a user has no route: [`write_routes`] has written them.
pub async fn best_route(store: &dyn RouteStore, routes: u32, lookups: u32) -> Result<Took, StoreError> {
    let mut took = Vec::with_capacity(lookups as usize);
    for n in 0..lookups.max(1) {
        let user = user(n.wrapping_mul(7919) % (routes / 4));
        let begin = Instant::now();
        let best = store.load(Load::Routes { user: Some(user) }, None, 1).await?;
        took.push(begin.elapsed());
        assert_eq!(best.len(), 1, "every user has a route");
    }
    let mean = took.iter().sum::<Duration>() / lookups.max(1);
    took.sort_unstable();
    Ok(Took { mean, median: took[took.len() / 2], p99: took[took.len() * 99 / 100] })
}

/// Every route, in pages; how many there are.
async fn every_route(store: &dyn RouteStore) -> Result<usize, StoreError> {
    const PAGE: usize = 4096;
    let (mut after, mut rows): (Option<Key>, usize) = (None, 0);
    loop {
        let page: Vec<(Key, Row)> = store.load(Load::Routes { user: None }, after, PAGE).await?;
        rows += page.len();
        if page.len() < PAGE {
            return Ok(rows);
        }
        after = page.last().map(|(key, _)| key.clone());
    }
}

/// What one flush of the disk takes (median), which no store can beat with one message per flush.
///
/// # Errors
/// What the file system reports.
pub fn flush_of_disk(directory: &Path) -> io::Result<Duration> {
    const TIMES: usize = 200;
    const PAGE: usize = 4096;
    let path = directory.join("flush");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; TIMES * PAGE])?;
    file.sync_all()?;
    file.rewind()?;
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        file.write_all(&[1; PAGE])?;
        let begin = Instant::now();
        file.sync_data()?;
        took.push(begin.elapsed());
    }
    std::fs::remove_file(path)?;
    took.sort_unstable();
    Ok(took[TIMES / 2])
}

/// Opens a store of its own for each name.
pub type Open<'a> = &'a (dyn Fn(&str) -> Result<Arc<dyn RouteStore>, StoreError> + Send + Sync);

/// Everything that is measured of a store, targets first.
///
/// # Errors
/// What the store reports.
pub async fn figures(open: Open<'_>, effort: Effort) -> Result<Vec<Figure>, StoreError> {
    const MANY: u64 = 64;
    let mut all = Vec::new();
    let mut grouped = Written { per_second: 0.0, per_commit: 0.0 };
    for callers in [1, 16, MANY, 256] {
        for message in [Message::Outgoing, Message::Incoming] {
            let store = open(&format!("{message:?}-{callers}"))?;
            let written = write(&store, message, callers, false, effort.span).await?;
            store.close().await?;
            if (message, callers) == (Message::Outgoing, MANY) {
                grouped = written;
            }
            let what = format!("durable {message:?} messages, {callers} callers").to_lowercase();
            all.push(Figure::plain(what, written.per_second, "messages/s"));
        }
    }
    let store = open("alone")?;
    let alone = write(&store, Message::Outgoing, MANY, true, effort.span).await?;
    store.close().await?;
    all.push(Figure::plain("one commit per call, 64 callers", alone.per_second, "messages/s"));

    let gain = grouped.per_second / alone.per_second;
    let gain = Figure::plain("group commit against one commit per call, 64 callers", gain, "times");
    let shared = Figure::plain("messages for one flush, 64 callers", grouped.per_commit, "messages");
    let mut targets = vec![
        gain.clone().with("at least 8 times", gain.value >= 8.0),
        shared.clone().with("at least 32 messages", shared.value >= 32.0),
    ];
    of_routes(open("routes")?, &effort, &mut targets, &mut all).await?;
    targets.append(&mut all);
    Ok(targets)
}

async fn of_routes(
    store: Arc<dyn RouteStore>,
    effort: &Effort,
    targets: &mut Vec<Figure>,
    all: &mut Vec<Figure>,
) -> Result<(), StoreError> {
    const ENOUGH: &str = "at most 50 us";
    let us = |took: Duration| took.as_secs_f64() * 1e6;
    let named = |what: &str, took: Duration| {
        let name = format!("best route among {}{what}", effort.routes);
        Figure::plain(name, us(took), "us")
    };
    let begin = Instant::now();
    write_routes(&*store, effort.routes).await?;
    all.push(Figure::plain(format!("{} routes written", effort.routes), begin.elapsed().as_secs_f64(), "s"));

    let idle = best_route(&*store, effort.routes, effort.lookups).await?;
    targets.push(named("", idle.mean).with(ENOUGH, us(idle.mean) <= 50.0));
    all.push(named(", 99 of 100", idle.p99));

    let over = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    writing.spawn(write_until(Arc::clone(&store), Arc::clone(&over)));
    let busy = best_route(&*store, effort.routes, effort.lookups).await;
    over.store(true, Ordering::Relaxed);
    sum(writing).await?;
    let busy = busy?;
    targets.push(named(" while a caller writes, median", busy.median).with(ENOUGH, us(busy.median) <= 50.0));
    all.push(named(" while a caller writes, 99 of 100", busy.p99));

    let begin = Instant::now();
    let rows = every_route(&*store).await?;
    assert_eq!(rows, effort.routes as usize, "every route is read once");
    all.push(Figure::plain(format!("all {rows} routes in pages"), begin.elapsed().as_secs_f64() * 1e3, "ms"));
    store.close().await
}

async fn write_until(store: Arc<dyn RouteStore>, over: Arc<AtomicBool>) -> Result<u64, StoreError> {
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        store.apply(&[batch(Message::Outgoing, 0, done)]).await?;
        done += 1;
    }
    Ok(done)
}

fn user(n: u32) -> UserId {
    let name = format!("user-{n}");
    UserId::new(&name).unwrap_or_else(|e| unreachable!("{e}"))
}

/// Spread as the hashes that they are.
fn spread(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn peer(n: u64) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&spread(n));
    PeerId::from_bytes(key)
}

fn batch(message: Message, caller: u64, n: u64) -> Write {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&spread(caller << 32 | n));
    let id = MessageId::from_bytes(id);
    let at = |ms: u64| WallTime::from_millis(ms.cast_signed());
    let (content, size) = (Some(Bytes::from_static(&[7; CONTENT])), CONTENT as u32);
    match message {
        Message::Outgoing => Write::Append(OutboxRow {
            message: id,
            to_user: user(0),
            to_peer: Some(peer(1)),
            epoch: 1,
            seq: n,
            content,
            size,
            reply_to: None,
            queued_at: at(n),
            expires_at: at(2),
            retry_count: 0,
            next_try: at(1),
            state: OutboxState::Queued,
        }),
        Message::Incoming => {
            let from_peer = peer(caller);
            let seen = SeenRow { from_peer, epoch: 1, floor: n + 1, above: vec![], used_at: at(1) };
            let row = InboxRow {
                from_peer,
                epoch: 1,
                seq: n,
                message: id,
                from_user: user(0),
                content,
                size,
                reply_to: None,
                sent_at: at(1),
                received_at: at(n),
                expires_at: at(2),
                late: false,
                state: InboxState::New,
            };
            Write::Receive { row, seen }
        }
    }
}

fn route(n: u32) -> Write {
    let address = format!("ws://192.0.2.{}:4{:04}/x", n % 250, n % 1000);
    Write::Route(RouteRow {
        user: user(n / 4),
        peer: peer(u64::from(n / 2)),
        address: SignalAddress::new(&address).unwrap_or_else(|e| unreachable!("{e}")),
        last_seen: WallTime::from_millis(i64::from(n)),
        success_rate: f64::from(n % 97) / 97.0,
        path: "direct webrtc".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use byway_store_memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn every_figure_is_measured_and_shown() {
        let open = |_: &str| Ok(Arc::new(MemoryStore::new()) as Arc<dyn RouteStore>);
        let effort = Effort { span: Duration::from_millis(1), routes: 400, lookups: 50 };
        let figures = figures(&open, effort).await.unwrap();
        assert_eq!(figures.iter().filter(|figure| figure.target.is_some()).count(), 4);
        assert!(figures.iter().all(|figure| figure.value.is_finite() && figure.value > 0.0), "{figures:?}");
        let shown = Figure::plain("it", 7.0, "us").with("at most 5 us", false).to_string();
        assert_eq!(shown, "| it | at most 5 us | 7.0 us | MISSED |");
    }
}
