//! Alice and Bob cannot connect; their messages go by way of a member who is connected to both.

use std::time::Instant;

use super::Scenario;
use crate::child::Person;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "relay",
    title: "Relay via Bob when the direct path is refused",
    why: "Between Alice and Carol stands a firewall: they never connect. Bob is connected to both, and so is Dave. \
          Their messages are sealed and go by way of Bob, who can read nothing of them. There is no registry. Then \
          Bob is killed with kill -9 in the middle of it, and at last the firewall falls.",
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
    carol.until_sees("alice", "🟡", "Online via bob").await?;

    let since = Instant::now();
    let id = alice.send("carol", "can you hear me?").await?;
    alice.wait_delivered(&id).await?;
    let relayed = since.elapsed();
    let shown = carol.message("can you hear me?").await?;
    ensure!(shown.id == id && shown.from == "alice", "carol was shown another message: {shown:?}");
    alice.event(&["Delivery", "Relayed", "bob"]).await?;
    stage.narrator.fact(format!("Alice writes to Carol: Relayed via Bob, Delivered after {}", ms(relayed)));
    let answer = carol.send("alice", "loud and clear").await?;
    carol.wait_delivered(&answer).await?;
    alice.message("loud and clear").await?;
    let passed_on = bob.metrics().await?;
    ensure!(passed_on.relayed >= 2 && passed_on.received == 0, "bob has passed on, and has got, this: {passed_on:?}");
    stage.narrator.fact(format!("and Carol answers; Bob has passed on {} envelopes and read none", passed_on.relayed));

    let _dave = hub(stage, "dave", [&alice, &carol]).await?;
    bob.kill().await?;
    let since = Instant::now();
    let id = alice.send("carol", "and without Bob?").await?;
    alice.wait_delivered(&id).await?;
    let failed_over = since.elapsed();
    carol.message("and without Bob?").await?;
    stage.narrator.fact(format!("kill -9: Bob is dead; the next message is Delivered after {}", ms(failed_over)));
    alice.until_sees("carol", "🟡", "Online via dave").await?;

    for person in [&alice, &carol] {
        person.allow(&alice, &carol).await?;
    }
    alice.until_sees("carol", "🟢", "Connected over webrtc").await?;
    let id = alice.send("carol", "nobody is between us").await?;
    alice.wait_delivered(&id).await?;
    carol.message("nobody is between us").await?;
    let shown = carol.shown().len();
    ensure!(shown == 3, "carol was shown {shown} messages instead of 3");
    stage.narrator.fact("the firewall is gone: they are connected directly, and nothing came twice");
    Ok(Finding::new(
        0,
        format!(
            "Delivered {} after send by way of Bob, {} by way of Dave right after Bob's death, then directly",
            ms(relayed),
            ms(failed_over)
        ),
    ))
}

/// A member who is connected to the others.
pub(super) async fn hub(stage: &mut Stage, name: &str, others: [&Person; 2]) -> Result<Person> {
    let invites = [others[0].invite().await?, others[1].invite().await?];
    let plan = Plan::without_registry(name).listening().invited(&invites[0]).invited(&invites[1]);
    let hub = stage.start(&plan).await?;
    for other in others {
        hub.connect(other.name()).await?;
        hub.until_sees(other.name(), "🟢", "webrtc").await?;
    }
    Ok(hub)
}
