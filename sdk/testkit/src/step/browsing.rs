use std::collections::BTreeSet;

use byway_api::PeerId;

use super::finding::find;
use super::world::StepFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// A browser reports every member that there is to see, and nobody else.
pub async fn browsing_reports_the_members(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let Some(members) = &world.members else {
        return Ok(Outcome::Skipped("the fixture does not say whom the step sees".to_owned()));
    };
    let expected: BTreeSet<PeerId> = members.iter().copied().collect();
    let limits = fixture.limits();
    let sightings = world.script.sightings();
    let seen = || sightings.reported().into_iter().map(|route| route.peer).collect::<BTreeSet<_>>();
    // A browser may run for ever: until it has seen them all, and then for a moment in which it could
    // see too many.
    let browsing = async {
        if let Err(e) = world.step.browse(&sightings).await {
            return Err(Broken::new(format!("browse failed: {e}")));
        }
        std::future::pending().await
    };
    let all_seen = async {
        while !seen().is_superset(&expected) {
            sightings.another().await;
        }
        tokio::time::sleep(limits.quiet).await;
    };
    tokio::select! {
        failed = browsing => return failed,
        _ = tokio::time::timeout(limits.patience, all_seen) => {}
    }
    let seen = seen();
    ensure!(seen == expected, "the members are {expected:?}, and browse reports {seen:?}");
    Ok(Outcome::Kept)
}

/// After `Break` a browser reports nothing more, and returns.
pub async fn browsing_stops_on_break(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let limits = fixture.limits();
    let sightings = world.script.clone().breaking_after(1).sightings();
    let browsing = tokio::time::timeout(limits.patience, world.step.browse(&sightings)).await;
    if sightings.reported().is_empty() {
        let nothing = "the step sees nobody unasked".to_owned();
        return match browsing {
            Ok(Err(e)) => Err(Broken::new(format!("browse failed: {e}"))),
            _ => Ok(Outcome::Skipped(nothing)),
        };
    }
    let late = sightings.reported_after_break();
    ensure!(late == 0, "seen said Break at the first sighting, and {late} more were reported");
    ensure!(browsing.is_ok(), "seen said Break, and browse goes on");
    Ok(Outcome::Kept)
}

/// Announcing the same again changes nothing, and neither does leaving twice.
pub async fn announcing_again_is_harmless(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    let Some(me) = &world.announcement else {
        return Ok(Outcome::Skipped("the fixture has nothing to announce".to_owned()));
    };
    let view = world.script.sightings();
    let mut leaving = me.clone();
    leaving.leaving = true;
    let found_before = devices_found(fixture, &world).await?;
    for (what, announcement) in
        [("announcing", me), ("announcing again", me), ("leaving", &leaving), ("leaving again", &leaving)]
    {
        let announced = world.step.announce(announcement, view.scripted_meter());
        let ended = within(fixture.limits().patience, what, announced).await?;
        ended.map_err(|e| Broken::new(format!("{what} failed: {e}")))?;
        let found = devices_found(fixture, &world).await?;
        ensure!(found == found_before, "{what} changed who is found from {found_before:?} to {found:?}");
    }
    Ok(Outcome::Kept)
}

async fn devices_found(fixture: &dyn StepFixture, world: &super::World) -> Result<BTreeSet<PeerId>, Broken> {
    let lookup = find(fixture, world, &world.script, &world.known).await?;
    Ok(lookup.reported().into_iter().map(|route| route.peer).collect())
}
