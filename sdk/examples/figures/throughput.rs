//! Messages a second from node to node, against the same messages over a bare channel.

use std::time::Instant;

use byway::api::Bytes;
use byway::{Chat, SendError, Sent};
use tokio::task::JoinSet;

use crate::Failure;
use crate::raw::Raw;
use crate::report::Row;
use crate::stats::median;
use crate::world::{self, Pair};

const SIZE: usize = 100;
const ROUNDS: usize = 5;
const RAW_MESSAGES: usize = 400_000;
const NODE_MESSAGES: usize = 400 * SENDERS;
/// Calls of `send` at once.
const SENDERS: usize = 256;
const SHARE: f64 = 0.20;

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let body = Bytes::from(vec![7; SIZE]);
    let raw = Raw::connect().await?;
    let mut pair = Pair::in_memory().await?;
    pair.introduce().await?;
    let (mut bare, mut packed, mut ours, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    raw.coalesced(&body, RAW_MESSAGES / 10).await?;
    flood(&mut pair, &body, NODE_MESSAGES / 10).await?;
    for _ in 0..ROUNDS {
        let rival = raw.coalesced(&body, RAW_MESSAGES).await?;
        let node = flood(&mut pair, &body, NODE_MESSAGES).await?;
        packed.push(raw.packed(&body, RAW_MESSAGES).await?);
        shares.push(node / rival);
        bare.push(rival);
        ours.push(node);
    }
    raw.close().await;
    pair.stop().await?;
    let share = median(&shares);
    Ok(vec![Row {
        figure: "messages a second, node to node, against the bare channel with coalesced messages",
        target: "≥ 20 %",
        measured: format!("{:.1} % ({:.0} k against {:.0} k)", share * 100.0, median(&ours) / 1e3, median(&bare) / 1e3),
        met: share >= SHARE,
        how: format!(
            "medians of {ROUNDS} rounds in turn, {NODE_MESSAGES} messages of {SIZE} B to the end: delivered, taken and \
             done, {SENDERS} `send`s at once, memory store; the rival encodes the same frames and fills them; \
             unframed bytes: {:.0} k",
            median(&packed) / 1e3
        ),
    }])
}

/// Messages a second, a multiple of [`SENDERS`], until all are delivered, and the app is done with all.
async fn flood(pair: &mut Pair, body: &Bytes, messages: usize) -> Result<f64, Failure> {
    let mut senders = JoinSet::new();
    let start = Instant::now();
    for _ in 0..SENDERS {
        let (bob, body) = (pair.alice.chat("bob")?, body.clone());
        senders.spawn(async move {
            let mut last = None;
            for _ in 0..messages / SENDERS {
                send(&bob, &body, &mut last).await?;
            }
            if let Some(sent) = last {
                sent.delivered().await?;
            }
            Ok::<_, Failure>(())
        });
    }
    let mut done = 0;
    let app = world::take_all(
        &mut pair.inbox,
        |_| {},
        || {
            done += 1;
            done == messages
        },
    );
    let sending = async {
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        Ok(())
    };
    tokio::try_join!(app, sending)?;
    Ok(messages as f64 / start.elapsed().as_secs_f64())
}

/// Sends; a full outbox is waited for where it empties: at the delivery of what this caller sent last.
pub(crate) async fn send(chat: &Chat, body: &Bytes, last: &mut Option<Sent>) -> Result<(), Failure> {
    loop {
        match chat.send(body).await {
            Ok(sent) => {
                *last = Some(sent);
                return Ok(());
            }
            Err(SendError::QueueFull) => match last.take() {
                Some(sent) => sent.delivered().await?,
                None => tokio::task::yield_now().await,
            },
            Err(error) => return Err(error.into()),
        }
    }
}
