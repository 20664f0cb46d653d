use byway_api::{Cost, StepErrorKind};

use super::world::{StepFixture, World};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

fn skipped(world: &World) -> Option<Outcome> {
    if world.step.cost() != Cost::Metered {
        return Some(Outcome::Skipped("the step is free".to_owned()));
    }
    world.calls.is_none().then(|| Outcome::Skipped("the fixture counts no calls".to_owned()))
}

/// Without a token a metered step makes no call, and says so or finds nothing.
pub async fn an_empty_meter_stops_every_call(fixture: &dyn StepFixture) -> Verdict {
    use StepErrorKind::{KnownDown, NoBudget};
    let world = fixture.world().await;
    if let Some(skipped) = skipped(&world) {
        return Ok(skipped);
    }
    let limits = fixture.limits();
    let script = world.script.clone().with_tokens(0);
    let before = world.calls();

    let lookup = script.lookup(&world.known);
    let found = within(limits.patience, "find without a token", world.step.find(&lookup)).await?;
    let sightings = script.sightings();
    // A browser may run for ever; without a token it has nothing to do.
    let browsed = tokio::time::timeout(limits.quiet, world.step.browse(&sightings)).await.unwrap_or(Ok(()));
    let announced = match &world.announcement {
        Some(me) => {
            let announced = world.step.announce(me, sightings_meter(&sightings));
            within(limits.patience, "announce without a token", announced).await?
        }
        None => Ok(()),
    };

    let calls = world.calls() - before;
    ensure!(calls == 0, "the meter was empty, and {calls} calls were made");
    for (what, ended) in [("find", found), ("browse", browsed), ("announce", announced)] {
        if let Err(e) = ended {
            let right = matches!(e.kind(), NoBudget | KnownDown);
            ensure!(right, "the meter was empty, and {what} says: {e}");
        }
    }
    Ok(Outcome::Kept)
}

/// A metered step spends a token before each call.
pub async fn every_call_is_paid_for(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    if let Some(skipped) = skipped(&world) {
        return Ok(skipped);
    }
    let limits = fixture.limits();
    let paid = |what: &str, spent: usize, before: u64| -> Result<(), Broken> {
        let calls = world.calls() - before;
        let spent = u64::try_from(spent).unwrap_or(u64::MAX);
        ensure!(calls <= spent, "{what} made {calls} calls and spent {spent} tokens");
        Ok(())
    };

    let before = world.calls();
    let lookup = world.script.lookup(&world.known);
    let found = within(limits.patience, "find", world.step.find(&lookup)).await?;
    found.map_err(|e| Broken::new(format!("find failed: {e}")))?;
    paid("find", lookup.scripted_meter().spent().len(), before)?;

    let before = world.calls();
    let sightings = world.script.sightings();
    let _may_run_for_ever = tokio::time::timeout(limits.quiet, world.step.browse(&sightings)).await;
    paid("browse", sightings.scripted_meter().spent().len(), before)?;

    if let Some(me) = &world.announcement {
        let before = world.calls();
        let view = world.script.sightings();
        let announced = within(limits.patience, "announce", world.step.announce(me, sightings_meter(&view))).await?;
        announced.map_err(|e| Broken::new(format!("announce failed: {e}")))?;
        paid("announce", view.scripted_meter().spent().len(), before)?;
    }
    Ok(Outcome::Kept)
}

/// A step that calls itself free takes no token.
pub async fn a_free_step_spends_nothing(fixture: &dyn StepFixture) -> Verdict {
    let world = fixture.world().await;
    if world.step.cost() != Cost::Free {
        return Ok(Outcome::Skipped("the step is metered".to_owned()));
    }
    let limits = fixture.limits();
    let lookup = world.script.lookup(&world.known);
    let _explained = within(limits.patience, "find", world.step.find(&lookup)).await?;
    let sightings = world.script.sightings();
    let _may_run_for_ever = tokio::time::timeout(limits.quiet, world.step.browse(&sightings)).await;
    let mut spent = lookup.scripted_meter().spent();
    spent.extend(sightings.scripted_meter().spent());
    if let Some(me) = &world.announcement {
        let view = world.script.sightings();
        let _explained = within(limits.patience, "announce", world.step.announce(me, sightings_meter(&view))).await?;
        spent.extend(view.scripted_meter().spent());
    }
    ensure!(spent.is_empty(), "the step is free, and spent tokens on {spent:?}");
    Ok(Outcome::Kept)
}

fn sightings_meter(view: &super::ScriptedSightings) -> &dyn byway_api::Meter {
    view.scripted_meter()
}
