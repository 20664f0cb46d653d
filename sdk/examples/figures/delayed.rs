//! The first message to a member who is 50 ms away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_testkit::delay::{DelayConfig, Delayed, UdpDelayer};

use crate::Failure;
use crate::report::Row;
use crate::stats::{percentile, span};
use crate::world::{self, PATIENCE, Pair};

const CONTACTS: usize = 20;
const ONE_WAY: Duration = Duration::from_millis(50);
const P95: Duration = Duration::from_secs(2);

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut took = Vec::with_capacity(CONTACTS);
    let mut crossed = 0;
    for _ in 0..CONTACTS {
        let delayer = UdpDelayer::start(DelayConfig::new(ONE_WAY))?;
        let far = |user| world::in_memory(world::member(user)).transport(delayed(&delayer));
        let pair = Pair::start(far("alice"), far("bob")).await?;
        let start = Instant::now();
        let sent = pair.alice.chat("bob")?.send("hello").await?;
        tokio::time::timeout(PATIENCE, sent.delivered()).await??;
        took.push(start.elapsed());
        let stats = delayer.stats();
        if stats.dropped > 0 || stats.forwarded == 0 {
            return Err(format!("the delayer did not carry everything: {stats:?}").into());
        }
        crossed += stats.forwarded;
        pair.stop().await?;
    }
    let (p50, p95) = (percentile(&took, 50), percentile(&took, 95));
    Ok(vec![Row {
        figure: "first contact at 50 ms one way, `send` to Delivered",
        target: "p95 ≤ 2 s",
        measured: format!("p95 {} (p50 {})", span(p95), span(p50)),
        met: p95 <= P95,
        how: format!(
            "n = {CONTACTS} new pairs; ICE, DTLS and SCTP cross a delayer ({} packets a contact), the \
             signalling (the callee's listener) does not",
            crossed / CONTACTS as u64
        ),
    }])
}

fn delayed(delayer: &UdpDelayer) -> Delayed {
    Delayed::new(Arc::new(world::loopback()), delayer)
}
