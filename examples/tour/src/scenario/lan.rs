//! Two members on a LAN find each other by themselves.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lan",
    title: "No registry, no invite: the LAN",
    why: "Alice and Bob know nothing of each other but that they are in the same network. Each says by multicast \
          DNS where it is, encrypted for that network, and hears the other. Whoever leaves says goodbye.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    // Nobody else on this machine speaks mDNS there: its own responder, and a second tour, have other ports.
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    stage.narrator.fact(format!("mDNS on the loopback only, port {port} in place of 5353"));
    let alice = stage.start(&Plan::without_registry("alice").listening().on_lan(port)).await?;
    let bob = stage.start(&Plan::without_registry("bob").listening().on_lan(port)).await?;
    let since = Instant::now();
    alice.until_sees("bob", "🟢", "webrtc").await?;
    let met = since.elapsed();
    stage.narrator.fact(format!("they are connected {} after Bob was ready; neither has sent anything", ms(met)));
    bob.until_sees("alice", "🟢", "webrtc").await?;
    let id = alice.send("bob", "is anybody here?").await?;
    alice.wait_delivered(&id).await?;
    bob.message("is anybody here?").await?;

    stage.narrator.say("Both go home. The next day Bob is back first; then Alice is, and writes to him at once.");
    bob.stop().await?;
    alice.stop().await?;
    let bob = stage.start(&Plan::without_registry("bob").listening().on_lan(port)).await?;
    let alice = stage.start(&Plan::without_registry("alice").listening().on_lan(port)).await?;
    let since = Instant::now();
    let id = alice.send("bob", "here again").await?;
    alice.wait_delivered(&id).await?;
    let again = since.elapsed();
    bob.message("here again").await?;
    for person in [&alice, &bob] {
        let calls = person.metrics().await?.registry_calls;
        ensure!(calls == 0, "{} has counted {calls} calls to a registry that is not there", person.name());
    }
    let detail = format!("Connected in {}, after a restart delivered in {}; there is no registry", ms(met), ms(again));
    Ok(Finding::new(0, detail))
}
