use byway_api::TransportErrorKind;

use super::fixture::TransportFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure, within};
use crate::signals::Fate;

fn not_needed() -> Outcome {
    Outcome::Skipped("the transport needs no signalling".to_owned())
}

/// If every signal is lost the dial fails in time, and the next one works.
pub async fn lost_signals_fail_the_dial_in_time(fixture: &TransportFixture) -> Verdict {
    use TransportErrorKind::{Signaling, Timeout};
    if !fixture.caps().needs_signaling {
        return Ok(not_needed());
    }
    for pair in fixture.pairs().await? {
        pair.signals.decide(|_, _, _| Fate::Lost);
        let dial = pair.near.endpoint.dial(pair.far.peer, &pair.far.address);
        match within(pair.limits.patience, "the end of a dial whose signals are lost", dial).await? {
            Err(e) if matches!(e.kind(), Timeout | Signaling) => {}
            other => return Err(Broken::new(format!("all signals were lost, and the dial gave {other:?}"))),
        }
        pair.signals.decide(|_, _, _| Fate::Arrives);
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Signals that arrive twice make one connection.
pub async fn repeated_signals_do_no_harm(fixture: &TransportFixture) -> Verdict {
    if !fixture.caps().needs_signaling {
        return Ok(not_needed());
    }
    for pair in fixture.pairs().await? {
        pair.signals.decide(|_, _, _| Fate::Twice);
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        let second = pair.far.accept_if_any(&pair.limits).await;
        ensure!(second.is_none(), "one dial whose signals arrived twice made two connections");
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A dial works over signals that take their time.
pub async fn late_signals_do_no_harm(fixture: &TransportFixture) -> Verdict {
    if !fixture.caps().needs_signaling {
        return Ok(not_needed());
    }
    for pair in fixture.pairs().await? {
        let delay = pair.limits.quiet / 2;
        pair.signals.decide(move |_, _, _| Fate::Late(delay));
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}
