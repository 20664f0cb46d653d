//! A relayed conversation becomes direct by itself, in the middle of a thousand messages.

use std::time::Instant;

use super::Scenario;
use super::relay::hub;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

/// Numbered messages, all of them.
const MESSAGES: usize = 1_000;
/// So many go by way of Bob before the firewall falls.
const RELAYED: usize = 300;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "upgrade",
    title: "From a relay to a direct connection, in mid-flow",
    why: "Alice writes a thousand numbered messages to Carol by way of Bob. After some of them the firewall between \
          Alice and Carol falls, and nobody tells the two: they find out, connect, and the messages go on over the \
          new connection. Each arrives once, and in order. Then Bob dies, and nobody misses him.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let alice = stage.start(&Plan::without_registry("alice").listening().quiet()).await?;
    let carol = stage.start(&Plan::without_registry("carol").listening().quiet()).await?;
    for person in [&alice, &carol] {
        person.refuse(&alice, &carol).await?;
    }
    let bob = hub(stage, "bob", [&alice, &carol]).await?;
    alice.until_sees("carol", "🟡", "Online via bob").await?;

    let mut ids = Vec::new();
    for n in 0..RELAYED {
        ids.push(alice.send("carol", &n.to_string()).await?);
    }
    carol.messages(RELAYED).await?;
    let passed_on = bob.metrics().await?.relayed;
    ensure!(passed_on as usize >= RELAYED, "bob has passed on {passed_on} envelopes for {RELAYED} messages");
    stage.narrator.fact(format!("{RELAYED} messages have gone by way of Bob; now the firewall falls"));
    let since = Instant::now();
    for person in [&alice, &carol] {
        person.allow(&alice, &carol).await?;
    }
    for n in RELAYED..MESSAGES - 1 {
        ids.push(alice.send("carol", &n.to_string()).await?);
    }
    alice.until_sees("carol", "🟢", "Connected over webrtc").await?;
    let upgraded = since.elapsed();
    alice.event(&["Upgraded"]).await?;
    stage.narrator.fact(format!("connected directly {} later, by themselves", ms(upgraded)));
    bob.kill().await?;
    stage.narrator.fact("kill -9: Bob is dead");
    ids.push(alice.send("carol", &(MESSAGES - 1).to_string()).await?);
    alice.wait_all_delivered(&ids).await?;
    let shown = carol.messages(MESSAGES).await?;
    let right = shown.iter().enumerate().all(|(n, message)| message.text == n.to_string());
    ensure!(right && shown.len() == MESSAGES, "carol was shown {} messages, or not in order", shown.len());
    stage.narrator.fact(format!("all {MESSAGES} were shown, once each and in order"));
    Ok(Finding::new(
        0,
        format!("{MESSAGES} of {MESSAGES} once and in order, direct {} after it was possible", ms(upgraded)),
    ))
}
