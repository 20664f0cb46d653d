//! What a message costs on the disk.

use byway::Node;
use byway::api::Bytes;
use futures_util::future::try_join_all;

use crate::Failure;
use crate::report::Row;
use crate::stats::median;
use crate::world::{self, Pair};

const SIZE: usize = 100;
const SINGLE: u64 = 50;
const LOAD: usize = 2_000;
const ROUNDS: usize = 5;
const SHARED_BY: f64 = 32.0;

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let directory = tempfile::tempdir()?;
    let member = |user: &str| world::member(user).profile(directory.path().join(user));
    let mut pair = Pair::start(member("alice"), member("bob")).await?;
    pair.introduce().await?;
    let body = Bytes::from(vec![7; SIZE]);

    let before = commits(&pair).await?;
    // `strace.sh` counts between these two lines.
    eprintln!("figures: {SINGLE} single messages begin");
    for _ in 0..SINGLE {
        single(&mut pair, &body).await?;
    }
    eprintln!("figures: {SINGLE} single messages end");
    let after = commits(&pair).await?;
    let (sender, recipient) = (after.0 - before.0, after.1 - before.1);

    let (mut senders, mut recipients) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = commits(&pair).await?;
        load(&mut pair, &body).await?;
        let after = commits(&pair).await?;
        senders.push(LOAD as f64 / (after.0 - before.0) as f64);
        recipients.push(LOAD as f64 / (after.1 - before.1) as f64);
    }
    pair.stop().await?;
    let (by_sender, by_recipient) = (median(&senders), median(&recipients));
    Ok(vec![
        Row {
            figure: "durable commits of a single message",
            target: "exactly 1 on each side",
            measured: format!("{sender} and {recipient} for {SINGLE} messages"),
            met: (sender, recipient) == (SINGLE, SINGLE),
            how: "SQLite, WebRTC, device known; each waited for until it was Delivered and done".to_owned(),
        },
        Row {
            figure: "messages that share a durable commit under load",
            target: "≥ 32 on each side",
            measured: format!("{by_sender:.0} and {by_recipient:.0}"),
            met: by_sender >= SHARED_BY && by_recipient >= SHARED_BY,
            how: format!("medians of {ROUNDS} rounds of {LOAD} messages in flight, sender and recipient"),
        },
    ])
}

async fn commits(pair: &Pair) -> Result<(u64, u64), Failure> {
    let count = async |node: &Node| Ok::<_, Failure>(node.metrics().await?.durable_commits);
    Ok((count(&pair.alice).await?, count(&pair.bob).await?))
}

async fn single(pair: &mut Pair, body: &Bytes) -> Result<(), Failure> {
    let sent = pair.alice.chat("bob")?.send(body).await?;
    pair.inbox.next().await.ok_or("bob has stopped")?.done().await?;
    Ok(sent.delivered().await?)
}

async fn load(pair: &mut Pair, body: &Bytes) -> Result<(), Failure> {
    let bob = pair.alice.chat("bob")?;
    let sending = async {
        try_join_all((0..LOAD).map(|_| async { Ok::<_, Failure>(bob.send(body).await?.delivered().await?) })).await?;
        Ok(())
    };
    let mut done = 0;
    let app = world::take_all(
        &mut pair.inbox,
        |_| {},
        || {
            done += 1;
            done == LOAD
        },
    );
    tokio::try_join!(sending, app)?;
    Ok(())
}
