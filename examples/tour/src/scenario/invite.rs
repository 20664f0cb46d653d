//! Two members meet with no server at all.

use std::time::Instant;

use super::Scenario;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{Plan, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "invite",
    title: "No registry at all: an invite",
    why: "Bob serves a listener and gives Alice a text, by mail or as a QR code. It is his signed record: whoever \
          alters it makes it useless. There is no server anywhere.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let bob = stage.start(&Plan::without_registry("bob").listening()).await?;
    let invite = bob.invite().await?;
    let shown: String = invite.chars().take(44).collect();
    stage.narrator.fact(format!("Bob's invite: {shown}… ({} characters)", invite.len()));
    let alice = stage.start(&Plan::without_registry("alice").invited(&invite)).await?;
    let since = Instant::now();
    let id = alice.send("bob", "I have your invite").await?;
    alice.wait_delivered(&id).await?;
    let took = since.elapsed();
    bob.message("I have your invite").await?;
    stage.narrator.quote(alice.explain("bob").await?.unwrap_or_default());
    let answer = bob.send("alice", "welcome").await?;
    bob.wait_delivered(&answer).await?;
    alice.message("welcome").await?;
    Ok(Finding::new(0, format!("Delivered {} after send, and answered; there is no registry", ms(took))))
}
