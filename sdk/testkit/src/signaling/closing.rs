use super::stage::{Stage, directions, mail};
use super::world::SignalFixture;
use crate::promise::{Outcome, Verdict, ensure, within};

/// Closing again, and twice at once, is the same as closing.
pub async fn close_is_idempotent(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let both = async { tokio::join!(near.carrier.close(), near.carrier.close()) };
        within(stage.limits.patience, "two closes at once", both).await?;
        within(stage.limits.patience, "another close", near.carrier.close()).await?;
        stage.end([far]).await?;
    }
    Ok(Outcome::Kept)
}

/// A `recv` that waits yields `None` when the carrier is closed.
pub async fn close_ends_a_waiting_recv(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let reading = async {
            // probes may still be there
            while far.carrier.recv().await.is_some() {}
        };
        let both = async { tokio::join!(reading, far.carrier.close()) };
        within(stage.limits.patience, "the end of recv and close", both).await?;
        stage.end([near]).await?;
    }
    Ok(Outcome::Kept)
}

/// After `close`, `recv` yields `None` for ever.
pub async fn after_close_nothing_is_received(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        within(stage.limits.patience, "close", far.carrier.close()).await?;
        // whatever becomes of it, it does not come out at the closed end
        let _answer = stage.try_send(&near, &stage.world.address(far.peer), &mail(far.peer, b"too late")).await?;
        for _ in 0..3 {
            let next = within(stage.limits.patience, "recv after close", far.carrier.recv()).await?;
            ensure!(next.is_none(), "after close recv yields {next:?}");
        }
        stage.end([near]).await?;
    }
    Ok(Outcome::Kept)
}

/// After `close`, `send` fails.
pub async fn after_close_nothing_is_sent(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        within(stage.limits.patience, "close", near.carrier.close()).await?;
        for _ in 0..2 {
            let sent = stage.try_send(&near, &stage.world.address(far.peer), &mail(far.peer, b"too late")).await?;
            ensure!(sent.is_err(), "the carrier is closed, and send says that an envelope was taken");
        }
        stage.end([far]).await?;
    }
    Ok(Outcome::Kept)
}

/// After `close` no task runs that did not run before, and the device is not attached.
pub async fn close_leaves_nothing(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let before = tasks();
        let (near, far) = stage.pair(near, far).await?;
        let peers = [near.peer, far.peer];
        stage.end([near, far]).await?;
        // a world in this runtime learns of it a moment later
        let gone =
            |stage: &Stage| tasks() <= before && peers.iter().all(|peer| stage.world.attached(*peer) != Some(true));
        let what = format!("no task of a closed carrier ({} run, {before} before), and no device of one", tasks());
        stage.until(&what, || gone(&stage)).await?;
    }
    Ok(Outcome::Kept)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
