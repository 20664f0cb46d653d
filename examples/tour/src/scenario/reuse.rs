//! A hundred messages, one connection.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

/// Messages.
const COUNT: usize = 100;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "connection-reuse",
    title: "A hundred messages, one connection",
    why: "A connection costs a handshake and battery, so it is kept and used again. Each message is durable in \
          Alice's SQLite file before `send` returns, and in Bob's before it counts as Delivered.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    stage.start_registry().await?;
    let start = stage.proxy()?.mark();
    let alice = stage.start_announced(&Plan::with_registry("alice").quiet()).await?;
    let bob = stage.start_announced(&Plan::with_registry("bob").quiet()).await?;
    let first = alice.send("bob", "message 0").await?;
    alice.wait_delivered(&first).await?;
    stage.agree(start, &[&alice, &bob]).await?;

    let before = stage.proxy()?.mark();
    let since = Instant::now();
    let mut ids = vec![first];
    for n in 1..COUNT {
        ids.push(alice.send("bob", &format!("message {n}")).await?);
    }
    alice.wait_all_delivered(&ids).await?;
    let took = since.elapsed();
    stage.narrator.fact(format!("{COUNT} messages are Delivered, the last {} of them in {}", COUNT - 1, ms(took)));

    let shown: Vec<_> = bob.messages(COUNT).await?.into_iter().map(|message| message.id).collect();
    ensure!(shown == ids, "bob was shown other messages, or in another order");
    let (of_alice, of_bob) = (alice.metrics().await?, bob.metrics().await?);
    ensure!(
        of_alice.connects == 1 && of_bob.connects == 1,
        "connections made: {} by alice's count, {} by bob's",
        of_alice.connects,
        of_bob.connects
    );
    ensure!(of_alice.delivered == COUNT as u64, "alice counts {} as delivered", of_alice.delivered);
    stage.narrator.fact("both have counted one connection; Bob was shown every message once, in order");
    let calls = stage.proxy()?.since(before);
    ensure!(calls.all() == 0, "registry calls for messages over an open connection: {calls}");
    stage.agree(start, &[&alice, &bob]).await?;
    Ok(Finding::new(calls.answered(), format!("{COUNT} of {COUNT} delivered in order over 1 connection")))
}
