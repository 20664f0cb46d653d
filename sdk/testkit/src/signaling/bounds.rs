use byway_api::{Retry, SignalError, SignalErrorKind};
use byway_wire::limits::ENVELOPE_MAX;

use super::stage::{directions, mail, mail_of};
use super::world::SignalFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// An envelope of 60 KiB arrives.
pub async fn the_longest_envelope_arrives(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let longest = mail_of(far.peer, ENVELOPE_MAX);
        stage.send(&near, &stage.world.address(far.peer), &longest).await?;
        stage.expect(&far, &longest).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// A longer one is refused for good, and the carrier lives on.
pub async fn a_longer_envelope_is_refused(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let address = stage.world.address(far.peer);
        for length in [ENVELOPE_MAX + 1, ENVELOPE_MAX * 4] {
            let sent = stage.try_send(&near, &address, &mail_of(far.peer, length)).await?;
            let retry = sent.as_ref().map_err(SignalError::retry).err();
            ensure!(retry == Some(Retry::Never), "an envelope of {length} bytes was not refused for good: {sent:?}");
        }
        let good = mail(far.peer, b"after one that was too long");
        stage.send(&near, &address, &good).await?;
        stage.expect(&far, &good).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// While a device does not read, what is for it is refused with `Busy` after a bounded number; when it
/// reads again, so is it reached again.
pub async fn a_flood_is_refused_with_busy(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let address = stage.world.address(far.peer);
        let long = mail_of(far.peer, ENVELOPE_MAX);
        let mut taken = 0;
        loop {
            match stage.try_send(&near, &address, &long).await? {
                Ok(()) => taken += 1,
                Err(e) if e.kind() == SignalErrorKind::Busy => break,
                Err(e) => return Err(Broken::new(format!("a device that does not read is no reason for: {e}"))),
            }
            let most = stage.limits.waiting;
            ensure!(taken <= most, "{taken} envelopes of {ENVELOPE_MAX} bytes wait for a device that does not read");
        }
        let mut arrived = 0;
        while let Ok(next) = tokio::time::timeout(stage.limits.quiet, stage.recv(&far)).await {
            next?;
            arrived += 1;
        }
        ensure!(arrived > 0, "{taken} envelopes were taken for a device that did not read, and none arrived");
        stage.settle(&near, &far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}
