//! Delivered and Read while the registry is dead.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "registry-offline",
    title: "Messages while the registry is dead",
    why: "Alice and Bob are connected, the registry is killed. Sending → Delivered → Read, and the answer back, do \
          not notice.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let [alice, bob] = super::met(stage, &Plan::with_registry("alice"), &Plan::with_registry("bob")).await?;
    stage.kill_registry().await?;

    let before = stage.proxy()?.mark();
    let metered = alice.metrics().await?.lookups_metered + bob.metrics().await?.lookups_metered;
    let since = Instant::now();
    let id = alice.send("bob", "are you there?").await?;
    alice.wait_delivered(&id).await?;
    let delivered = since.elapsed();
    stage.narrator.fact(format!("Alice's message is Delivered, {} after send", ms(delivered)));
    let shown = bob.message("are you there?").await?;
    ensure!(alice.status(&id).await? == "delivered", "Read before Bob has read it");
    bob.read(&shown.id).await?;
    alice.wait_read(&id).await?;
    stage.narrator.fact("Bob's app says that he has read it, and Alice sees Read");
    let answer = bob.send("alice", "where else?").await?;
    bob.wait_delivered(&answer).await?;
    alice.message("where else?").await?;
    stage.narrator.fact("Bob's answer is Delivered");

    let now = alice.metrics().await?.lookups_metered + bob.metrics().await?.lookups_metered;
    ensure!(now == metered, "a search went as far as the dead registry");
    let calls = stage.proxy()?.since(before);
    Ok(Finding::new(calls.answered(), format!("Delivered {} after send, Read, answered; registry dead", ms(delivered))))
}
