//! What durability costs, and what group commit saves, on the disk of the working directory.
//!
//! `cargo run --release -p byway-store-sqlite --example store-bench [directory]`

use std::io::{Seek, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{
    InboxRow, InboxState, Load, MessageId, OutboxRow, OutboxState, PeerId, RouteRow, RouteStore, SeenRow,
    SignalAddress, UserId, WallTime, Write,
};
use byway_store_sqlite::{SqliteConfig, SqliteStore};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const SPAN: Duration = Duration::from_secs(3);
const CONTENT: usize = 200;
const ROUTES: u32 = 100_000;

fn main() -> Result<(), Failed> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::TempDir::new_in(directory)?;
    println!(
        "one flush of this disk takes {:.2} ms (median, 4 KiB overwritten)",
        flush(&directory.path().join("raw"))?
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        println!("durable messages a second, {CONTENT} bytes each, one message per call, {} s each:", SPAN.as_secs());
        let at = |name: &str| directory.path().join(name);
        println!("  callers  outbox append      inbox + mark       messages per commit");
        for callers in [1, 16, 64, 256] {
            let sent = rate(&at(&format!("out{callers}")), callers, append).await?;
            let received = rate(&at(&format!("in{callers}")), callers, receive).await?;
            println!("  {callers:>7}  {:>9.0}/s         {:>9.0}/s         {:>9.1}", sent.0, received.0, sent.1);
        }
        let grouped = rate(&at("grouped"), 64, append).await?;
        let alone = one_commit_per_call(&at("alone"), 64).await?;
        println!("64 callers, the same run:");
        println!("  group commit          {:>9.0}/s", grouped.0);
        println!("  one commit per call   {alone:>9.0}/s   (group commit is {:.1} times as fast)", grouped.0 / alone);
        routes(&at("routes")).await
    })
}

/// What no store can beat with one message per flush.
fn flush(path: &Path) -> Result<f64, Failed> {
    const TIMES: usize = 200;
    let mut file = std::fs::File::create(path)?;
    file.write_all(&vec![0; TIMES * 4096])?;
    file.sync_all()?;
    file.rewind()?;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        file.write_all(&[1; 4096])?;
        let begin = Instant::now();
        file.sync_all()?;
        took.push(begin.elapsed());
    }
    took.sort();
    Ok(took[TIMES / 2].as_secs_f64() * 1000.0)
}

/// Messages a second, and messages per durable commit.
async fn rate(file: &Path, callers: u64, batch: fn(u64) -> Write) -> Result<(f64, f64), Failed> {
    let store = Arc::new(SqliteStore::open(file)?);
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut done = 0u64;
            while begin.elapsed() < SPAN {
                store.apply(&[batch(caller << 32 | done)]).await?;
                done += 1;
            }
            Ok::<_, Failed>(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        done += ended??;
    }
    let (seconds, commits) = (begin.elapsed().as_secs_f64(), store.durable_commits());
    store.close().await?;
    Ok((done as f64 / seconds, done as f64 / commits.max(1) as f64))
}

