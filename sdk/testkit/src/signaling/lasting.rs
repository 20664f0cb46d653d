use super::stage::{Stage, directions, mail};
use super::world::SignalFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

fn no_outage() -> Outcome {
    Outcome::Skipped("this world has no outages".to_owned())
}

fn no_count() -> Outcome {
    Outcome::Skipped("this world does not count calls".to_owned())
}

/// `attach` returns while nothing can be reached, and the carrier connects once it can.
pub async fn attach_does_not_wait(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        if !stage.world.cut().await {
            return Ok(no_outage());
        }
        let parties = [(near, stage.newcomer(near, u64::MAX).await), (far, stage.newcomer(far, u64::MAX).await)];
        for (n, party) in &parties {
            let attach = party.carrier.attach(party.context(&stage, *n));
            let attached = within(stage.limits.prompt, "attach during an outage", attach).await?;
            attached.map_err(|e| Broken::new(format!("attach failed because of an outage: {e}")))?;
        }
        stage.world.restore().await;
        let [(_, near), (_, far)] = parties;
        stage.settle(&near, &far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// After an outage both sides are there again without being told.
pub async fn it_reconnects_by_itself(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        if !stage.world.cut().await {
            return Ok(no_outage());
        }
        let sent = stage.try_send(&near, &stage.world.address(far.peer), &mail(far.peer, b"into the void")).await?;
        ensure!(sent.is_err(), "the world is cut, and send says that an envelope was taken");
        stage.world.restore().await;
        stage.settle(&near, &far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// A change of network is survived, also one in the middle of everything.
pub async fn a_network_change_does_no_harm(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        for _ in 0..2 {
            for party in [&near, &far] {
                within(stage.limits.patience, "network_changed", party.carrier.network_changed()).await?;
            }
        }
        stage.settle(&near, &far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// Each call that costs is allowed by the meter first, those of a reconnect as well.
pub async fn every_call_is_paid_for(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let Some(calls) = stage.world.calls() else { return Ok(no_count()) };
        if calls == 0 {
            return Ok(Outcome::Skipped("the carriers make no calls that cost".to_owned()));
        }
        let paid = |stage: &Stage| {
            let (calls, spent) = (stage.world.calls().unwrap_or(0), near.meter.spent() + far.meter.spent());
            ensure!(calls <= spent, "{calls} calls were made, and the meter was asked for {spent}");
            Ok(())
        };
        paid(&stage)?;
        if stage.world.cut().await {
            let before = stage.world.calls();
            stage.world.restore().await;
            stage.until("a call after an outage", || stage.world.calls() > before).await?;
            paid(&stage)?;
        }
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// While the meter refuses, no call is made; when it allows again, the carrier connects.
pub async fn an_empty_meter_stops_every_call(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        if stage.world.calls().is_none() {
            return Ok(no_count());
        }
        let parties = [(near, stage.newcomer(near, 0).await), (far, stage.newcomer(far, 0).await)];
        for (n, party) in &parties {
            stage.attach(*n, party).await?;
        }
        let [(_, near), (_, far)] = parties;
        tokio::time::sleep(stage.limits.quiet).await;
        let sent = stage.try_send(&near, &stage.world.address(far.peer), &mail(far.peer, b"unpaid")).await?;
        let calls = stage.world.calls().unwrap_or(0);
        ensure!(calls == 0, "the meter refused, and {calls} calls were made; send gave {sent:?}");
        near.meter.fill();
        far.meter.fill();
        stage.settle(&near, &far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}
