use byway_api::{PeerId, SignalAddress, SignalErrorKind};

use super::stage::{Stage, describe, device, directions, kind, mail, poll_at_most};
use super::world::SignalFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// A device that is in no world.
const ABSENT: usize = 99;

/// The name is a short constant.
pub async fn the_name_is_constant(fixture: &dyn SignalFixture) -> Verdict {
    const SHORT: usize = 32;
    let stage = Stage::new(fixture).await;
    for n in [0, 1] {
        let (first, second) = (stage.newcomer(n, 0).await, Stage::new(fixture).await.newcomer(n, 0).await);
        let name = first.carrier.name();
        ensure!((1..=SHORT).contains(&name.len()), "{name:?} is not a short name");
        for other in [first.carrier.name(), second.carrier.name()] {
            ensure!(name == other, "the name changes: {name:?} and {other:?}");
        }
    }
    Ok(Outcome::Kept)
}

/// Each envelope that was taken arrives as it is, one time.
pub async fn envelopes_arrive_whole_and_once(fixture: &dyn SignalFixture) -> Verdict {
    const ENVELOPES: usize = 30;
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let (to_far, to_near) = (stage.world.address(far.peer), stage.world.address(near.peer));
        for n in 0..ENVELOPES {
            let there = mail(far.peer, format!("{n} there {}", "x".repeat(n * n)).as_bytes());
            let back = mail(near.peer, format!("{n} back").as_bytes());
            stage.send(&near, &to_far, &there).await?;
            stage.send(&far, &to_near, &back).await?;
            stage.expect(&far, &there).await?;
            stage.expect(&near, &back).await?;
        }
        stage.expect_nothing(&near).await?;
        stage.expect_nothing(&far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// What comes with an envelope as the way back leads to the device that sent it.
pub async fn the_way_back_leads_to_the_sender(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let question = mail(far.peer, b"question");
        stage.send(&near, &stage.world.address(far.peer), &question).await?;
        let back = stage.expect(&far, &question).await?.back;
        ensure!(far.carrier.serves(&back), "{back} was given as the way back, and is not served");
        let named = back.socket_parts().map(|(_, peer)| peer);
        ensure!(named.is_none_or(|peer| peer == near.peer), "{:?} sent, and the way back is {back}", near.peer);
        let answer = mail(near.peer, b"answer");
        stage.send(&far, &back, &answer).await?;
        stage.expect(&near, &answer).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// Each of a carrier's own addresses is served by the other side, and leads to its device.
pub async fn own_addresses_lead_here(fixture: &dyn SignalFixture) -> Verdict {
    let mut some = false;
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        for (n, address) in far.carrier.addresses().iter().enumerate() {
            some = true;
            ensure!(near.carrier.serves(address), "{address} is an address of the far side and not served");
            let mail = mail(far.peer, format!("{n} to an address of yours").as_bytes());
            stage.send(&near, address, &mail).await?;
            stage.expect(&far, &mail).await?;
        }
        stage.end([near, far]).await?;
    }
    Ok(if some { Outcome::Kept } else { Outcome::Skipped("the carriers have no addresses of their own".to_owned()) })
}

/// `send` fails with `BadAddress` exactly for what `serves` denies.
pub async fn serves_agrees_with_send(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let ours = stage.world.address(far.peer);
        ensure!(near.carrier.serves(&ours), "{ours} leads to an attached device and is not served");
        for address in foreign(far.peer)? {
            let served = near.carrier.serves(&address);
            ensure!(served == near.carrier.serves(&address), "serves changes its mind about {address}");
            if served {
                continue;
            }
            let mail = mail(far.peer, b"to nowhere");
            let sent = stage.try_send(&near, &address, &mail).await?;
            ensure!(
                kind(&sent) == Some(SignalErrorKind::BadAddress),
                "{address} is not served, and send gave {sent:?} instead of BadAddress"
            );
        }
        let nowhere = SignalAddress::new("no-carrier-has-this-scheme:1");
        let nowhere = nowhere.map_err(|e| Broken::new(e.to_string()))?;
        ensure!(!near.carrier.serves(&nowhere), "{nowhere} is said to be served");
        stage.expect_nothing(&far).await?;
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// Addresses that other plugins serve, and spoilt ones.
fn foreign(peer: PeerId) -> Result<Vec<SignalAddress>, Broken> {
    let texts =
        ["mem:1", "no-carrier-has-this-scheme:1", "ws:nonsense", "wss://u@host/nobody", "ws://127.0.0.1:1/nobody"];
    let mut addresses = vec![SignalAddress::through(peer)];
    for text in texts {
        addresses.push(SignalAddress::new(text).map_err(|e| Broken::new(e.to_string()))?);
    }
    Ok(addresses)
}

/// A device that is not attached is `NoSuchPeer`, in time.
pub async fn a_device_that_is_not_there_is_no_such_peer(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let absent = device(ABSENT).peer();
        let sent = stage.try_send(&near, &stage.world.address(absent), &mail(absent, b"anybody there?")).await?;
        ensure!(
            kind(&sent) == Some(SignalErrorKind::NoSuchPeer),
            "the device is not attached, and send gave {sent:?} instead of NoSuchPeer"
        );
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// What was sent to a device before it attached does not arrive there.
pub async fn nothing_is_stored(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let late = stage.newcomer(2, u64::MAX).await;
        // whether it is refused is another promise
        let _answer = stage.try_send(&near, &stage.world.address(late.peer), &mail(late.peer, b"too early")).await?;
        stage.attach(2, &late).await?;
        stage.settle(&near, &late).await?;
        stage.expect_nothing(&late).await?;
        stage.end([near, far, late]).await?;
    }
    Ok(Outcome::Kept)
}

/// Nothing is lost when `recv` is dropped.
pub async fn recv_is_cancel_safe(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        // what is left of the probes
        while let Ok(Some(_)) = tokio::time::timeout(stage.limits.quiet, far.carrier.recv()).await {}
        for n in 0..10 {
            let sent = mail(far.peer, format!("{n} for a reader who hesitates").as_bytes());
            stage.send(&near, &stage.world.address(far.peer), &sent).await?;
            let reading = async {
                loop {
                    // it has arrived, is about to, or not yet: drop at each of these moments
                    match poll_at_most(1 + n % 3, far.carrier.recv()).await {
                        Some(Some(carried)) => return Ok(carried),
                        Some(None) => return Err(Broken::new("recv yielded None though the carrier is open")),
                        None => tokio::time::sleep(stage.limits.pause).await,
                    }
                }
            };
            let what = "an envelope, though recv was dropped while waiting";
            let carried = within(stage.limits.patience, what, reading).await??;
            ensure!(carried.mail == sent, "{} was sent, {} arrived", describe(&sent), describe(&carried.mail));
        }
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}

/// A send that was dropped took place or did not; later ones are as good as any.
pub async fn a_dropped_send_does_no_harm(fixture: &dyn SignalFixture) -> Verdict {
    for (stage, near, far) in directions(fixture).await {
        let (near, far) = stage.pair(near, far).await?;
        let address = stage.world.address(far.peer);
        for polls in [1, 2, 3, 5] {
            let dropped = mail(far.peer, format!("dropped after {polls} polls").as_bytes());
            let send = poll_at_most(polls, near.carrier.send(&address, dropped.clone()));
            within(stage.limits.patience, "a send that is to be dropped", send).await?;
            let whole = mail(far.peer, format!("whole after {polls} polls").as_bytes());
            stage.send(&near, &address, &whole).await?;
            let mut first = stage.recv(&far).await?;
            if first.mail == dropped {
                first = stage.recv(&far).await?;
            }
            ensure!(first.mail == whole, "{} was sent, {} arrived", describe(&whole), describe(&first.mail));
        }
        stage.end([near, far]).await?;
    }
    Ok(Outcome::Kept)
}
