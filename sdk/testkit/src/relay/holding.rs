use std::collections::BTreeSet;
use std::time::Duration;

use byway_api::{Held, PeerId, Relay, RelayError, RelayErrorKind, Sealed, StoredUntil};

use super::fixture::{HOUR, RelayFixture, holds_nothing, mail, must, peer};
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// More bytes than any promise holds but the one about full boxes.
const ALL: usize = 1 << 20;

async fn hold(fixture: &dyn RelayFixture, relay: &dyn Relay, mail: &Sealed) -> Result<StoredUntil, Broken> {
    must("hold", within(fixture.limits().patience, "hold", relay.hold(mail.clone())).await?)
}

async fn fetch(
    fixture: &dyn RelayFixture,
    relay: &dyn Relay,
    device: PeerId,
    after: u64,
    max: usize,
) -> Result<Vec<Held>, Broken> {
    let held = must("fetch", within(fixture.limits().patience, "fetch", relay.fetch(device, after, max)).await?)?;
    let rising = held.windows(2).all(|two| two[0].n < two[1].n) && held.first().is_none_or(|first| first.n > after);
    let places: Vec<u64> = held.iter().map(|held| held.n).collect();
    ensure!(rising, "fetch after {after} yields the places {places:?}");
    let foreign = held.iter().find(|held| held.mail.to != device);
    ensure!(foreign.is_none(), "mail for {device:?} was fetched, and this came: {foreign:?}");
    Ok(held)
}

fn letters(fixture: &dyn RelayFixture, to: PeerId, count: u32) -> Vec<Sealed> {
    (0..count).map(|n| mail(to, n, 300, fixture.now().plus(HOUR))).collect()
}

fn contents(held: &[Held]) -> Vec<Sealed> {
    held.iter().map(|held| held.mail.clone()).collect()
}

/// A relay that holds nothing answers `NotHolding` to everything that has to do with held mail.
pub async fn a_relay_that_holds_nothing_says_so(fixture: &dyn RelayFixture) -> Verdict {
    if fixture.holds() {
        return Ok(Outcome::Skipped("the relay holds mail".to_owned()));
    }
    let relay = fixture.open();
    let letter = mail(peer(2), 1, 200, fixture.now().plus(HOUR));
    let answers = [
        ("hold", relay.hold(letter).await.map(drop)),
        ("fetch", relay.fetch(peer(2), 0, ALL).await.map(drop)),
        ("release", relay.release(&[]).await),
    ];
    for (call, answer) in answers {
        let kind = answer.as_ref().map_err(RelayError::kind);
        ensure!(kind == Err(RelayErrorKind::NotHolding), "{call} says {kind:?}, not NotHolding");
    }
    Ok(Outcome::Kept)
}

/// What was held comes in its order, to its device only, and is promised for no longer than it lives.
pub async fn what_was_held_is_fetched_in_order(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    ensure!(fetch(fixture, &*relay, peer(2), 0, ALL).await?.is_empty(), "nothing was held, and something is fetched");
    let (bobs, carols) = (letters(fixture, peer(2), 5), letters(fixture, peer(3), 2));
    for letter in bobs[..3].iter().chain(&carols).chain(&bobs[3..]) {
        let StoredUntil(until) = hold(fixture, &*relay, letter).await?;
        let (now, end) = (fixture.now(), fixture.now().plus(HOUR));
        ensure!(now < until && until <= end, "at {now} a letter that lives until {end} is promised until {until}");
    }
    for (device, sent) in [(peer(2), bobs), (peer(3), carols), (peer(4), Vec::new())] {
        let held = contents(&fetch(fixture, &*relay, device, 0, ALL).await?);
        ensure!(held == sent, "{device:?} was sent {sent:?}, and fetches {held:?}");
    }
    Ok(Outcome::Kept)
}

/// Fetching again yields the same.
pub async fn fetch_removes_nothing(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    for letter in letters(fixture, peer(2), 6) {
        hold(fixture, &*relay, &letter).await?;
    }
    let first = fetch(fixture, &*relay, peer(2), 0, ALL).await?;
    for _ in 0..2 {
        let again = fetch(fixture, &*relay, peer(2), 0, ALL).await?;
        ensure!(again == first, "first {first:?} was fetched, then {again:?}");
    }
    Ok(Outcome::Kept)
}

/// A page has its bound, but at least one envelope; the pages together are the whole, once each.
pub async fn pages_together_are_the_whole(fixture: &dyn RelayFixture) -> Verdict {
    const LETTERS: u32 = 7;
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    let sent = letters(fixture, peer(2), LETTERS);
    for letter in &sent {
        hold(fixture, &*relay, letter).await?;
    }
    let one = sent[0].envelope.len();
    for max in [0, 1, one, one * 2 + 1, one * 3, ALL] {
        let (mut after, mut got) = (0, Vec::new());
        loop {
            let page = fetch(fixture, &*relay, peer(2), after, max).await?;
            let bytes: usize = page.iter().map(|held| held.mail.envelope.len()).sum();
            ensure!(page.len() <= 1 || bytes <= max, "a page of at most {max} bytes has {bytes}");
            let Some(last) = page.last() else { break };
            after = last.n;
            got.extend(contents(&page));
            ensure!(got.len() <= sent.len(), "pages of {max} bytes do not end");
        }
        ensure!(got == sent, "in pages of {max} bytes {} of {LETTERS} letters come, or others", got.len());
    }
    Ok(Outcome::Kept)
}

