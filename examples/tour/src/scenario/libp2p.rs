//! Two members over libp2p.

use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::plugins::Way;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

/// Messages each way.
const EACH: usize = 50;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "libp2p",
    title: "Another transport: libp2p",
    why: "Alice and Bob speak libp2p (TCP, Noise, Yamux) in place of WebRTC. There is no registry, no listener and \
          nobody who carries signals: Bob dials the address in Alice's signed record. One key is their device in \
          Byway and in libp2p.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let alice = stage.start(&Plan::without_registry("alice").over(&[Way::Libp2p])).await?;
    let bobs = Plan::without_registry("bob").over(&[Way::Libp2p]);
    let since = Instant::now();
    let bob = stage.start(&bobs.clone().invited(&alice.invite().await?)).await?;
    bob.until_sees("alice", "🟢", "libp2p").await?;
    let met = since.elapsed();
    alice.until_sees("bob", "🟢", "libp2p").await?;
    stage.narrator.fact(format!("connected over libp2p {} after Bob's process began", ms(met)));

    for n in 0..EACH {
        alice.send("bob", &format!("there {n}")).await?;
        bob.send("alice", &format!("back {n}")).await?;
    }
    for (person, what) in [(&bob, "there"), (&alice, "back")] {
        let shown = person.messages(EACH).await?;
        let right = shown.iter().enumerate().all(|(n, message)| message.text == format!("{what} {n}"));
        ensure!(right && shown.len() == EACH, "{} was shown {shown:?}", person.name());
    }
    stage.narrator.fact(format!("{EACH} messages each way, each once and in order"));

    bob.stop().await?;
    let waiting = alice.send("bob", "for when you are back").await?;
    let bob = stage.start(&bobs).await?;
    bob.message("for when you are back").await?;
    alice.wait_delivered(&waiting).await?;
    stage.narrator.fact("Bob, restarted without the invite, dials Alice by what his own database remembers");
    Ok(Finding::new(0, format!("Connected in {}, {EACH} messages each way in order; no server of any kind", ms(met))))
}
