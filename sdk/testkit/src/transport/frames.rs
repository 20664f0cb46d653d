use byway_api::{Bytes, CloseCode, Connection, Received, TransportError, TransportErrorKind};

use super::fixture::{Numbers, Pair, TransportFixture};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// Frames of all lengths arrive whole, in order and once each, while as many go the other way.
pub async fn frames_arrive_whole_in_order_and_once(fixture: &TransportFixture) -> Verdict {
    const FRAMES: u64 = 400;
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        tokio::try_join!(
            Box::pin(stream(&pair, &*near, 1, FRAMES)),
            Box::pin(unstream(&pair, &*far, 1, FRAMES)),
            Box::pin(stream(&pair, &*far, 2, FRAMES)),
            Box::pin(unstream(&pair, &*near, 2, FRAMES)),
        )?;
        near.close(CloseCode::NORMAL).await;
        let rest = pair.recv(&*far, "the end after the last frame").await?;
        ensure!(matches!(rest, Received::Closed(_)), "all frames have arrived, and yet comes {}", in_short(&rest));
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

async fn stream(pair: &Pair, on: &dyn Connection, seed: u64, frames: u64) -> Result<(), Broken> {
    for number in 0..frames {
        pair.send(on, frame(seed, number, pair.caps.max_frame)).await?;
    }
    Ok(())
}

async fn unstream(pair: &Pair, on: &dyn Connection, seed: u64, frames: u64) -> Result<(), Broken> {
    for number in 0..frames {
        let expected = frame(seed, number, pair.caps.max_frame);
        pair.expect(on, &expected).await.map_err(|e| Broken::new(format!("frame {number} of seed {seed}: {e}")))?;
    }
    Ok(())
}

/// A frame that tells its seed and number by every byte. Lengths around those at which transports
/// change their ways: 1, an MTU, 16 KiB, the longest.
fn frame(seed: u64, number: u64, longest: usize) -> Bytes {
    let mut numbers = Numbers(seed << 32 | number);
    let bases = [1, 100, 1_200, 1_500, 16_384, longest];
    let draw = usize::try_from(numbers.next() % 1_000).unwrap_or(0);
    let base = if draw < 30 { longest } else { bases[draw % 5] };
    let length = (base + draw % 3).saturating_sub(1).clamp(1, longest);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&numbers.next().to_be_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// An empty frame arrives as an empty frame.
pub async fn an_empty_frame_is_a_frame(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        for frame in [&b""[..], b"between", b"", b"", b"last"] {
            pair.send(&*near, frame).await?;
        }
        for frame in [&b""[..], b"between", b"", b"", b"last"] {
            pair.expect(&*far, frame).await?;
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A frame of `max_frame` bytes arrives.
pub async fn the_longest_frame_arrives(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        let longest = vec![0x5a; pair.caps.max_frame];
        for (from, to) in [(&near, &far), (&far, &near)] {
            let send = async { pair.send(&**from, longest.clone()).await };
            tokio::try_join!(send, pair.expect(&**to, &longest))?;
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// A frame one byte too long is refused with `TooLarge`, and the connection lives on.
pub async fn a_longer_frame_is_refused_and_the_connection_lives(fixture: &TransportFixture) -> Verdict {
    for (pair, transport) in fixture.pairs().await?.into_iter().zip(fixture.transports()) {
        let (near, far) = pair.connect().await?;
        let too_long = Bytes::from(vec![1; transport.caps().max_frame + 1]);
        let sent = within(pair.limits.patience, "the refusal of a frame", near.send(too_long)).await?;
        let kind = sent.as_ref().map_err(TransportError::kind).err();
        ensure!(kind == Some(TransportErrorKind::TooLarge), "a frame one byte too long gave {sent:?}, not TooLarge");
        pair.exchange(&*near, &*far).await?;
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

fn in_short(received: &Received) -> String {
    match received {
        Received::Frame(frame) => super::fixture::describe(frame),
        other => format!("{other:?}"),
    }
}
