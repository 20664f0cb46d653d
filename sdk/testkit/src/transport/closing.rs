use std::sync::Arc;

use byway_api::{Bytes, CloseCode, Connection, Received, TransportError, TransportErrorKind};

use super::bounds::fill;
use super::fixture::{Pair, TransportFixture};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// What was sent before `close` arrives, then the end.
pub async fn what_was_sent_before_close_arrives(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        let frames: Vec<Vec<u8>> = (1..=64).map(|number| vec![number; 1_000]).collect();
        for frame in &frames {
            pair.send(&*near, frame.clone()).await?;
        }
        within(pair.limits.patience, "closing a connection", near.close(CloseCode::NORMAL)).await?;
        for (number, frame) in frames.iter().enumerate() {
            let arrived = pair.expect(&*far, frame).await;
            arrived.map_err(|e| Broken::new(format!("frame {number} of 64 that were sent before close: {e}")))?;
        }
        let end = pair.recv(&*far, "the end").await?;
        ensure!(matches!(end, Received::Closed(_)), "after the last frame comes {end:?}");
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// The far side learns the code of the first `close`, whatever the code is and whichever side closes.
pub async fn the_close_code_arrives(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        for code in [CloseCode::NORMAL, CloseCode::SUPERSEDED, CloseCode::BLOCKED, CloseCode(4_242)] {
            let (near, far) = pair.connect().await?;
            let (closer, other) = if code.0 % 2 == 0 { (near, far) } else { (far, near) };
            within(pair.limits.patience, "closing a connection", closer.close(code)).await?;
            within(pair.limits.patience, "closing a connection again", closer.close(CloseCode::PROTOCOL)).await?;
            let end = pair.recv(&*other, "the end").await?;
            ensure!(end == Received::Closed(code), "closed with {code:?}, but the far side sees {end:?}");
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// After the end `send` fails with `Closed` and `recv` keeps yielding `Closed`, on both sides.
pub async fn after_close_nothing_is_sent(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        within(pair.limits.patience, "closing a connection", near.close(CloseCode::NORMAL)).await?;
        is_over(&pair, &*near, "the side that closed").await?;
        is_over(&pair, &*far, "the far side").await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

async fn is_over(pair: &Pair, on: &dyn Connection, side: &str) -> Result<(), Broken> {
    let code = pair.expect_end(on, &format!("the end at {side}")).await?;
    for _ in 0..2 {
        let again = pair.recv(on, &format!("the end again at {side}")).await?;
        ensure!(again == Received::Closed(code), "{side} saw Closed({code:?}), and then {again:?}");
        let sent = within(pair.limits.patience, "the failure of a send", on.send(Bytes::from_static(b"late"))).await?;
        let kind = sent.as_ref().map_err(TransportError::kind).err();
        ensure!(kind == Some(TransportErrorKind::Closed), "after the end a send at {side} gave {sent:?}, not Closed");
    }
    Ok(())
}

/// `close` ends a `recv` and a `send` that are waiting on the same connection.
pub async fn close_ends_waiting_calls(fixture: &TransportFixture) -> Verdict {
    let frame = Bytes::from(vec![0xa5; 16 << 10]);
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        let bound = pair.limits.buffered_bytes / frame.len();
        let (_, waiting) = fill(&pair, &*near, &frame, bound).await?;
        let sending = async {
            match waiting {
                Some(waiting) => within(pair.limits.patience, "the end of a send that waits", waiting).await.map(Some),
                None => Ok(None),
            }
        };
        let receiving = pair.recv(&*near, "the end of a recv that waits");
        let closing = within(pair.limits.patience, "closing a full connection", near.close(CloseCode::NORMAL));
        let (sent, received, ()) = tokio::try_join!(sending, receiving, closing)?;
        ensure!(matches!(received, Received::Closed(_)), "closed, but a waiting recv yields {received:?}");
        let kind = sent.map(|sent| sent.map_err(|e| e.kind()));
        ensure!(
            kind.is_none_or(|kind| matches!(kind, Ok(()) | Err(TransportErrorKind::Closed))),
            "closed, but a waiting send ended with {kind:?}"
        );
        drop(far);
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Dropping the last handle, and not an earlier one, closes with `LOST`.
pub async fn dropping_the_last_handle_closes(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        drop(Arc::clone(&near));
        pair.exchange(&*near, &*far).await?;
        drop(near);
        let code = pair.expect_end(&*far, "the end after the far side's last handle was dropped").await?;
        ensure!(code == CloseCode::LOST, "the last handle was dropped, and the far side sees {code:?}, not LOST");
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// After `Endpoint::close`, which may be called again, `next` yields `None` for ever, the one that
/// waits too, and `dial` fails with `Closed`.
pub async fn closing_an_endpoint_is_final(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let endpoint = &pair.near.endpoint;
        let waiting = async {
            while endpoint.next().await.is_some() {}
            Ok(())
        };
        let waiting = async { within(pair.limits.patience, "None from a next that waits", waiting).await? };
        let closing = within(pair.limits.patience, "closing an endpoint", endpoint.close());
        tokio::try_join!(waiting, closing)?;
        within(pair.limits.patience, "closing an endpoint again", endpoint.close()).await?;
        for _ in 0..3 {
            let next = within(pair.limits.patience, "None from next", endpoint.next()).await?;
            ensure!(next.is_none(), "the endpoint is closed, and next yields {next:?}");
        }
        let dial = endpoint.dial(pair.far.peer, &pair.far.address);
        let dialled = within(pair.limits.patience, "the failure of a dial", dial).await?;
        let kind = dialled.as_ref().map_err(TransportError::kind).err();
        ensure!(kind == Some(TransportErrorKind::Closed), "a dial of a closed endpoint gave {dialled:?}, not Closed");
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// `Endpoint::close` ends every connection of the endpoint, dialled, accepted and still waiting, and
/// the far sides notice.
pub async fn closing_an_endpoint_ends_its_connections(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let others = pair.newcomers(fixture, 2).await?;
        let [second, third] = &others[..] else { return Err(Broken::new("two devices were bound")) };
        let (dialled, far_of_dialled) = pair.connect().await?;
        let (far_of_accepted, accepted) =
            tokio::try_join!(second.dial(&pair.near, &pair.limits), pair.near.accept(&pair.limits))?;
        let far_of_waiting = third.dial(&pair.near, &pair.limits).await?;
        within(pair.limits.patience, "closing an endpoint", pair.near.endpoint.close()).await?;
        is_over(&pair, &*dialled, "a connection that a closed endpoint dialled").await?;
        is_over(&pair, &*accepted, "a connection that a closed endpoint accepted").await?;
        for far in [far_of_dialled, far_of_accepted, far_of_waiting] {
            is_over(&pair, &*far, "the far side of a closed endpoint").await?;
        }
        tokio::join!(second.endpoint.close(), third.endpoint.close());
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// When `Endpoint::close` has returned, no tokio task is left of the endpoint or its connections.
pub async fn no_task_is_left(fixture: &TransportFixture) -> Verdict {
    /// A task that has just ended may still be counted for a moment.
    const TURNS: usize = 100;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        pair.exchange(&*near, &*far).await?;
        let dropped = pair.connect().await?;
        drop(dropped);
        pair.close().await?;
    }
    for _ in 0..TURNS {
        if tasks() > before {
            tokio::task::yield_now().await;
        }
    }
    let left = tasks().saturating_sub(before);
    ensure!(left == 0, "both endpoints are closed, and {left} tasks are left");
    Ok(Outcome::Kept)
}
