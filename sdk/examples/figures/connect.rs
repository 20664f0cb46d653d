//! From the start of the ladder to an authenticated link, signalling included.

use std::time::{Duration, Instant};

use byway::{LookupOutcome, Node};

use crate::Failure;
use crate::registry::Served;
use crate::report::Row;
use crate::stats::{percentile, span};
use crate::world::{self, PATIENCE, Pair};

const PAIRS: usize = 50;
const P50: Duration = Duration::from_millis(60);
const P95: Duration = Duration::from_millis(150);

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let by_listener = over_listener().await?;
    let by_registry = over_registry().await?;
    Ok(vec![
        row("connect, fresh pairs, by a member's listener", &by_listener, "the callee's own listener (`ws:`)"),
        row("connect, fresh pairs, by the registry", &by_registry, "the registry's socket; its lookup is in the time"),
    ])
}

fn row(figure: &'static str, took: &[Duration], carrier: &str) -> Row {
    let (p50, p95) = (percentile(took, 50), percentile(took, 95));
    Row {
        figure,
        target: "p50 ≤ 60 ms, p95 ≤ 150 ms",
        measured: format!("p50 {}, p95 {}", span(p50), span(p95)),
        met: p50 <= P50 && p95 <= P95,
        how: format!("n = {}, WebRTC on loopback; `Chat::connect` of new devices; carrier: {carrier}", took.len()),
    }
}

/// The only thing known of the other is an invite.
async fn over_listener() -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let pair = Pair::in_memory().await?;
        took.push(connect(&pair.alice, "bob").await?);
        pair.stop().await?;
    }
    Ok(took)
}

/// Nothing is known of the other.
async fn over_registry() -> Result<Vec<Duration>, Failure> {
    let served = Served::start().await?;
    let mut took = Vec::with_capacity(PAIRS);
    for n in 0..PAIRS {
        let (alice, bob) = (format!("alice-{n}"), format!("bob-{n}"));
        let (callee, inbox) = served.member(&bob).spawn().await?;
        let (caller, other) = served.member(&alice).spawn().await?;
        tokio::try_join!(served.announced(&callee), served.announced(&caller))?;
        took.push(connect(&caller, &bob).await?);
        world::stop(&caller, &callee).await?;
        drop((inbox, other));
    }
    served.stop().await;
    Ok(took)
}

async fn connect(caller: &Node, callee: &str) -> Result<Duration, Failure> {
    let chat = caller.chat(callee)?;
    let start = Instant::now();
    let connected = chat.connect(PATIENCE).await;
    let took = start.elapsed();
    let explanation = caller.explain(callee).await?.ok_or("there was no lookup")?;
    match (&explanation.outcome, connected) {
        (LookupOutcome::Connected { .. }, Ok(())) => Ok(took),
        (_, Ok(())) => Err(format!("this was no lookup: {explanation}").into()),
        (_, Err(error)) => Err(format!("{error}: {explanation}").into()),
    }
}
