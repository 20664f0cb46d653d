//! Two strangers meet through the registry, and later without asking it again.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const FIRST: Scenario = Scenario {
    name: "first-contact",
    title: "Two strangers meet through the registry",
    why: "Alice and Bob know nothing but the registry's address. (So that nothing but Alice's message makes them \
          connect, both have `anchors` set to 0 and do not browse the registry's list.)",
    play: |stage| Box::pin(first(stage)),
};

pub(super) const SECOND: Scenario = Scenario {
    name: "second-contact",
    title: "The second time they do not ask it",
    why: "Alice and Bob have met, and have both been restarted. The registry is alive and would answer; Alice has \
          Bob's signed record and route in her own database and asks nobody.",
    play: |stage| Box::pin(second(stage)),
};

async fn first(stage: &mut Stage) -> Result<Finding> {
    stage.start_registry().await?;
    let start = stage.proxy()?.mark();
    let alice = stage.start_announced(&Plan::with_registry("alice").quiet()).await?;
    let bob = stage.start_announced(&Plan::with_registry("bob").quiet()).await?;
    ensure!(alice.sees("bob").is_none(), "alice knows bob before she asks: {:?}", alice.sees("bob"));

    stage.agree(start, &[&alice, &bob]).await?;
    let before = stage.proxy()?.mark();
    let since = Instant::now();
    let id = alice.send("bob", "hello, stranger").await?;
    let queued = since.elapsed();
    alice.wait_delivered(&id).await?;
    let took = since.elapsed();
    let calls = stage.proxy()?.since(before);
    stage.narrator.fact(format!("send returned after {}, Delivered after {}", ms(queued), ms(took)));
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    let shown = bob.message("hello, stranger").await?;
    ensure!(shown.from == "alice" && shown.id == id, "bob was shown another message: {shown:?}");
    ensure!(calls.all() <= 1, "more than one registry call between send and Delivered: {calls}");

    let all = stage.agree(start, &[&alice, &bob]).await?;
    stage.narrator.fact(format!("the proxy has counted {all} calls since they started, and so have they"));
    Ok(Finding::new(
        calls.answered(),
        format!("Delivered {} after send; registry calls between send and Delivered: {}", ms(took), calls.all()),
    ))
}

async fn second(stage: &mut Stage) -> Result<Finding> {
    let plans = [Plan::with_registry("alice").quiet(), Plan::with_registry("bob").quiet()];
    let [alice, bob] = super::met(stage, &plans[0], &plans[1]).await?;
    alice.stop().await?;
    bob.stop().await?;
    stage.narrator.fact("both have been stopped; both start again");

    let start = stage.proxy()?.mark();
    let alice = stage.start_announced(&plans[0]).await?;
    let bob = stage.start_announced(&plans[1]).await?;
    stage.agree(start, &[&alice, &bob]).await?;
    let before = stage.proxy()?.mark();
    let since = Instant::now();
    let id = alice.send("bob", "it is me again").await?;
    alice.wait_delivered(&id).await?;
    let took = since.elapsed();
    let calls = stage.proxy()?.since(before);
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    bob.message("it is me again").await?;
    ensure!(calls.all() == 0, "registry calls between send and Delivered: {calls}");
    let numbers = alice.metrics().await?;
    ensure!(numbers.lookups_metered == 0, "alice's search went as far as the registry: {numbers:?}");
    stage.agree(start, &[&alice, &bob]).await?;
    Ok(Finding::new(calls.answered(), format!("Delivered {} after send, no registry call", ms(took))))
}
