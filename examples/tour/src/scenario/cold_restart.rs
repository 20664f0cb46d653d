//! Everything is killed; everything but the registry comes back.

use std::time::Instant;

use super::Scenario;
use crate::child::Person;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Failure, Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cold-restart",
    title: "Everything dies, the registry for good",
    why: "The registry is killed, then every member is, all with kill -9. The members start again. No process has \
          anything in memory, no server is there, no address is known but what stands in their own SQLite files. \
          Carol serves a listener: a small socket, on the same port as before, that others find in their files.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let plans = [Plan::with_registry("carol").listening(), Plan::with_registry("alice"), Plan::with_registry("bob")];
    stage.start_registry().await?;
    let mut people = Vec::new();
    for plan in &plans {
        people.push(stage.start_announced(plan).await?);
    }
    all_connected(&people).await?;
    stage.narrator.fact("all three are connected to each other");

    stage.kill_registry().await?;
    for person in &people {
        person.kill().await?;
    }
    stage.narrator.fact("kill -9: Carol, Alice and Bob are dead, and with them every connection");

    let before = stage.proxy()?.mark();
    let mut people = Vec::new();
    for plan in &plans {
        people.push(stage.start(plan).await?);
    }
    let [carol, alice, bob] = people.as_slice() else { return Err(Failure::new("three were started")) };
    let since = Instant::now();
    let id = alice.send("bob", "we are back").await?;
    alice.wait_delivered(&id).await?;
    let delivered = since.elapsed();
    bob.message("we are back").await?;
    stage.narrator.fact(format!("Alice writes to Bob: Delivered after {}", ms(delivered)));
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    let id = bob.send("carol", "so we are").await?;
    bob.wait_delivered(&id).await?;
    carol.message("so we are").await?;
    all_connected(&people).await?;
    let together = since.elapsed();
    stage.narrator.fact("all three are connected to each other again");

    let mut over_listener = 0;
    for person in &people {
        over_listener += person.metrics().await?.listener_signals;
    }
    ensure!(over_listener > 0, "nobody used carol's listener");
    let calls = stage.proxy()?.since(before);
    ensure!(calls.answered() == 0, "a dead registry has answered: {calls}");
    Ok(Finding::new(
        calls.answered(),
        format!(
            "all running again, Delivered {} after send, all connected after {}; signals over Carol's listener: \
             {over_listener}; attempts to reach the dead registry, in vain: {}",
            ms(delivered),
            ms(together),
            calls.in_vain()
        ),
    ))
}

async fn all_connected(people: &[Person]) -> Result<()> {
    for person in people {
        for other in people.iter().filter(|other| other.name() != person.name()) {
            person.until_sees(other.name(), "🟢", "webrtc").await?;
        }
    }
    Ok(())
}
