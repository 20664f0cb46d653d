use std::time::{Duration, Instant};

use byway_api::RelayErrorKind;

use super::fixture::{RelayFixture, must};
use crate::promise::{Broken, Outcome, Verdict, ensure};

fn admits_nothing() -> Outcome {
    Outcome::Skipped("the relay admits nothing".to_owned())
}

/// The name is a short constant.
pub async fn the_name_is_constant(fixture: &dyn RelayFixture) -> Verdict {
    const SHORT: usize = 32;
    let (first, second) = (fixture.open(), fixture.open());
    let name = first.name();
    ensure!((1..=SHORT).contains(&name.len()), "{name:?} is not a short name");
    for other in [first.name(), second.name()] {
        ensure!(name == other, "the name changes: {name:?} and {other:?}");
    }
    Ok(Outcome::Kept)
}

/// Mail that the policy admits is let through.
pub async fn admitted_mail_is_let_through(fixture: &dyn RelayFixture) -> Verdict {
    let Some((from, mail)) = fixture.admitted() else { return Ok(admits_nothing()) };
    let relay = fixture.open();
    must("mail that is to be admitted", relay.admit(from, &mail))?;
    Ok(Outcome::Kept)
}

/// Mail that it does not admit is refused as `Refused`, `Quota` or `TooLarge`, with the plugin's name.
pub async fn other_mail_is_refused(fixture: &dyn RelayFixture) -> Verdict {
    use RelayErrorKind::{Quota, Refused, TooLarge};
    let Some((from, mail)) = fixture.refused() else {
        return Ok(Outcome::Skipped("the fixture has no mail that is refused".to_owned()));
    };
    let relay = fixture.open();
    for _ in 0..2 {
        match relay.admit(from, &mail) {
            Ok(()) => return Err(Broken::new("mail that is to be refused is admitted")),
            Err(e) => {
                let kind = e.kind();
                ensure!(matches!(kind, Refused | Quota | TooLarge), "admit refuses with {kind:?}");
                ensure!(!e.plugin().is_empty(), "the refusal {e} names no plugin");
            }
        }
    }
    Ok(Outcome::Kept)
}

/// `admit` decides in less than 50 µs.
pub async fn admit_is_quick(fixture: &dyn RelayFixture) -> Verdict {
    const TIMES: usize = 501;
    let relay = fixture.open();
    for (from, mail) in fixture.admitted().into_iter().chain(fixture.refused()) {
        let mut spans: Vec<Duration> = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let start = Instant::now();
            let answer = relay.admit(from, &mail);
            spans.push(start.elapsed());
            drop(answer);
        }
        spans.sort();
        let (median, most) = (spans[TIMES / 2], fixture.limits().admission);
        ensure!(median <= most, "an admission takes {median:?}; {most:?} are granted");
    }
    Ok(Outcome::Kept)
}

/// `admit` needs nothing but memory: it decides the same in a thread without a runtime.
pub async fn admit_needs_no_runtime(fixture: &dyn RelayFixture) -> Verdict {
    for (from, mail) in fixture.admitted().into_iter().chain(fixture.refused()) {
        let here = fixture.open().admit(from, &mail).is_ok();
        let relay = fixture.open();
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| relay.admit(from, &mail).is_ok()).join());
        let elsewhere = elsewhere.map_err(|_| Broken::new("admit panicked in a thread without a runtime"))?;
        ensure!(here == elsewhere, "admitted in a runtime: {here}; in a thread without one: {elsewhere}");
    }
    Ok(Outcome::Kept)
}
