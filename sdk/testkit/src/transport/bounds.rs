use std::future::Future;
use std::pin::Pin;

use byway_api::{Bytes, Connection, Received, TransportError};

use super::fixture::{Pair, TransportFixture};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// A send that waits for room.
type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), TransportError>> + Send + 'a>>;

/// While nobody reads, `send` takes a bounded number of bytes and then waits; nothing is lost by it.
pub async fn send_waits_for_room(fixture: &TransportFixture) -> Verdict {
    let frame = Bytes::from(vec![0xa5; 16 << 10]);
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        let bound = pair.limits.buffered_bytes / frame.len();
        let (taken, waiting) = fill(&pair, &*near, &frame, bound).await?;
        let Some(waiting) = waiting else {
            return Err(Broken::new(format!("nobody reads, and {taken} frames of {} bytes were taken", frame.len())));
        };
        let reading = async {
            for number in 0..=taken {
                let got = pair.recv(&*far, "a frame that was waiting").await?;
                ensure!(got == Received::Frame(frame.clone()), "frame {number} of {taken} was changed");
            }
            Ok(())
        };
        let sending =
            async { waiting.await.map_err(|e| Broken::new(format!("a send that waited for room failed: {e}"))) };
        tokio::try_join!(sending, reading)?;
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Frames without bytes fill a queue too.
pub async fn empty_frames_are_bounded_too(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        let (taken, waiting) = fill(&pair, &*near, &Bytes::new(), pair.limits.buffered_frames).await?;
        ensure!(waiting.is_some(), "nobody reads, and {taken} empty frames were taken");
        drop((waiting, far));
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A connection whose far side does not read does not hold up another one.
pub async fn a_full_connection_does_not_stall_another(fixture: &TransportFixture) -> Verdict {
    let frame = Bytes::from(vec![0xa5; 16 << 10]);
    for pair in fixture.pairs().await? {
        let other = pair.newcomers(fixture, 1).await?.remove(0);
        let (unread, full) = tokio::try_join!(other.dial(&pair.far, &pair.limits), pair.far.accept(&pair.limits))?;
        let (near, far) = pair.connect().await?;
        let bound = pair.limits.buffered_bytes / frame.len();
        let (taken, waiting) = fill(&pair, &*full, &frame, bound).await?;
        for _ in 0..100 {
            pair.exchange(&*far, &*near)
                .await
                .map_err(|e| Broken::new(format!("{taken} frames wait on another connection: {e}")))?;
        }
        drop((waiting, unread));
        other.endpoint.close().await;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// Sends until a send waits, or until `bound` frames were taken.
pub(super) async fn fill<'a>(
    pair: &Pair,
    on: &'a dyn Connection,
    frame: &Bytes,
    bound: usize,
) -> Result<(usize, Option<Waiting<'a>>), Broken> {
    for taken in 0..bound {
        let mut send = on.send(frame.clone());
        match tokio::time::timeout(pair.limits.quiet, &mut send).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(Broken::new(format!("send {taken} failed: {e}"))),
            Err(_) => return Ok((taken, Some(send))),
        }
    }
    Ok((bound, None))
}
