use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use byway_api::{Handoff, RelayError, RelayErrorKind, Sealed};

use super::carrier::{Answer, ScriptedCarrier};
use super::fixture::{HOUR, RelayFixture, mail, must, peer};
use crate::promise::{Outcome, Verdict, ensure, within};

fn ours(fixture: &dyn RelayFixture, length: usize) -> Sealed {
    mail(peer(2), 7, length, fixture.now().plus(HOUR))
}

/// An envelope goes to the hop that was named, as it is, one time.
pub async fn forward_hands_over_once_and_unchanged(fixture: &dyn RelayFixture) -> Verdict {
    let relay = fixture.open();
    for length in [4, 200, 60_000] {
        let (carrier, sent) = (ScriptedCarrier::new(Answer::Taken(Handoff::Forwarded)), ours(fixture, length));
        let forward = relay.forward(&carrier, peer(3), sent.clone());
        must("forward", within(fixture.limits().patience, "forward", forward).await?)?;
        let handed = carrier.handed();
        ensure!(handed.len() == 1, "one envelope was forwarded, and {} were handed over", handed.len());
        ensure!(handed[0].0 == peer(3), "{:?} was the hop, and {:?} was given the envelope", peer(3), handed[0].0);
        ensure!(handed[0].1 == sent, "{sent:?} was forwarded, and {:?} was handed over", handed[0].1);
    }
    Ok(Outcome::Kept)
}

/// What the hop answers is what `forward` answers.
pub async fn forward_returns_the_hops_answer(fixture: &dyn RelayFixture) -> Verdict {
    let relay = fixture.open();
    for handoff in [Handoff::Forwarded, Handoff::Stored] {
        let carrier = ScriptedCarrier::new(Answer::Taken(handoff));
        let forward = relay.forward(&carrier, peer(3), ours(fixture, 200));
        let answer = must("forward", within(fixture.limits().patience, "forward", forward).await?)?;
        ensure!(answer == handoff, "the hop said {handoff:?}, and forward says {answer:?}");
    }
    Ok(Outcome::Kept)
}

/// A refusal keeps its kind, and so the advice whether to retry; it is not tried again.
pub async fn forward_reports_a_refusal_as_it_is(fixture: &dyn RelayFixture) -> Verdict {
    use RelayErrorKind::{Busy, Closed, LocalFault, NotConnected, NotNeighbour, Quota, Timeout, TooLarge};
    let relay = fixture.open();
    for kind in [NotNeighbour, Busy, NotConnected, Quota, TooLarge, Timeout, Closed, LocalFault] {
        let carrier = ScriptedCarrier::new(Answer::Refused(kind));
        let forward = relay.forward(&carrier, peer(3), ours(fixture, 200));
        let answer = within(fixture.limits().patience, "forward", forward).await?;
        let said = answer.as_ref().map_err(RelayError::kind);
        ensure!(said == Err(kind), "the carrier said {kind:?}, and forward says {said:?}");
        let times = carrier.handed().len();
        ensure!(times == 1, "a refused envelope was handed over {times} times");
    }
    Ok(Outcome::Kept)
}

/// Dropping `forward` drops the hand-over, and leaves no task.
pub async fn a_dropped_forward_stops(fixture: &dyn RelayFixture) -> Verdict {
    let relay = fixture.open();
    let before = tasks();
    for polls in [1, 2, 5] {
        let carrier = ScriptedCarrier::new(Answer::Never);
        {
            let mut forward = relay.forward(&carrier, peer(3), ours(fixture, 200));
            for _ in 0..polls {
                let over = poll_once(forward.as_mut()).await;
                ensure!(over.is_none(), "the hop says nothing, and forward says {over:?}");
                tokio::task::yield_now().await;
            }
        }
        let waiting = carrier.waiting();
        ensure!(waiting == 0, "forward was dropped, and {waiting} calls of the carrier go on");
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let after = tasks();
    ensure!(after <= before, "forward was dropped, and {} more tasks run than before", after - before);
    Ok(Outcome::Kept)
}

/// A hop that does not answer holds up neither another forward nor an admission.
pub async fn forwards_run_at_once(fixture: &dyn RelayFixture) -> Verdict {
    let relay = fixture.open();
    let (silent, lively) =
        (ScriptedCarrier::new(Answer::Never), ScriptedCarrier::new(Answer::Taken(Handoff::Forwarded)));
    let mut stuck = pin!(relay.forward(&silent, peer(3), ours(fixture, 200)));
    let over = poll_once(stuck.as_mut()).await;
    ensure!(over.is_none(), "the hop says nothing, and forward says {over:?}");
    if let Some((from, mail)) = fixture.admitted() {
        // what it decides is another promise; it must only come back
        let _verdict = relay.admit(from, &mail);
    }
    let forward = relay.forward(&lively, peer(4), ours(fixture, 200));
    let answer = within(fixture.limits().patience, "a forward while another one waits", forward).await?;
    must("a forward while another one waits", answer)?;
    Ok(Outcome::Kept)
}

/// What the future yields if it is polled now.
async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
