//! The member list follows what the neighbours see.

use super::Scenario;
use crate::child::protocol::Listed;
use crate::ensure;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "member-list",
    title: "The member list, without asking the registry",
    why: "Alice and Carol are connected. Bob appears, who has an invite of Carol's and no registry at all, and goes \
          again. Alice and Bob are kept apart at first, as by a firewall, so that she sees him only through Carol. \
          The registry is alive and is asked nothing.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    stage.start_registry().await?;
    let start = stage.proxy()?.mark();
    let carol = stage.start_announced(&Plan::with_registry("carol").listening()).await?;
    let alice = stage.start_announced(&Plan::with_registry("alice")).await?;
    // Bob's device has to be known before he appears, to be kept apart from Alice's.
    let bobs = Plan::without_registry("bob").quiet();
    let bob = stage.start(&bobs).await?;
    alice.refuse(&alice, &bob).await?;
    let apart = bob.clone();
    bob.stop().await?;
    alice.connect("carol").await?;
    show(stage, &alice.until_sees("carol", "🟢", "Connected over webrtc").await?);
    ensure!(alice.sees("bob").is_none(), "alice knows bob already");
    stage.agree(start, &[&alice, &carol]).await?;
    let before = stage.proxy()?.mark();

    let invite = carol.invite().await?;
    let bob = stage.start(&bobs.clone().invited(&invite)).await?;
    ensure!(bob.peer() == apart.peer(), "bob's device has changed with a restart");
    bob.refuse(&alice, &bob).await?;
    bob.connect("carol").await?;
    show(stage, &alice.until_sees("bob", "🟡", "Online via carol").await?);
    alice.allow(&alice, &bob).await?;
    bob.allow(&alice, &bob).await?;
    stage.narrator.fact("the firewall between Alice and Bob is gone");
    bob.connect("alice").await?;
    show(stage, &alice.until_sees("bob", "🟢", "Connected over webrtc").await?);

    bob.stop().await?;
    show(stage, &alice.until_sees("bob", "⚫", "Offline").await?);
    show(stage, &carol.until_sees("bob", "⚫", "Offline").await?);

    let calls = stage.proxy()?.since(before);
    ensure!(calls.all() == 0, "registry calls while the list was kept up to date: {calls}");
    stage.agree(start, &[&alice, &carol]).await?;
    Ok(Finding::new(
        calls.answered(),
        "🟢, 🟡 via Carol, 🟢, ⚫: each change shown, no registry call, by the proxy and by metrics",
    ))
}

fn show(stage: &Stage, listed: &Listed) {
    stage.narrator.fact(format!("a list shows:  {listed}"));
}