/// What a mutex around the connection would do: a queue that holds one batch.
async fn one_commit_per_call(file: &Path, callers: u64) -> Result<f64, Failed> {
    let mut config = SqliteConfig::default();
    config.queue = 1;
    let store = Arc::new(SqliteStore::open_with(file, config)?);
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (store, turn) = (Arc::clone(&store), Arc::clone(&turn));
        tasks.spawn(async move {
            let mut done = 0u64;
            while begin.elapsed() < SPAN {
                let _turn = turn.lock().await;
                store.apply(&[append(caller << 32 | done)]).await?;
                done += 1;
            }
            Ok::<_, Failed>(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        done += ended??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    store.close().await?;
    Ok(done as f64 / seconds)
}

async fn routes(file: &Path) -> Result<(), Failed> {
    const LOOKUPS: u32 = 20_000;
    let store = SqliteStore::open(file)?;
    let begin = Instant::now();
    for first in (0..ROUTES).step_by(4000) {
        let batch: Result<Vec<_>, Failed> = (first..first + 4000).map(route).collect();
        store.apply(&batch?).await?;
    }
    println!("{ROUTES} routes written in {:.2} s", begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    for n in 0..LOOKUPS {
        let user = user(n.wrapping_mul(7919) % (ROUTES / 4))?;
        let best = store.load(Load::Routes { user: Some(user) }, None, 1).await?;
        assert_eq!(best.len(), 1, "every user has a route");
    }
    println!("  best route of a user        {:>7.1} us", begin.elapsed().as_micros() as f64 / f64::from(LOOKUPS));
    let begin = Instant::now();
    for _ in 0..LOOKUPS / 20 {
        store.load(Load::Routes { user: None }, None, 10).await?;
    }
    println!("  ten best routes of all      {:>7.1} us", begin.elapsed().as_micros() as f64 / f64::from(LOOKUPS / 20));

    let begin = Instant::now();
    let (mut after, mut rows) = (None, 0);
    loop {
        let page = store.load(Load::Routes { user: None }, after, 4096).await?;
        rows += page.len();
        let last = page.len() < 4096;
        after = page.last().map(|(key, _)| key.clone());
        if last {
            break;
        }
    }
    println!("  all {rows} in pages        {:>7.1} ms", begin.elapsed().as_secs_f64() * 1000.0);
    store.close().await?;
    let begin = Instant::now();
    let mut config = SqliteConfig::default();
    config.verify = false;
    SqliteStore::open_with(file, config.clone())?.close().await?;
    println!("  open and close              {:>7.1} ms", begin.elapsed().as_secs_f64() * 1000.0);
    let begin = Instant::now();
    config.verify = true;
    SqliteStore::open_with(file, config)?.close().await?;
    println!("  open, verify and close      {:>7.1} ms", begin.elapsed().as_secs_f64() * 1000.0);
    println!("  size of the file            {:>7.1} MiB", std::fs::metadata(file)?.len() as f64 / 1048576.0);
    Ok(())
}

fn user(n: u32) -> Result<UserId, Failed> {
    Ok(UserId::new(&format!("user-{n}"))?)
}

fn peer(n: u64) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    PeerId::from_bytes(key)
}

fn message(n: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    MessageId::from_bytes(id)
}

fn bob() -> UserId {
    UserId::new("bob").unwrap_or_else(|e| unreachable!("{e}"))
}

fn append(n: u64) -> Write {
    Write::Append(OutboxRow {
        message: message(n),
        to_user: bob(),
        to_peer: Some(peer(1)),
        epoch: 1,
        seq: n,
        content: Some(Bytes::from_static(&[7; CONTENT])),
        size: CONTENT as u32,
        reply_to: None,
        queued_at: WallTime::from_millis((n & 0xffff_ffff) as i64),
        expires_at: WallTime::from_millis(2),
        retry_count: 0,
        next_try: WallTime::from_millis(1),
        state: OutboxState::Queued,
    })
}

fn receive(n: u64) -> Write {
    let (caller, n) = (n >> 32, n & 0xffff_ffff);
    let row = InboxRow {
        from_peer: peer(caller),
        epoch: 1,
        seq: n,
        message: message(caller << 32 | n),
        from_user: bob(),
        content: Some(Bytes::from_static(&[7; CONTENT])),
        size: CONTENT as u32,
        reply_to: None,
        sent_at: WallTime::from_millis(1),
        received_at: WallTime::from_millis(n as i64),
        expires_at: WallTime::from_millis(2),
        late: false,
        state: InboxState::New,
    };
    let seen =
        SeenRow { from_peer: peer(caller), epoch: 1, floor: n + 1, above: vec![], used_at: WallTime::from_millis(1) };
    Write::Receive { row, seen }
}

fn route(n: u32) -> Result<Write, Failed> {
    Ok(Write::Route(RouteRow {
        user: user(n / 4)?,
        peer: peer(u64::from(n / 2)),
        address: SignalAddress::new(&format!("ws://192.0.2.{}:4{:04}/x", n % 250, n % 1000))?,
        last_seen: WallTime::from_millis(i64::from(n)),
        success_rate: f64::from(n % 97) / 97.0,
        path: "direct webrtc".to_owned(),
    }))
}
