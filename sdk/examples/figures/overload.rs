//! Sending as fast as `send` accepts: memory, losses, queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use byway::Message;
use byway::api::Bytes;
use tokio::task::JoinSet;

use crate::Failure;
use crate::report::Row;
use crate::rss::resident;
use crate::throughput;
use crate::world::{self, PATIENCE, Pair};

const SIZE: usize = 100;
const SENDERS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_millis(250);
const WITHIN: f64 = 0.05;
/// Says that nothing follows.
const END: &str = "end";
/// The bound that `Tuning::outbox_messages` sets by default.
const QUEUE: usize = 10_000;

/// What the recipient saw. Each sender numbers its messages, so nothing has to be kept for each.
#[derive(Clone, Debug, Default)]
struct Seen {
    next: Vec<u64>,
    taken: u64,
    /// Not the number that comes next: lost, repeated or out of order.
    wrong: u64,
}

impl Seen {
    fn message(&mut self, body: &[u8]) {
        let Some((sender, rest)) = body.split_first_chunk() else { return };
        let Some((number, _)) = rest.split_first_chunk() else { return };
        let Some(next) = self.next.get_mut(u64::from_be_bytes(*sender) as usize) else { return };
        let number = u64::from_be_bytes(*number);
        self.wrong += u64::from(number != *next);
        *next = number + 1;
        self.taken += 1;
    }
}

pub(crate) async fn measure(watched: Duration) -> Result<Vec<Row>, Failure> {
    let mut pair = Pair::in_memory().await?;
    pair.introduce().await?;
    let Pair { alice, _inbox, bob, mut inbox } = pair;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for number in 0..SENDERS as u64 {
        let (chat, stop, sent) = (alice.chat("bob")?, Arc::clone(&stop), Arc::clone(&sent));
        senders.spawn(async move {
            let mut last = None;
            for count in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                throughput::send(&chat, &body(number, count), &mut last).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(sent) = last {
                sent.delivered().await?;
            }
            Ok::<_, Failure>(())
        });
    }
    let app = tokio::spawn(async move {
        let mut seen = Seen { next: vec![0; SENDERS], ..Seen::default() };
        let over = AtomicBool::new(false);
        let take = |message: &Message| match message.bytes() {
            body if body == END => over.store(true, Ordering::Relaxed),
            body => seen.message(body),
        };
        let ended = world::take_all(&mut inbox, take, || over.load(Ordering::Relaxed)).await;
        ended.map(|()| (seen, inbox))
    });

    tokio::time::sleep(WARM_UP).await;
    let begin = Instant::now();
    let accepted = sent.load(Ordering::Relaxed);
    let (mut first, mut last, mut longest) = (Vec::new(), Vec::new(), 0);
    while begin.elapsed() < watched {
        tokio::time::sleep(SAMPLE).await;
        let half = if begin.elapsed() < watched / 2 { &mut first } else { &mut last };
        half.push(resident()?);
        longest = longest.max(alice.metrics().await?.core.queued);
    }
    let rate = (sent.load(Ordering::Relaxed) - accepted) as f64 / begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    let sent = sent.load(Ordering::Relaxed);
    // Messages come in order, so this is the last one.
    alice.chat("bob")?.send(END).await?.delivered().await?;
    let (seen, _inbox_of_bob) = tokio::time::timeout(PATIENCE, app).await???;
    world::stop(&alice, &bob).await?;

    let (first_rss, last_rss) = (middle(&mut first), middle(&mut last));
    let change = last_rss / first_rss - 1.0;
    let nothing_lost = seen.taken == sent && seen.wrong == 0;
    Ok(vec![Row {
        figure: "overload: resident memory of the second half against the first; losses; the outbox",
        target: "within 5 %, nothing lost, at most 10,000 queued",
        measured: format!(
            "{:+.1} % ({:.1} to {:.1} MiB), {} of {sent} lost, repeated or out of order, at most {longest} queued",
            change * 100.0,
            first_rss / 1024.0,
            last_rss / 1024.0,
            sent.abs_diff(seen.taken).max(seen.wrong),
        ),
        met: change.abs() <= WITHIN && nothing_lost && longest <= QUEUE,
        how: format!(
            "both nodes in this process, {} s after {} s of warming up, {SENDERS} senders, {SIZE} B, {:.0} k \
             messages a second; medians of {} samples a half",
            watched.as_secs(),
            WARM_UP.as_secs(),
            rate / 1e3,
            first.len(),
        ),
    }])
}

fn body(sender: u64, count: u64) -> Bytes {
    let mut body = vec![7; SIZE];
    body[..8].copy_from_slice(&sender.to_be_bytes());
    body[8..16].copy_from_slice(&count.to_be_bytes());
    body.into()
}

fn middle(samples: &mut [u64]) -> f64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default() as f64
}
