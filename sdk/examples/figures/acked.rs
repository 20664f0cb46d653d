//! `send` to Delivered and back, against the echo of a bare data channel.

use std::time::{Duration, Instant};

use byway::Node;
use byway::api::Bytes;

use crate::Failure;
use crate::raw::Raw;
use crate::report::Row;
use crate::stats::{percentile, span};
use crate::world::{self, Pair};

const SIZE: usize = 100;
/// Blocks of both in turn: what disturbs the machine disturbs both.
const ROUNDS: usize = 10;
const BLOCK: usize = 200;
const RATIO: f64 = 8.0;

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let body = Bytes::from(vec![7; SIZE]);
    let raw = Raw::connect().await?;
    let mut pair = Pair::in_memory().await?;
    pair.introduce().await?;
    let Pair { alice, _inbox, bob, mut inbox } = pair;
    let app = tokio::spawn(async move { world::take_all(&mut inbox, |_| {}, || false).await });
    raw.echo(&body, BLOCK).await?;
    acked(&alice, &body).await?;
    let (mut echoes, mut acks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        echoes.extend(raw.echo(&body, BLOCK).await?);
        acks.extend(acked(&alice, &body).await?);
    }
    raw.close().await;
    world::stop(&alice, &bob).await?;
    // It ends with the node.
    let _ = app.await?;
    let (echo, ack) = (percentile(&echoes, 50), percentile(&acks, 50));
    let ratio = ack.as_secs_f64() / echo.as_secs_f64();
    Ok(vec![Row {
        figure: "acknowledged round trip, `send` to Delivered, against the bare channel's echo",
        target: "p50 ≤ 8 ×",
        measured: format!("{ratio:.1} × ({} against {})", span(ack), span(echo)),
        met: ratio <= RATIO,
        how: format!(
            "n = {} each, in turn in blocks of {BLOCK}, {SIZE} B, WebRTC on loopback, memory store; p95 {} against {}",
            acks.len(),
            span(percentile(&acks, 95)),
            span(percentile(&echoes, 95)),
        ),
    }])
}

async fn acked(alice: &Node, body: &Bytes) -> Result<Vec<Duration>, Failure> {
    let bob = alice.chat("bob")?;
    let mut took = Vec::with_capacity(BLOCK);
    for _ in 0..BLOCK {
        let start = Instant::now();
        bob.send(body).await?.delivered().await?;
        took.push(start.elapsed());
    }
    Ok(took)
}
