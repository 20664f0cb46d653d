//! Promises about commits, closing and opening again.

use std::time::{Duration, Instant};

use byway_api::{Load, RouteStore, Row, StoreErrorKind, Write};

use super::sample::{append, connection, meta, pin, receive, record, route, seen, user};
use super::{StoreFixture, all, apply, close, done, ensure_eq, open, reopen};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// How long a store may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(20);

fn skip() -> Verdict {
    Ok(Outcome::Skipped("the store has no disk".to_owned()))
}

/// A caller that is alone gets exactly one durable commit per durable batch, whatever is in it.
pub async fn a_durable_batch_is_one_durable_commit(fixture: &dyn StoreFixture) -> Verdict {
    if !fixture.has_disk() {
        return skip();
    }
    let store = open(fixture).await?;
    let before = store.durable_commits();
    for n in 0..20u16 {
        let batch =
            [meta("with", "it"), append(n, Some(1)), receive(1, 1, u64::from(n)), Write::Route(route(1, 1, 1, 0.5, 1))];
        done(&*store, &batch).await?;
        ensure_eq!(store.durable_commits() - before, u64::from(n) + 1);
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A relaxed batch waits for no commit of its own: at most about one a second is made for all.
pub async fn relaxed_batches_share_durable_commits(fixture: &dyn StoreFixture) -> Verdict {
    const BATCHES: u64 = 200;
    if !fixture.has_disk() {
        return skip();
    }
    let store = open(fixture).await?;
    let (before, started) = (store.durable_commits(), Instant::now());
    for n in 0..BATCHES {
        done(&*store, &[Write::Record(record(1, 1, n + 1))]).await?;
    }
    let (commits, seconds) = (store.durable_commits() - before, started.elapsed().as_secs());
    ensure!(commits <= 2 * seconds + 1, "{commits} durable commits for {BATCHES} relaxed batches in {seconds} s");
    let waits = Instant::now();
    while store.durable_commits() == before {
        ensure!(waits.elapsed() < PATIENCE, "relaxed batches are not made durable");
        tokio::task::yield_now().await;
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Batches that wait at the same time share a commit.
pub async fn callers_share_durable_commits(fixture: &dyn StoreFixture) -> Verdict {
    const CALLERS: u16 = 64;
    const EACH: u16 = 10;
    if !fixture.has_disk() {
        return skip();
    }
    let store = open(fixture).await?;
    let before = store.durable_commits();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let store = std::sync::Arc::clone(&store);
        callers.spawn(async move {
            for n in 0..EACH {
                done(&*store, &[append(caller * EACH + n, Some(1))]).await?;
            }
            Ok::<_, Broken>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|_| Broken::new("a call of apply panicked"))??;
    }
    let commits = store.durable_commits() - before;
    let batches = u64::from(CALLERS * EACH);
    ensure!(commits <= batches / 4, "{commits} durable commits for {batches} batches of {CALLERS} callers");
    ensure_eq!(all(&*store, Load::Outbox).await?.len(), usize::from(CALLERS * EACH));
    close(&*store).await?;
    Ok(Outcome::Kept)
}

async fn is_closed(store: &dyn RouteStore) -> Result<(), Broken> {
    for batch in [vec![], vec![append(1, Some(1))]] {
        let refused = store.apply(&batch).await.err().map(|e| e.kind());
        ensure_eq!(refused, Some(StoreErrorKind::Closed), "apply of {} writes", batch.len());
    }
    let refused = store.load(Load::Outbox, None, 1).await.err().map(|e| e.kind());
    ensure_eq!(refused, Some(StoreErrorKind::Closed), "load");
    Ok(())
}

/// After `close` every call fails with `Closed`, also when the data was opened again since.
pub async fn a_closed_store_refuses_every_call(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1))]).await?;
    close(&*store).await?;
    is_closed(&*store).await?;
    let again = open(fixture).await?;
    is_closed(&*store).await?;
    ensure_eq!(all(&*again, Load::Outbox).await?.len(), 1, "the refused append left nothing");
    close(&*again).await?;
    Ok(Outcome::Kept)
}

/// Closing twice, one after the other or at once, is closing once.
pub async fn close_is_idempotent(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[meta("a", "1")]).await?;
    tokio::try_join!(close(&*store), close(&*store))?;
    close(&*store).await?;
    let again = open(fixture).await?;
    close(&*store).await?;
    done(&*again, &[meta("a", "2")]).await?;
    close(&*again).await?;
    Ok(Outcome::Kept)
}

/// One write of every kind that is kept.
fn everything() -> Vec<Write> {
    vec![
        append(1, Some(1)),
        append(2, None),
        receive(1, 7, 1),
        Write::Seen(seen(2, 8, 5, &[9])),
        Write::Route(route(1, 1, 1, 0.5, 10)),
        Write::Record(record(1, 1, 5)),
        meta("name", "value"),
        Write::Pin(pin(1, 1)),
        Write::Block { user: user(9), blocked: true },
    ]
}

async fn everything_of(store: &dyn RouteStore) -> Result<Vec<Row>, Broken> {
    let mut rows = Vec::new();
    for what in super::model::Model::loads() {
        rows.extend(all(store, what).await?);
    }
    Ok(rows)
}

/// What was written is there after `close` and another open: relaxed as well as durable, also when a
/// relaxed batch was the last.
pub async fn reopening_keeps_everything(fixture: &dyn StoreFixture) -> Verdict {
    let mut store = open(fixture).await?;
    for write in everything() {
        done(&*store, &[write]).await?;
    }
    let before = everything_of(&*store).await?;
    for _ in 0..3 {
        store = reopen(fixture, store).await?;
        ensure_eq!(everything_of(&*store).await?, before);
    }
    done(&*store, &[meta("the last", "relaxed")]).await?;
    store = reopen(fixture, store).await?;
    ensure_eq!(all(&*store, Load::Meta { prefix: "the last".into() }).await?.len(), 1);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// The mirror of live connections is empty after opening.
pub async fn reopening_forgets_live_connections(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), Write::Connection(connection(1))]).await?;
    let store = reopen(fixture, store).await?;
    ensure_eq!(all(&*store, Load::Connections).await?, []);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// While the data is open a second open is `Busy` and disturbs nothing.
pub async fn a_second_open_is_busy(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    for _ in 0..2 {
        match fixture.open().await {
            Ok(_) => return Err(Broken::new("the data is open twice")),
            Err(error) => ensure_eq!(error.kind(), StoreErrorKind::Busy, "{error}"),
        }
    }
    done(&*store, &[append(1, Some(1))]).await?;
    let store = reopen(fixture, store).await?;
    ensure_eq!(all(&*store, Load::Outbox).await?.len(), 1);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Dropping the store saves and releases what `close` does, a moment later.
pub async fn dropping_the_store_releases_it(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    apply(&*store, &everything()).await?;
    done(&*store, &[meta("the last", "relaxed")]).await?;
    let before = everything_of(&*store).await?;
    drop(store);
    let waits = Instant::now();
    let store = loop {
        match fixture.open().await {
            Ok(store) => break store,
            Err(error) if error.kind() == StoreErrorKind::Busy => {
                ensure!(waits.elapsed() < PATIENCE, "a dropped store stays open");
                tokio::task::yield_now().await;
            }
            Err(error) => return Err(Broken::new(format!("the data does not open again: {error}"))),
        }
    };
    ensure_eq!(everything_of(&*store).await?, before);
    close(&*store).await?;
    Ok(Outcome::Kept)
}
