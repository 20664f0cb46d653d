//! Members whose plugins differ.

use super::Scenario;
use crate::child::Person;
use crate::ensure;
use crate::plugins::{Keep, Way};
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

/// Messages that are under way when a process is killed.
const BURST: usize = 20;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stores",
    title: "Mixed pairs: every store, two transports",
    why: "Nothing on the wire says what a member is built on. Alice prefers libp2p and has WebRTC too, Bob has \
          WebRTC only; one of them keeps SQLite, the other redb, and Carol keeps nothing. Whoever has a durable \
          store is killed with kill -9 in the middle, and nothing is lost.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    for (sender, recipient) in [(Keep::Sqlite, Keep::Redb), (Keep::Redb, Keep::Sqlite)] {
        pair(stage, sender, recipient).await?;
    }
    let dora = stage.start(&Plan::without_registry("dora").listening()).await?;
    let carols = Plan::without_registry("carol").keeping(Keep::Memory).invited(&dora.invite().await?);
    let carol = stage.start(&carols).await?;
    let id = carol.send("dora", "I remember nothing").await?;
    carol.wait_delivered(&id).await?;
    dora.message("I remember nothing").await?;
    stage.narrator.fact("Carol, over a store in memory, has written to Dora");
    let detail = format!("{BURST} of {BURST} shown once and in order in both directions of SQLite and redb");
    Ok(Finding::new(0, detail))
}

async fn pair(stage: &mut Stage, sender: Keep, recipient: Keep) -> Result<()> {
    let name = |who: &str| format!("{who} on {}", if who == "alice" { sender } else { recipient }.name());
    let of = |who: &str, keep| Plan::without_registry(&format!("{who}-{}", sender.name())).listening().keeping(keep);
    let alices = of("alice", sender).over(&[Way::Libp2p, Way::Webrtc]);
    let bobs = of("bob", recipient);
    let alice = stage.start(&alices).await?;
    let bob = stage.start(&bobs.clone().invited(&alice.invite().await?)).await?;
    alice.until_sees(bob.name(), "🟢", "webrtc").await?;

    let to = bob.name().to_owned();
    for n in 0..BURST {
        alice.send(&to, &format!("burst {n}")).await?;
    }
    alice.kill().await?;
    stage.narrator.fact(format!("kill -9 right after `send`: {} is dead", name("alice")));
    let alice = stage.start(&alices).await?;
    in_order(&bob).await?;

    let last = alice.send(&to, "in your hands").await?;
    alice.wait_delivered(&last).await?;
    bob.message("in your hands").await?;
    bob.kill().await?;
    stage.narrator.fact(format!("kill -9 before its app was done with anything: {} is dead", name("bob")));
    let bob = stage.start(&bobs).await?;
    bob.message("in your hands").await?;
    in_order(&bob).await?;
    stage.narrator.fact(format!("all {BURST} and one more are shown, in order: {} to {}", name("alice"), name("bob")));
    alice.stop().await?;
    bob.stop().await
}

/// The whole burst was shown, each message once, in order.
async fn in_order(person: &Person) -> Result<()> {
    let shown = person.messages(BURST).await?;
    let right = shown.iter().take(BURST).enumerate().all(|(n, message)| message.text == format!("burst {n}"));
    ensure!(right, "{} was shown {shown:?}", person.name());
    Ok(())
}
