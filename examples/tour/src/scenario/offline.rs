//! The recipient is away when the message is sent.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "offline-message",
    title: "A message for somebody who is away",
    why: "Bob's process has ended. Alice's message waits in her database, not on a server, and reaches Bob when he \
          comes back, without anybody pressing \"send again\".",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let bobs = Plan::with_registry("bob");
    let [alice, bob] = super::met(stage, &Plan::with_registry("alice"), &bobs).await?;
    bob.stop().await?;
    let gone = alice.until_sees("bob", "⚫", "Offline").await?;
    stage.narrator.fact(format!("Bob has left; Alice's list: {gone}"));

    let id = alice.send("bob", "for when you are back").await?;
    let status = alice.status(&id).await?;
    ensure!(status == "sending", "a message to somebody who is away is {status}");
    alice.event(&["Unreachable", "bob"]).await?;
    stage.narrator.fact("Alice's message is Sending: her search has found no way, the message waits in her database");
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    let before = stage.proxy()?.mark();
    let by_alice = alice.metrics().await?.registry_calls;
    let bob = stage.start(&bobs).await?;
    let since = Instant::now();
    alice.wait_delivered(&id).await?;
    let took = since.elapsed();
    let shown = bob.message("for when you are back").await?;
    ensure!(shown.id == id, "another message with that text");
    stage.narrator.fact(format!("Bob is back; the message is Delivered {} after his node runs", ms(took)));
    ensure!(bob.shown().len() == 1, "bob was shown {} messages", bob.shown().len());
    let more = alice.metrics().await?.registry_calls - by_alice;
    ensure!(more == 0, "alice has called the registry {more} times to deliver");
    let calls = stage.proxy()?.since(before);
    Ok(Finding::new(
        calls.answered(),
        format!("Delivered {} after the recipient's node runs; his start made these calls: {calls}", ms(took)),
    ))
}
