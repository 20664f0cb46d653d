//! A promise about power cuts.

use std::collections::BTreeSet;

use super::child::{Role, Task};
use super::disk::Disk;
use super::history::{CALLS, Event, RAW, events};
use super::place::{Place, broken};
use super::script::{check, works_on};
use super::{Subject, seed, strace};
use crate::promise::{Broken, Outcome, Verdict, ensure};
use crate::store::random::Random;

/// The power is cut at a random moment, also while the store is made or opened again. The disk has
/// what was synced and any part of the rest: the store opens, everything acknowledged is there, no
/// batch in part, and it works on.
pub async fn what_was_acknowledged_survives_a_power_cut(subject: &Subject) -> Verdict {
    if let Some(why) = strace::missing() {
        return Ok(Outcome::Skipped(why));
    }
    let (seed, place) = (seed(), Place::new()?);
    let task = Task { role: Role::AppendTwice, first: 0, times: subject.effort.batches };
    let (trace, _) = strace::run(subject, &place, task, &["-e", CALLS, "-e", RAW].map(str::to_owned))?;
    let events = events(&trace);
    drop(trace);
    let said = events.iter().filter(|event| matches!(event, Event::Acknowledged(_))).count() as u64;
    ensure!(said == subject.effort.batches, "the trace shows {said} of {} acknowledgements", subject.effort.batches);

    let mut random = Random::new(seed);
    let total = events.len() as u64 + 1;
    let mut cuts: Vec<u64> = (0..subject.effort.cuts).map(|_| random.next() % total).collect();
    cuts.sort_unstable();
    let mut disk = Disk::new(subject, place.root());
    let mut acknowledged = BTreeSet::new();
    let mut happened = 0;
    let mut written = 0;
    for (n, at) in cuts.into_iter().enumerate() {
        let here = |e: Broken| broken(&format!("BYWAY_STORE_SEED={seed}, cut {n}, after {at} of {total} events"), e);
        for event in events.iter().take(usize::try_from(at).unwrap_or(usize::MAX)).skip(happened) {
            disk.play(event)?;
            match event {
                Event::Acknowledged(n) => drop(acknowledged.insert(*n)),
                Event::Write { fd, .. } if disk.has(*fd).is_some() => written += 1,
                _ => {}
            }
        }
        happened = usize::try_from(at).unwrap_or(usize::MAX);
        let after = Place::new()?;
        disk.cut(&mut random, &after.root())?;
        let store = after.open(subject).await.map_err(|e| here(broken("it does not open", e)))?;
        let mut there = check(&*store, &acknowledged).await.map_err(here)?;
        works_on(&*store, &mut there).await.map_err(here)?;
        store.close().await.map_err(|e| here(broken("it does not close", e)))?;
    }
    // The rest is played too: a mapping there must not go unseen.
    events[happened..].iter().try_for_each(|event| disk.play(event))?;
    ensure!(written > 0, "no call wrote to a file of the store: it is not in the directory it was given");
    Ok(Outcome::Kept)
}
