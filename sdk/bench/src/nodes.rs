//! Messages a second from node to node, against the same messages over a bare connection of the same transport.

use std::time::{Duration, Instant};

use byway::api::Bytes;
use byway::presets::Bare;
use byway::{Builder, Chat, Inbox, MemoryKeys, MemoryStore, Network, Node, SendError, Sent, WallTime};
use byway_wire::{Batch, Direct, Frame, limits};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;

use crate::Failure;
use crate::pair::Pair;
use crate::stats::median;
use crate::table::Row;

const SIZE: usize = 100;
const ROUNDS: usize = 5;
const BARE_MESSAGES: usize = 400_000;
const NODE_MESSAGES: usize = 400 * SENDERS;
/// Calls of `send` at once.
const SENDERS: usize = 256;
/// Messages whose `done` the app has under way at once.
const FINISHING: usize = 256;
const SHARE: f64 = 0.20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Gives a node its transport, and what that needs to connect.
pub(crate) type Over = fn(Builder) -> Builder;

pub(crate) async fn measure(transport: &str, bare: &Pair, over: Over) -> Result<Row, Failure> {
    let body = Bytes::from(vec![7; SIZE]);
    let mut nodes = Nodes::start(over).await?;
    coalesced(bare, &body, BARE_MESSAGES / 10).await?;
    nodes.flood(&body, NODE_MESSAGES / 10).await?;
    let (mut rival, mut ours, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let there = coalesced(bare, &body, BARE_MESSAGES).await?;
        let here = nodes.flood(&body, NODE_MESSAGES).await?;
        shares.push(here / there);
        rival.push(there);
        ours.push(here);
    }
    nodes.stop().await?;
    let share = median(&shares);
    Ok(Row {
        figure: format!("{transport}: messages/s, node to node, against the bare connection with the same frames"),
        target: format!("≥ {:.0} %", SHARE * 100.0),
        value: format!("{:.0} % ({:.0} k against {:.0} k)", share * 100.0, median(&ours) / 1e3, median(&rival) / 1e3),
        met: share >= SHARE,
        how: format!(
            "medians of {ROUNDS} rounds in turn, {NODE_MESSAGES} messages of {SIZE} B to the end: delivered, taken and \
             done, {SENDERS} `send`s at once, memory store; the rival encodes the same messages and fills its frames"
        ),
    })
}

/// Messages a second, one way, in full frames of the node's own format.
async fn coalesced(bare: &Pair, body: &Bytes, messages: usize) -> Result<f64, Failure> {
    let (mut batch, mut seq) = (Batch::new(limits::FRAME_MAX), 0);
    while batch.push(&direct(body, seq)) {
        seq += 1;
    }
    let per_frame = seq as usize;
    drop(batch.take());
    let (mut batch, body) = (Batch::new(limits::FRAME_MAX), body.clone());
    let fill = move || {
        for _ in 0..per_frame {
            seq += 1;
            batch.push(&direct(&body, seq));
        }
        batch.take()
    };
    let frames = messages.div_ceil(per_frame);
    let start = Instant::now();
    bare.carry(frames, fill).await?;
    Ok((frames * per_frame) as f64 / start.elapsed().as_secs_f64())
}

/// What a node writes for a message, numbers of usual length in it.
fn direct(body: &Bytes, seq: u64) -> Frame {
    const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);
    Frame::Direct(Direct {
        message: byway::MessageId::from_bytes([7; 16]),
        epoch: u64::MAX >> 1,
        seq: 100_000 + seq,
        floor: 100_000,
        sent_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(7 * 24 * 60 * 60)),
        reply_to: None,
        body: body.clone(),
    })
}

/// Alice, connected to Bob.
struct Nodes {
    alice: Node,
    _inbox: Inbox,
    bob: Node,
    inbox: Inbox,
}

impl Nodes {
    async fn start(over: Over) -> Result<Self, Failure> {
        let (bob, mut inbox) = over(member("bob")).spawn().await?;
        let (alice, alices) = over(member("alice")).bootstrap(bob.invite()?).spawn().await?;
        let chat = alice.chat("bob")?;
        chat.connect(PATIENCE).await?;
        let sent = chat.send("hello").await?;
        inbox.next().await.ok_or("bob has stopped")?.done().await?;
        sent.delivered().await?;
        Ok(Self { alice, _inbox: alices, bob, inbox })
    }

    /// Messages a second, a multiple of [`SENDERS`], until all are delivered and the app is done with all.
    async fn flood(&mut self, body: &Bytes, messages: usize) -> Result<f64, Failure> {
        let mut senders = JoinSet::new();
        let start = Instant::now();
        for _ in 0..SENDERS {
            let (bob, body) = (self.alice.chat("bob")?, body.clone());
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
        let messages = messages / SENDERS * SENDERS;
        let sending = async {
            while let Some(sender) = senders.join_next().await {
                sender??;
            }
            Ok(())
        };
        tokio::try_join!(take(&mut self.inbox, messages), sending)?;
        Ok(messages as f64 / start.elapsed().as_secs_f64())
    }

    async fn stop(self) -> Result<(), Failure> {
        let (one, other) = tokio::join!(self.alice.shutdown(), self.bob.shutdown());
        Ok(one.and(other)?)
    }
}

/// An app that takes so many messages and is done with them.
async fn take(inbox: &mut Inbox, messages: usize) -> Result<(), Failure> {
    let mut finishing = FuturesUnordered::new();
    let mut done = 0;
    while done < messages {
        tokio::select! {
            message = inbox.next(), if finishing.len() < FINISHING => {
                let message = message.ok_or("the recipient has stopped")?;
                finishing.push(async move { message.done().await });
            }
            Some(finished) = finishing.next() => {
                finished?;
                done += 1;
            }
        }
    }
    Ok(())
}

/// A full outbox is waited for where it empties: at the delivery of what this caller sent last.
async fn send(chat: &Chat, body: &Bytes, last: &mut Option<Sent>) -> Result<(), Failure> {
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

fn member(user: &str) -> Builder {
    Node::builder(Bare)
        .store(MemoryStore::new())
        .keys(MemoryKeys::new())
        .discovery(|_| byway::discovery::standard_steps(None).into())
        .join(Network::open("bench"), user)
}
