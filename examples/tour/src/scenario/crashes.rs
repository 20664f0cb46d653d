//! Sender and recipient are killed at the worst moments.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

/// Messages that are under way when the sender is killed.
const BURST: usize = 20;

/// A restarted node gets its messages out in this time: well below the 30 s after which messages are
/// tried again anyway.
const SOON: Duration = Duration::from_secs(15);

pub(super) const SENDER: Scenario = Scenario {
    name: "sender-killed",
    title: "The sender is killed right after `send`",
    why: "`send` has returned, so the message is durable: it arrives, whatever happens to the process, and once. \
          Alice sends a burst to Bob, who is connected, and one message to Dora, whom nobody has ever seen, and is \
          killed with kill -9 the moment the last `send` has returned.",
    play: |stage| Box::pin(sender(stage)),
};

pub(super) const RECIPIENT: Scenario = Scenario {
    name: "recipient-killed",
    title: "The recipient is killed with a message in its hands",
    why: "Bob's app was shown a message, Alice sees Delivered, and Bob is killed with kill -9 before his app was \
          done with it. The message is his app's only after `done`: it is shown again.",
    play: |stage| Box::pin(recipient(stage)),
};

async fn sender(stage: &mut Stage) -> Result<Finding> {
    let alices = Plan::with_registry("alice");
    let [alice, bob] = super::met(stage, &alices, &Plan::with_registry("bob")).await?;
    let before = stage.proxy()?.mark();
    let mut sent = BTreeSet::new();
    let for_dora = alice.send("dora", "you do not know me").await?;
    for n in 0..BURST {
        sent.insert(alice.send("bob", &format!("burst {n}")).await?);
    }
    alice.kill().await?;
    let arrived = bob.shown().len();
    stage.narrator.fact(format!("kill -9: Alice is dead; Bob has been shown {arrived} of {BURST} messages by now"));

    let alice = stage.start(&alices).await?;
    let since = Instant::now();
    // Messages of one sender are shown in order: when this one is shown, all others were.
    let last = alice.send("bob", "last").await?;
    alice.wait_delivered(&last).await?;
    bob.message("last").await?;
    let shown: Vec<String> = bob.shown().into_iter().map(|message| message.id).filter(|id| *id != last).collect();
    ensure!(shown.len() == BURST, "bob was shown {} messages instead of {BURST}", shown.len());
    ensure!(shown.iter().cloned().collect::<BTreeSet<_>>() == sent, "bob was shown a message twice");
    let took = since.elapsed();
    stage.narrator.fact(format!("Alice is back; Bob has been shown all {BURST}, each once, {} later", ms(took)));
    ensure!(took < SOON, "what was under way when alice was killed took {} to arrive after her restart", ms(took));

    let dora = stage.start(&Plan::with_registry("dora")).await?;
    alice.wait_delivered(&for_dora).await?;
    let message = dora.message("you do not know me").await?;
    ensure!(message.id == for_dora, "another message with that text");
    ensure!(dora.shown().len() == 1, "dora was shown {} messages", dora.shown().len());
    stage.narrator.fact("Dora has appeared, and has her message");
    let duplicates = bob.metrics().await?.duplicates;
    Ok(Finding::new(
        stage.proxy()?.since(before).answered(),
        format!("{BURST} of {BURST} shown once, {duplicates} arrived twice and were shown once; the one for Dora too"),
    ))
}

async fn recipient(stage: &mut Stage) -> Result<Finding> {
    let bobs = Plan::with_registry("bob");
    let [alice, bob] = super::met(stage, &Plan::with_registry("alice"), &bobs).await?;
    let before = stage.proxy()?.mark();
    let id = alice.send("bob", "handle me with care").await?;
    alice.wait_delivered(&id).await?;
    let first = bob.message("handle me with care").await?;
    ensure!(first.id == id, "another message with that text");
    bob.kill().await?;
    stage.narrator.fact("Bob was shown the message, Alice sees Delivered; kill -9: Bob is dead");

    let bob = stage.start(&bobs).await?;
    let again = bob.message("handle me with care").await?;
    ensure!(again == first, "bob was shown {again:?} instead of {first:?}");
    stage.narrator.fact("Bob is back and is shown the same message, with the same id");
    bob.done(&id).await?;
    bob.stop().await?;
    stage.narrator.fact("Now his app says done, and he restarts once more");

    let bob = stage.start(&bobs).await?;
    let marker = alice.send("bob", "the next one").await?;
    alice.wait_delivered(&marker).await?;
    bob.message("the next one").await?;
    let shown = bob.shown();
    ensure!(shown.len() == 1, "after done, bob was shown {shown:?}");
    stage.narrator.fact("He is shown the next message, and the first one not again");
    let calls = stage.proxy()?.since(before);
    Ok(Finding::new(calls.answered(), "shown again after the crash with the same id, not again after done"))
}
