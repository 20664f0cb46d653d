//! Promises about other processes: killed ones, and second ones.

use std::collections::BTreeSet;

use byway_api::StoreErrorKind;

use super::child::{ACK, HELD, Process, REFUSED, Role, Task};
use super::place::{Place, broken};
use super::script::{EACH, check, works_on};
use super::{Subject, seed};
use crate::promise::{Broken, Outcome, Verdict, ensure};
use crate::store::random::Random;

/// A process is killed with signal 9 at a random moment, again and again: everything it acknowledged
/// is there, no batch in part, and the store works on.
pub async fn what_was_acknowledged_survives_kill_9(subject: &Subject) -> Verdict {
    let (seed, place) = (seed(), Place::new()?);
    let mut random = Random::new(seed);
    let mut acknowledged = BTreeSet::new();
    for round in 0..subject.effort.kills {
        let kill_after = random.next() % 150;
        let here = |e: Broken| {
            let said = place.said();
            Broken::new(format!("BYWAY_STORE_SEED={seed}, kill {round}, after {kill_after} batches: {e}\n{said}"))
        };
        let task = Task { role: Role::Append, first: round * EACH, times: EACH };
        let mut process = Process::start(subject, &place, task, &[])?;
        let number = |n: String| n.parse::<u64>().map_err(|e| broken("no number", e));
        for _ in 0..kill_after {
            let n = process.next(ACK).map_err(here)?.ok_or_else(|| here(Broken::new("the process ended by itself")))?;
            acknowledged.insert(number(n)?);
        }
        process.kill()?;
        // What it had said and nobody had read yet counts as well.
        while let Some(n) = process.next(ACK)? {
            acknowledged.insert(number(n)?);
        }
        let store = place.open(subject).await.map_err(|e| here(broken("it does not open", e)))?;
        check(&*store, &acknowledged).await.map_err(here)?;
        works_on(&*store, &mut acknowledged).await.map_err(here)?;
        store.close().await.map_err(|e| here(broken("it does not close", e)))?;
    }
    Ok(Outcome::Kept)
}

/// A process that holds the store open.
fn holder(subject: &Subject, place: &Place) -> Result<Process, Broken> {
    let process = Process::start(subject, place, Task { role: Role::Hold, first: 0, times: 0 }, &[])?;
    match process.next(HELD)? {
        Some(_) => Ok(process),
        None => Err(Broken::new(format!("a process cannot open the store: {}", place.said()))),
    }
}

/// While a process has the store open, another gets `Busy`, also after a while, and disturbs nothing.
pub async fn a_second_process_is_busy(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    let holder = holder(subject, &place)?;
    for _ in 0..2 {
        match place.open(subject).await {
            Ok(_) => return Err(Broken::new("two processes have it open")),
            Err(error) => ensure!(error.kind() == StoreErrorKind::Busy, "{error} is not Busy"),
        }
    }
    ensure!(holder.end()?.success(), "the first process was disturbed: {}", place.said());

    // And the other way round.
    let store = place.open(subject).await.map_err(|e| broken("it does not open after the other has ended", e))?;
    let second = Process::start(subject, &place, Task { role: Role::Hold, first: 0, times: 0 }, &[])?;
    while let Some(line) = second.line()? {
        ensure!(!line.contains(HELD), "a second process has it open");
        if let Some((_, refused)) = line.split_once(REFUSED) {
            ensure!(refused.starts_with("Busy"), "{refused} is not Busy");
            break;
        }
    }
    ensure!(second.end()?.success(), "the second process failed: {}", place.said());
    works_on(&*store, &mut BTreeSet::new()).await?;
    store.close().await.map_err(|e| broken("it does not close", e))?;
    Ok(Outcome::Kept)
}

/// `close` releases the store at once: another process opens it while the first still runs.
pub async fn a_closed_store_is_free_for_another_process(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    let store = place.open(subject).await.map_err(|e| broken("it does not open", e))?;
    store.close().await.map_err(|e| broken("it does not close", e))?;
    let other = holder(subject, &place)?;
    ensure!(other.end()?.success(), "the other process failed: {}", place.said());
    drop(store);
    Ok(Outcome::Kept)
}

/// A killed process holds nothing: the next one opens the store.
pub async fn a_killed_owner_leaves_no_lock(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    for _ in 0..2 {
        holder(subject, &place)?.kill()?;
        let store = place.open(subject).await.map_err(|e| broken("its owner was killed, and it does not open", e))?;
        store.close().await.map_err(|e| broken("it does not close", e))?;
    }
    Ok(Outcome::Kept)
}
