use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use byway_api::{PeerId, Route, StepErrorKind, UserId};

use super::script::{Script, ScriptedLookup};
use super::world::{StepFixture, World};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// The name is a short constant.
pub async fn the_name_is_constant(fixture: &dyn StepFixture) -> Verdict {
    const SHORT: usize = 32;
    let (a, b) = (fixture.world().await, fixture.world().await);
    let name = a.step.name();
    ensure!((1..=SHORT).contains(&name.len()), "{name:?} is not a short name");
    ensure!(name == a.step.name() && name == b.step.name(), "the name changes: {name:?} and {:?}", b.step.name());
    ensure!(a.step.cost() == b.step.cost(), "the cost changes");
    Ok(Outcome::Kept)
}

/// A user of whom the source knows is found, with exactly his devices.
pub async fn a_known_user_is_found(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    for _ in 0..2 {
        let lookup = find(fixture, &world, &world.script, &world.known).await?;
        has_found(&world, &lookup)?;
    }
    Ok(Outcome::Kept)
}

/// Finding nothing is `Ok`.
pub async fn finding_nothing_is_ok(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let lookup = find(fixture, &world, &world.script, &world.stranger).await?;
    let reported = lookup.reported();
    ensure!(reported.is_empty(), "nobody knows {}, and these routes were reported: {reported:?}", world.stranger);
    Ok(Outcome::Kept)
}

/// Only devices of the sought user are reported, by addresses that say how to get there.
pub async fn only_the_sought_user_is_reported(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let lookup = find(fixture, &world, &world.script, &world.known).await?;
    for Route { peer, address, .. } in lookup.reported() {
        ensure!(world.devices.contains(&peer), "{peer} at {address} is no device of {}", world.known);
        let at_another = address.socket_parts().is_some_and(|(_, named)| named != peer);
        ensure!(!at_another, "{address} leads to another device than {peer}");
        let readable = address.scheme() != "peer" || address.via().is_some();
        ensure!(readable, "{address} names no device to go through");
    }
    Ok(Outcome::Kept)
}

/// After `Break` the step reports nothing more, and returns.
pub async fn finding_stops_on_break(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    for bound in 1..=world.devices.len() {
        let script = world.script.clone().breaking_after(bound);
        let lookup = find(fixture, &world, &script, &world.known).await?;
        let late = lookup.reported_after_break();
        ensure!(late == 0, "found said Break at route {bound}, and {late} more were reported");
    }
    Ok(Outcome::Kept)
}

/// A `find` that is dropped at any point stops its work, and a later one finds.
pub async fn a_dropped_find_stops(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let limits = fixture.limits();
    let before = tasks();
    for polls in [1, 2, 3, 5] {
        let lookup = world.script.lookup(&world.known);
        let find = poll_at_most(polls, world.step.find(&lookup));
        within(limits.patience, "find", find).await?;
    }
    quiet(limits.quiet).await;
    let (calls, spent) = (world.calls(), tasks());
    quiet(limits.quiet).await;
    let later = world.calls();
    ensure!(later == calls, "find was dropped, and {} more calls were made", later - calls);
    ensure!(spent <= before, "find was dropped, and {} more tasks run than before", spent - before);
    let lookup = find(fixture, &world, &world.script, &world.known).await?;
    has_found(&world, &lookup)?;
    Ok(Outcome::Kept)
}

/// If what it draws on fails, the step ends in time, with an error or with nothing.
pub async fn a_dead_source_ends_in_time(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    if let Some(kill) = &world.kill {
        kill();
    }
    let script = world.script.clone().failing(StepErrorKind::Unreachable);
    for _ in 0..2 {
        let lookup = script.lookup(&world.known);
        // Whether it is an error or nothing is the step's choice: the ladder goes on either way.
        let _explained = within(fixture.limits().patience, "find with a dead source", world.step.find(&lookup)).await?;
        only_devices(&world, &lookup)?;
    }
    Ok(Outcome::Kept)
}

/// The same step seeks several users at once and does not mix them up.
pub async fn users_are_sought_at_once(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let (known, stranger) = (&world.known, &world.stranger);
    let (first, second, nobody) = tokio::try_join!(
        find(fixture, &world, &world.script, known),
        find(fixture, &world, &world.script, known),
        find(fixture, &world, &world.script, stranger),
    )?;
    has_found(&world, &first)?;
    has_found(&world, &second)?;
    let mixed = nobody.reported();
    ensure!(mixed.is_empty(), "while {known} was sought too, these were reported for {stranger}: {mixed:?}");
    Ok(Outcome::Kept)
}

/// Runs `find` to its end.
pub(super) async fn find(
    fixture: &dyn StepFixture,
    world: &World,
    script: &Script,
    user: &UserId,
) -> Result<ScriptedLookup, Broken> {
    let lookup = script.lookup(user);
    let ended = within(fixture.limits().patience, "find", world.step.find(&lookup)).await?;
    ended.map_err(|e| Broken::new(format!("find({user}) failed: {e}")))?;
    Ok(lookup)
}

fn has_found(world: &World, lookup: &ScriptedLookup) -> Result<(), Broken> {
    let reported = lookup.reported();
    let missing: Vec<&PeerId> =
        world.devices.iter().filter(|device| !reported.iter().any(|route| route.peer == **device)).collect();
    ensure!(missing.is_empty(), "{} has the devices {missing:?}, which were not reported", world.known);
    Ok(())
}

fn only_devices(world: &World, lookup: &ScriptedLookup) -> Result<(), Broken> {
    let reported = lookup.reported();
    let foreign = reported.iter().find(|route| !world.devices.contains(&route.peer));
    ensure!(foreign.is_none(), "{foreign:?} is no device of {}", world.known);
    Ok(())
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// The time after which nothing more is expected to happen.
async fn quiet(period: Duration) {
    tokio::time::sleep(period).await;
}

/// Polls a future at most so often, and then drops it.
async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        left -= 1;
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
