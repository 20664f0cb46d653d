use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use byway_api::{CloseCode, Connection, Incoming, Received, SignalAddress, TransportError, TransportErrorKind};
use tokio::task::JoinSet;

use super::fixture::{Side, TransportFixture};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// `dial` and `next` give the two ends of one connection, and frames go both ways.
pub async fn dial_and_accept(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A transport that is dialled directly has addresses of its own scheme; one that needs signalling has none.
pub async fn addresses_are_its_own(fixture: &TransportFixture) -> Verdict {
    for (pair, transport) in fixture.pairs().await?.into_iter().zip(fixture.transports()) {
        let addresses = pair.near.endpoint.addresses();
        if transport.caps().needs_signaling {
            ensure!(addresses.is_empty(), "it needs signalling and yet has the addresses {addresses:?}");
        } else {
            let foreign = addresses.iter().find(|a| a.scheme() != transport.name());
            ensure!(foreign.is_none(), "{foreign:?} does not begin with {}:", transport.name());
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A dial to a device that is gone, or was never there, fails in time and blames the right side.
pub async fn dialling_nobody_fails_in_time(fixture: &TransportFixture) -> Verdict {
    use TransportErrorKind::{Closed, LocalFault, Superseded, TooLarge};
    for pair in fixture.pairs().await? {
        pair.far.endpoint.close().await;
        let dial = pair.near.endpoint.dial(pair.far.peer, &pair.far.address);
        match within(pair.limits.patience, "the end of a dial to a closed endpoint", dial).await? {
            Ok(connection) => return Err(Broken::new(format!("a dial to a closed endpoint gave {connection:?}"))),
            Err(e) if matches!(e.kind(), Closed | LocalFault | Superseded | TooLarge) => {
                return Err(Broken::new(format!("nobody is there, but the dial says: {e}")));
            }
            Err(_) => {}
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// An address that the transport does not understand is a `BadAddress`.
pub async fn an_unknown_address_is_refused(fixture: &TransportFixture) -> Verdict {
    let nonsense = SignalAddress::new("no-such-transport:7").map_err(|e| Broken::new(e.to_string()))?;
    for pair in fixture.pairs().await? {
        let dial = pair.near.endpoint.dial(pair.far.peer, &nonsense);
        let dialled = within(pair.limits.patience, "the end of a dial to nonsense", dial).await?;
        let kind = dialled.as_ref().map_err(TransportError::kind).err();
        ensure!(kind == Some(TransportErrorKind::BadAddress), "dial({nonsense}) gave {dialled:?}, not BadAddress");
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A dial that is dropped at any point leaves no connection open on either side, and does not
/// stand in the way of the next dial.
pub async fn a_dropped_dial_leaves_nothing(fixture: &TransportFixture) -> Verdict {
    const POLLS: [usize; 4] = [1, 2, 3, 6];
    for pair in fixture.pairs().await? {
        let diallers = pair.newcomers(fixture, POLLS.len()).await?;
        for (polls, dialler) in POLLS.into_iter().zip(&diallers) {
            let dial = dialler.endpoint.dial(pair.far.peer, &pair.far.address);
            match within(pair.limits.patience, "the end of a dial", poll_at_most(polls, dial)).await? {
                None => {}
                Some(Ok(connection)) => connection.close(CloseCode::NORMAL).await,
                Some(Err(e)) => return Err(Broken::new(format!("dial failed: {e}"))),
            }
        }
        for side in [&pair.far].into_iter().chain(&diallers) {
            while let Some(ghost) = side.accept_if_any(&pair.limits).await {
                pair.expect_end(&*ghost, "the end of a connection whose dial was dropped").await?;
            }
        }
        for dialler in &diallers {
            let again = |e| Broken::new(format!("after a dropped dial: {e}"));
            let (near, far) = tokio::try_join!(dialler.dial(&pair.far, &pair.limits), pair.far.accept(&pair.limits))
                .map_err(again)?;
            pair.exchange(&*near, &*far).await.map_err(again)?;
        }
        close_all(&diallers).await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// No connection is lost if `next` is dropped and called again, even right after it was woken.
pub async fn next_is_cancel_safe(fixture: &TransportFixture) -> Verdict {
    const CONNECTIONS: usize = 6;
    for pair in fixture.pairs().await? {
        let diallers = pair.newcomers(fixture, CONNECTIONS).await?;
        let dialling = async {
            let mut dialled = Vec::new();
            for dialler in &diallers {
                dialled.push(dialler.dial(&pair.far, &pair.limits).await?);
            }
            Ok::<_, Broken>(dialled)
        };
        let accepting = async {
            let mut accepted = Vec::new();
            while accepted.len() < CONNECTIONS {
                if let Some(Some(Incoming::Connection(connection))) = poll_once_and_hold(pair.far.endpoint.next()).await
                {
                    accepted.push(connection);
                }
            }
            accepted
        };
        let accepting = within(pair.limits.patience, "all connections out of a next that is often dropped", accepting);
        let (dialled, accepted) = tokio::try_join!(dialling, accepting)?;
        drop((dialled, accepted));
        close_all(&diallers).await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Connections that arrive while nobody awaits `next` wait, with their frames.
pub async fn accepted_connections_wait(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let diallers = pair.newcomers(fixture, 3).await?;
        let mut dialled = Vec::new();
        for (number, dialler) in (0..3u8).zip(&diallers) {
            let connection = dialler.dial(&pair.far, &pair.limits).await?;
            pair.send(&*connection, vec![number]).await?;
            dialled.push(connection);
        }
        let mut arrived = BTreeSet::new();
        for _ in 0..3 {
            let accepted = pair.far.accept(&pair.limits).await?;
            match pair.recv(&*accepted, "the frame of a connection that waited").await? {
                Received::Frame(frame) => arrived.insert(frame.to_vec()),
                other => return Err(Broken::new(format!("a connection that waited for next yields {other:?}"))),
            };
        }
        ensure!(arrived == BTreeSet::from([vec![0], vec![1], vec![2]]), "sent [0], [1] and [2], got {arrived:?}");
        close_all(&diallers).await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A bounded number of connections waits for `next`; the surplus is refused, and there is room again
/// once they are taken.
pub async fn the_accept_queue_is_bounded(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (mut diallers, mut dialled, mut refused) = (Vec::new(), Vec::new(), None);
        while refused.is_none() && dialled.len() <= pair.limits.accepted {
            let dialler = pair.newcomers(fixture, 1).await?.remove(0);
            let dial = dialler.endpoint.dial(pair.far.peer, &pair.far.address);
            match within(pair.limits.patience, "the end of a dial to a busy endpoint", dial).await? {
                Ok(connection) => dialled.push(connection),
                Err(e) => refused = Some(e),
            }
            diallers.push(dialler);
        }
        let mut accepted = Vec::new();
        while let Some(connection) = pair.far.accept_if_any(&pair.limits).await {
            accepted.push(connection);
        }
        ensure!(
            refused.is_some() || accepted.len() < dialled.len(),
            "{} connections wait for next, and none was refused",
            accepted.len()
        );
        drop((dialled, accepted));
        close_all(&diallers).await;
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// If both sides dial at once one connection results: one dial has it, the other ends with
/// `Superseded`, and there it comes out of `next`.
pub async fn crossing_dials_make_one_connection(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = (&pair.near, &pair.far);
        let (mut at_near, mut at_far) = (Vec::new(), Vec::new());
        let crossing = async {
            let dials =
                tokio::join!(near.endpoint.dial(far.peer, &far.address), far.endpoint.dial(near.peer, &near.address));
            tokio::time::sleep(pair.limits.quiet).await;
            dials
        };
        let dialled = tokio::select! {
            dialled = within(pair.limits.patience, "the end of two crossing dials", crossing) => dialled?,
            () = collect(near, &mut at_near) => return Err(Broken::new("next yielded None")),
            () = collect(far, &mut at_far) => return Err(Broken::new("next yielded None")),
        };
        let (winner, loser, at_winner, at_loser) = match dialled {
            (Ok(winner), Err(loser)) => (winner, loser, at_near, at_far),
            (Err(loser), Ok(winner)) => (winner, loser, at_far, at_near),
            both => return Err(Broken::new(format!("one of two crossing dials must win; they gave {both:?}"))),
        };
        let kind = loser.kind();
        ensure!(kind == TransportErrorKind::Superseded, "the losing dial says {kind:?}, not Superseded: {loser}");
        ensure!(at_winner.is_empty(), "{} connections came out of next where the dial won", at_winner.len());
        let [accepted] = &at_loser[..] else {
            return Err(Broken::new(format!("{} connections came out of next where the dial lost", at_loser.len())));
        };
        pair.exchange(&*winner, &**accepted).await?;
        drop((winner, at_loser));
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Many dials at once give as many connections, which do not mix up their frames.
pub async fn many_connections_in_parallel(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let wanted = pair.limits.parallel;
        let diallers = pair.newcomers(fixture, wanted).await?;
        let mut dials = JoinSet::new();
        for dialler in &diallers {
            let (endpoint, peer, to) = (Arc::clone(&dialler.endpoint), pair.far.peer, pair.far.address.clone());
            dials.spawn(async move { endpoint.dial(peer, &to).await });
        }
        let dialling = async {
            let mut dialled = Vec::new();
            while let Some(ended) = dials.join_next().await {
                let ended = ended.map_err(|e| Broken::new(format!("a dial panicked: {e}")))?;
                dialled.push(ended.map_err(|e| Broken::new(format!("one of {wanted} parallel dials failed: {e}")))?);
            }
            Ok(dialled)
        };
        let accepting = async {
            let mut accepted = Vec::new();
            for _ in 0..wanted {
                accepted.push(pair.far.accept(&pair.limits).await?);
            }
            Ok(accepted)
        };
        let dialling = async { within(pair.limits.patience, "the end of parallel dials", dialling).await? };
        let (dialled, accepted) = tokio::try_join!(dialling, accepting)?;
        for (number, near) in dialled.iter().enumerate() {
            pair.send(&**near, number.to_be_bytes().to_vec()).await?;
        }
        for far in &accepted {
            match pair.recv(&**far, "the number of a connection").await? {
                Received::Frame(number) => pair.send(&**far, number).await?,
                other => return Err(Broken::new(format!("one of {wanted} connections yields {other:?}"))),
            }
        }
        for (number, near) in dialled.iter().enumerate() {
            pair.expect(&**near, &number.to_be_bytes()).await?;
        }
        close_all(&diallers).await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Binding a transport twice makes two endpoints: closing one leaves the other as it was.
pub async fn binding_twice_makes_two_endpoints(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let others = pair.newcomers(fixture, 3).await?;
        let [closed, second, third] = &others[..] else { return Err(Broken::new("three devices were bound")) };
        let (open, open_far) = pair.connect().await?;
        within(pair.limits.patience, "closing an endpoint", closed.endpoint.close()).await?;
        let alive = |e| Broken::new(format!("another endpoint of the transport was closed: {e}"));
        pair.exchange(&*open, &*open_far).await.map_err(alive)?;
        for (from, to) in [(&pair.near, second), (third, &pair.near)] {
            let (dialled, accepted) =
                tokio::try_join!(from.dial(to, &pair.limits), to.accept(&pair.limits)).map_err(alive)?;
            pair.exchange(&*dialled, &*accepted).await.map_err(alive)?;
        }
        close_all(&others).await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

async fn close_all(sides: &[Side]) {
    for side in sides {
        side.endpoint.close().await;
    }
}

/// Takes connections out of `next` for as long as there are any.
async fn collect(side: &Side, arrived: &mut Vec<Arc<dyn Connection>>) {
    while let Some(incoming) = side.endpoint.next().await {
        if let Incoming::Connection(connection) = incoming {
            arrived.push(connection);
        }
    }
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

/// Polls a future once, holds it long enough to be woken, and drops it without another poll.
async fn poll_once_and_hold<T>(future: impl Future<Output = T>) -> Option<T> {
    const HELD: Duration = Duration::from_millis(1);
    let mut future = pin!(future);
    if let Poll::Ready(value) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Some(value);
    }
    tokio::time::sleep(HELD).await;
    None
}
