//! Alice and Bob have never met; Carol knows both; the registry is dead.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "mutual-neighbour",
    title: "Found by way of a friend",
    why: "Alice is connected to Carol, Bob is connected to Carol, Alice and Bob have never met. The registry is \
          killed. Elsewhere this is where an app stops working; here Carol's connections are the directory.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    stage.start_registry().await?;
    let carol = stage.start_announced(&Plan::with_registry("carol").quiet()).await?;
    let alice = stage.start_announced(&Plan::with_registry("alice").quiet()).await?;
    let bob = stage.start_announced(&Plan::with_registry("bob").quiet()).await?;
    alice.connect("carol").await?;
    bob.connect("carol").await?;
    carol.until_sees("alice", "🟢", "").await?;
    carol.until_sees("bob", "🟢", "").await?;
    let connects = alice.metrics().await?.connects;
    ensure!(connects == 1, "alice has made {connects} connections and should know only carol");
    let metered = alice.metrics().await?.lookups_metered;
    stage.kill_registry().await?;

    let before = stage.proxy()?.mark();
    let since = Instant::now();
    let id = alice.send("bob", "carol told me where you are").await?;
    alice.wait_delivered(&id).await?;
    let took = since.elapsed();
    stage.narrator.fact(format!("Alice writes to Bob: Delivered after {}", ms(took)));
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    bob.message("carol told me where you are").await?;
    let now = alice.metrics().await?;
    ensure!(now.lookups_metered == metered, "alice's search went as far as the dead registry");
    ensure!(now.neighbour_signals > 0 || carol.metrics().await?.relayed > 0, "nothing went through carol: {now:?}");
    alice.until_sees("bob", "🟢", "webrtc").await?;
    stage.narrator.fact("and now they are connected directly: Carol is not needed any more");
    let calls = stage.proxy()?.since(before);
    Ok(Finding::new(
        calls.answered(),
        format!("Delivered {} after send, registry dead, signals through Carol: {}", ms(took), now.neighbour_signals),
    ))
}
