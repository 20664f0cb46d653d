//! The scenarios, in their order.

mod cold_restart;
mod crashes;
mod echo_bot;
mod first_contact;
mod hostile;
mod invite;
mod lan;
mod libp2p;
mod member_list;
mod mutual_neighbour;
mod offline;
mod registry_offline;
mod relay;
mod reuse;
mod stores;
mod upgrade;

use futures_util::future::BoxFuture;

use crate::report::{Finding, Result};
use crate::stage::Stage;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub title: &'static str,
    /// What it shows and why that matters.
    pub why: &'static str,
    /// Plays it.
    pub play: for<'a> fn(&'a mut Stage) -> BoxFuture<'a, Result<Finding>>,
}

/// All of them.
pub const ALL: &[&Scenario] = &[
    &first_contact::FIRST,
    &first_contact::SECOND,
    &mutual_neighbour::SCENARIO,
    &cold_restart::SCENARIO,
    &registry_offline::SCENARIO,
    &reuse::SCENARIO,
    &relay::SCENARIO,
    &upgrade::SCENARIO,
    &offline::SCENARIO,
    &crashes::SENDER,
    &crashes::RECIPIENT,
    &member_list::SCENARIO,
    &hostile::SCENARIO,
    &invite::SCENARIO,
    &lan::SCENARIO,
    &libp2p::SCENARIO,
    &stores::SCENARIO,
    &echo_bot::SCENARIO,
];

/// `a` and `b`, announced at a registry and connected.
async fn met(stage: &mut Stage, a: &crate::stage::Plan, b: &crate::stage::Plan) -> Result<[crate::child::Person; 2]> {
    stage.start_registry().await?;
    let a = stage.start_announced(a).await?;
    let b = stage.start_announced(b).await?;
    a.connect(b.name()).await?;
    a.until_sees(b.name(), "🟢", "webrtc").await?;
    b.until_sees(a.name(), "🟢", "webrtc").await?;
    stage.narrator.fact(format!("{} and {} are connected over WebRTC", a.name(), b.name()));
    Ok([a, b])
}
