//! Promises of `apply`: atomic, in order, visible.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use byway_api::{Applied, Durability, Load, OutboxState, RouteStore, Row, StoreError, StoreErrorKind, Write};

use super::sample::{append, at, inbox, message, meta, outbox, peer, record, seen};
use super::{StoreFixture, all, apply, close, done, ensure_eq, one, open};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// `apply` answers one result per write, in the order of the writes.
pub async fn a_batch_answers_each_write_in_order(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    ensure_eq!(apply(&*store, &[]).await?, [], "no write, no answer");
    let forget = |n| Write::Forget { message: message(n), to_peer: Some(peer(1)) };
    let batch =
        [append(1, Some(1)), append(1, Some(1)), forget(2), append(2, Some(1)), forget(2), forget(1), forget(1)];
    let want = [
        Applied::Done,
        Applied::Duplicate,
        Applied::Missing,
        Applied::Done,
        Applied::Done,
        Applied::Done,
        Applied::Missing,
    ];
    ensure_eq!(apply(&*store, &batch).await?, want);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A later write of a batch works on what an earlier one left.
pub async fn writes_of_a_batch_take_effect_in_order(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let batch: Vec<_> = (0..50).map(|n| meta("last", &n.to_string())).collect();
    done(&*store, &batch).await?;
    let rows = all(&*store, Load::Meta { prefix: "last".into() }).await?;
    ensure_eq!(rows, [Row::Meta { key: "last".into(), value: Bytes::from_static(b"49") }]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A batch that cannot be applied changes nothing, also not by its writes before the bad one.
pub async fn a_batch_with_a_bad_write_changes_nothing(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let value = |len: usize| Some(Bytes::from(vec![7; len]));
    let named = |key: String, len| Write::Meta { key, value: value(len), durability: Durability::Durable };
    let too_long_a_name = named("n".repeat(129), 1);
    let too_large_a_value = named("n".into(), 64 * 1024 + 1);
    let too_many = vec![meta("many", "x"); 4097];
    for bad in [vec![too_long_a_name], vec![too_large_a_value], too_many] {
        let receive = Write::Receive { row: inbox(1, 1, 1), seen: seen(1, 1, 2, &[]) };
        let mut batch = vec![append(1, Some(1)), receive];
        batch.extend(bad);
        batch.push(append(2, Some(1)));
        let refused = store.apply(&batch).await.err().map(|e| e.kind());
        ensure_eq!(refused, Some(StoreErrorKind::TooLarge));
        for what in [Load::Outbox, Load::Inbox, Load::Seen, Load::Meta { prefix: String::new() }] {
            ensure_eq!(all(&*store, what).await?, [], "the batch was refused");
        }
    }
    let largest = [named("n".repeat(128), 64 * 1024), append(1, Some(1))];
    done(&*store, &largest).await?;
    done(&*store, &vec![meta("many", "x"); 4096]).await?;
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A load sees a batch whole or not at all.
pub async fn a_batch_is_seen_whole_or_not_at_all(fixture: &dyn StoreFixture) -> Verdict {
    const BATCHES: u32 = 200;
    let store = open(fixture).await?;
    let both = |n: u32| [meta("pair/a", &n.to_string()), meta("pair/b", &n.to_string())];
    done(&*store, &both(0)).await?;
    let over = AtomicBool::new(false);
    let writing = async {
        for n in 1..=BATCHES {
            done(&*store, &both(n)).await?;
        }
        over.store(true, Ordering::Relaxed);
        Ok::<_, Broken>(())
    };
    let reading = async {
        while !over.load(Ordering::Relaxed) {
            let rows = all(&*store, Load::Meta { prefix: "pair/".into() }).await?;
            let values: Vec<_> =
                rows.iter().map(|row| if let Row::Meta { value, .. } = row { &value[..] } else { b"" }).collect();
            ensure!(values.len() == 2 && values[0] == values[1], "half a batch is visible: {rows:?}");
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    tokio::try_join!(writing, reading)?;
    close(&*store).await?;
    Ok(Outcome::Kept)
}

type Applying<'s> = Pin<Box<dyn Future<Output = Result<Vec<Applied>, StoreError>> + Send + 's>>;

/// Polls once, as the first step of an await does.
async fn start(applying: &mut Applying<'_>) -> Option<Result<Vec<Applied>, StoreError>> {
    poll_fn(|cx| {
        Poll::Ready(match applying.as_mut().poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    })
    .await
}

/// Batches take effect in the order in which `apply` was called, also when more are called than any
/// queue holds and nobody awaits the first before calling the last.
pub async fn batches_take_effect_in_the_order_of_the_calls(fixture: &dyn StoreFixture) -> Verdict {
    const CALLS: u64 = 10_000;
    let store = open(fixture).await?;
    // Each is newer than the one before, so one that overtakes makes the others duplicates.
    let batches: Vec<[Write; 1]> = (1..=CALLS).map(|seq| [Write::Record(record(1, 1, seq))]).collect();
    let mut running = Vec::new();
    for (n, batch) in batches.iter().enumerate() {
        let mut applying: Applying<'_> = store.apply(batch);
        match start(&mut applying).await {
            Some(Ok(applied)) => ensure_eq!(applied, [Applied::Done], "call {n} was overtaken"),
            Some(Err(error)) => return Err(Broken::new(format!("call {n}: {error}"))),
            None => running.push((n, applying)),
        }
    }
    for (n, applying) in running {
        ensure_eq!(applying.await.ok(), Some(vec![Applied::Done]), "call {n} was overtaken or failed");
    }
    ensure_eq!(all(&*store, Load::Records { user: None }).await?, [Row::Record(record(1, 1, CALLS))]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// What `apply` has returned for is seen by the next `load`, relaxed or durable.
pub async fn load_sees_what_apply_returned(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    for n in 0..100u16 {
        let write = if n % 2 == 0 { append(n, Some(1)) } else { meta(&format!("n/{n:03}"), "x") };
        done(&*store, &[write]).await?;
        let (outbox, meta) =
            (all(&*store, Load::Outbox).await?, all(&*store, Load::Meta { prefix: "n/".into() }).await?);
        ensure_eq!(outbox.len() + meta.len(), usize::from(n) + 1, "write {n} is not visible");
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// An `apply` that is dropped takes effect whole or not at all, and disturbs no other.
pub async fn a_dropped_apply_takes_effect_whole_or_not_at_all(fixture: &dyn StoreFixture) -> Verdict {
    const ROUNDS: u16 = 100;
    let store = open(fixture).await?;
    for n in 0..ROUNDS {
        let batch = [append(n, Some(1)), append(n, Some(2))];
        let mut applying: Applying<'_> = store.apply(&batch);
        let _ = start(&mut applying).await;
        drop(applying);
    }
    // Whatever is still on its way comes before this.
    done(&*store, &[append(ROUNDS, Some(1)), append(ROUNDS, Some(2))]).await?;
    let rows = all(&*store, Load::Outbox).await?;
    for n in 0..=ROUNDS {
        let halves = rows.iter().filter(|row| matches!(row, Row::Outbox(row) if row.message == message(n))).count();
        ensure!(halves == 2 || (halves == 0 && n < ROUNDS), "{halves} rows of the dropped batch {n}");
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Callers on several threads at once: every answer is right, nothing is lost, and of several that
/// write the same key exactly one is told `Done`.
pub async fn many_appliers_at_once_lose_nothing(fixture: &dyn StoreFixture) -> Verdict {
    const THREADS: u16 = 4;
    const EACH: u16 = 100;
    let store = open(fixture).await?;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || on_a_runtime(caller(&*store, thread, EACH)))
        })
        .collect();
    let mut firsts = 0;
    for thread in threads {
        firsts += thread.join().map_err(|_| Broken::new("a call of apply panicked"))??;
    }
    ensure_eq!(firsts, usize::from(EACH), "each contested key is written once");
    let rows = all(&*store, Load::Outbox).await?;
    ensure_eq!(rows.len(), usize::from(EACH) * (1 + usize::from(THREADS)));
    let delivered = rows.iter().filter(|row| matches!(row, Row::Outbox(row) if row.state == OutboxState::Delivered));
    ensure_eq!(delivered.count(), usize::from(EACH * THREADS));
    close(&*store).await?;
    Ok(Outcome::Kept)
}

fn on_a_runtime<T>(calls: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Broken::new(format!("no tokio runtime: {e}")))?.block_on(calls)
}

/// One thread with calls side by side; answers how many of the contested keys it wrote.
async fn caller(store: &dyn RouteStore, thread: u16, each: u16) -> Result<usize, Broken> {
    let mut won = 0;
    for n in 0..each {
        let own = 1000 * (thread + 1) + n;
        let progress = Write::Progress {
            message: message(own),
            to_peer: Some(peer(1)),
            state: OutboxState::Delivered,
            retry_count: 1,
            next_try: at(1),
        };
        let mine = [Write::Append(outbox(own, Some(1))), progress];
        let (mine, contested) = tokio::try_join!(apply(store, &mine), one(store, append(n, None)))?;
        ensure_eq!(mine, [Applied::Done, Applied::Done]);
        won += usize::from(contested == Applied::Done);
    }
    Ok(won)
}