/// Holding the same envelope again answers like the first time and keeps one copy.
pub async fn holding_again_keeps_one_copy(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    let sent = letters(fixture, peer(2), 2);
    let first = hold(fixture, &*relay, &sent[0]).await?;
    hold(fixture, &*relay, &sent[1]).await?;
    let again = hold(fixture, &*relay, &sent[0]).await?;
    ensure!(first == again, "first the letter was promised until {first:?}, then until {again:?}");
    let held = contents(&fetch(fixture, &*relay, peer(2), 0, ALL).await?);
    ensure!(held == sent, "two letters were held, one of them twice, and these are fetched: {held:?}");
    Ok(Outcome::Kept)
}

/// `release` forgets what was named and nothing else, passes unknown ids over, and no place is used again.
pub async fn release_forgets_what_was_named(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    for letter in letters(fixture, peer(2), 4) {
        hold(fixture, &*relay, &letter).await?;
    }
    let held = fetch(fixture, &*relay, peer(2), 0, ALL).await?;
    let ids: BTreeSet<_> = held.iter().map(|held| held.id).collect();
    ensure!(held.len() == 4 && ids.len() == 4, "four letters are held under {} ids", ids.len());
    let unknown = byway_api::EnvelopeId::from_bytes([0xee; 32]);
    let named = [held[1].id, unknown, held[3].id];
    for _ in 0..2 {
        must("release", within(fixture.limits().patience, "release", relay.release(&named)).await?)?;
        let left = fetch(fixture, &*relay, peer(2), 0, ALL).await?;
        let expected = [held[0].clone(), held[2].clone()];
        ensure!(left == expected, "two of {held:?} were released, and these are left: {left:?}");
    }
    let later = mail(peer(2), 99, 300, fixture.now().plus(HOUR));
    hold(fixture, &*relay, &later).await?;
    let last = fetch(fixture, &*relay, peer(2), held[3].n, ALL).await?;
    ensure!(contents(&last) == [later], "a letter came after place {}, and behind it there is {last:?}", held[3].n);
    Ok(Outcome::Kept)
}

/// What was promised is there when the relay is opened again.
pub async fn held_mail_survives_reopening(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    for letter in letters(fixture, peer(2), 4) {
        hold(fixture, &*relay, &letter).await?;
    }
    let before = fetch(fixture, &*relay, peer(2), 0, ALL).await?;
    drop(relay);
    let after = fetch(fixture, &*fixture.open(), peer(2), 0, ALL).await?;
    ensure!(before == after, "held were {before:?}, and after it was opened again {after:?}");
    Ok(Outcome::Kept)
}

/// Mail is kept while it lives, and not given when it has expired.
pub async fn mail_that_has_expired_is_not_given(fixture: &dyn RelayFixture) -> Verdict {
    const MINUTE: Duration = Duration::from_secs(60);
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let relay = fixture.open();
    let short = mail(peer(2), 1, 300, fixture.now().plus(10 * MINUTE));
    let long = mail(peer(2), 2, 300, fixture.now().plus(HOUR));
    for letter in [&short, &long] {
        hold(fixture, &*relay, letter).await?;
    }
    if !fixture.pass(9 * MINUTE) {
        return Ok(Outcome::Skipped("the fixture cannot let time pass".to_owned()));
    }
    for (passed, living) in [(2 * MINUTE, vec![short, long.clone()]), (HOUR, vec![long]), (MINUTE, Vec::new())] {
        let held = contents(&fetch(fixture, &*relay, peer(2), 0, ALL).await?);
        ensure!(held == living, "{living:?} are alive, and {held:?} are fetched");
        fixture.pass(passed);
    }
    Ok(Outcome::Kept)
}

/// When a box is full, `hold` answers `Quota`; what it had promised before is still there.
pub async fn a_full_box_is_quota(fixture: &dyn RelayFixture) -> Verdict {
    if !fixture.holds() {
        return Ok(holds_nothing());
    }
    let (relay, limits) = (fixture.open(), fixture.limits());
    let mut promised = Vec::new();
    let refusal = loop {
        let number = u32::try_from(promised.len()).unwrap_or(u32::MAX);
        let letter = mail(peer(2), number, 1_024, fixture.now().plus(HOUR));
        match within(limits.patience, "hold", relay.hold(letter.clone())).await? {
            Ok(_) => promised.push(letter),
            Err(e) => break e,
        }
        ensure!(promised.len() <= limits.held, "{} letters of 1 KiB are held for one device", promised.len());
    };
    ensure!(refusal.kind() == RelayErrorKind::Quota, "a full box says {refusal}, not Quota");
    let held = contents(&fetch(fixture, &*relay, peer(2), 0, usize::MAX).await?);
    ensure!(held == promised, "{} letters were promised, and {} are held, or others", promised.len(), held.len());
    Ok(Outcome::Kept)
}
