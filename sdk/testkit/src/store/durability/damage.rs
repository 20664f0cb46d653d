//! Promises about files that are not what they should be.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{Applied, Load, RouteStore, Row, StoreError, StoreErrorKind};

use super::place::{Place, broken, content};
use super::script::{check, durable, relaxed, works_on};
use super::{Subject, seed};
use crate::promise::{Broken, Outcome, Verdict, ensure};
use crate::store::all;
use crate::store::model::Model;
use crate::store::random::Random;

/// A whole store that was closed: its files, and what is in it.
struct Sound {
    files: Vec<(PathBuf, Vec<u8>)>,
    batches: BTreeSet<u64>,
}

/// A closed store with some rows.
async fn sound(subject: &Subject, place: &Place) -> Result<Sound, Broken> {
    const BATCHES: u64 = 30;
    let store = place.open(subject).await.map_err(|e| broken("it does not open", e))?;
    for n in 0..BATCHES {
        for batch in [vec![relaxed(n)], durable(n)] {
            store.apply(&batch).await.map_err(|e| broken("a batch is refused", e))?;
        }
    }
    let batches = check(&*store, &(0..BATCHES).collect()).await?;
    store.close().await.map_err(|e| broken("it does not close", e))?;
    Ok(Sound { files: content(subject, &place.root())?, batches })
}

impl Sound {
    /// Puts the files there, the one that the store is named for with another content.
    fn put(&self, place: &Place, main: &[u8]) -> Result<(), Broken> {
        place.clear()?;
        for (path, data) in &self.files {
            let data = if *path == place.store() { main } else { data };
            fs::write(path, data).map_err(|e| broken("a file cannot be written", e))?;
        }
        Ok(())
    }

    /// The content of the file that the store is named for.
    fn main(&self, place: &Place) -> Option<&[u8]> {
        self.files.iter().find(|(path, _)| *path == place.store()).map(|(_, data)| &data[..])
    }
}

fn no_file() -> Verdict {
    Ok(Outcome::Skipped("the store is not one file of the given name".to_owned()))
}

fn panicked(panic: &(dyn Any + Send)) -> Broken {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|s| &**s));
    Broken::new(format!("it panicked: {}", said.unwrap_or("without a word")))
}

/// Opens it where a panic ends nothing else.
async fn open(subject: &Subject, place: &Place) -> Result<Result<Arc<dyn RouteStore>, StoreError>, Broken> {
    use std::future::{Future, poll_fn};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut opening = Box::pin(place.open(subject));
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panicked(&*panic))),
    })
    .await
}

/// It was refused for what is wrong with it, and left as it is.
fn refused(subject: &Subject, place: &Place, before: &[(PathBuf, Vec<u8>)], error: &StoreError) -> Result<(), Broken> {
    // A version or a mode may be what is damaged.
    let kinds = [StoreErrorKind::Corrupt, StoreErrorKind::NewerSchema, StoreErrorKind::ReadOnly];
    ensure!(kinds.contains(&error.kind()), "the error is {:?}, not Corrupt: {error}", error.kind());
    let after = content(subject, &place.root())?;
    ensure!(*before == after[..], "it was refused ({error}), and changed");
    Ok(())
}

/// A file that was never a store is `Corrupt` and is left as it is.
pub async fn a_file_of_another_kind_is_refused(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    let mut noise = vec![0; 8192];
    let mut random = Random::new(seed());
    noise.fill_with(|| random.next().to_le_bytes()[0]);
    for (name, file) in [
        ("a text", b"Dear diary, today I made a store.\n".repeat(99)),
        ("a short text", b"x".to_vec()),
        ("noise", noise),
        ("an archive", [&b"PK\x03\x04"[..], &[7; 5000]].concat()),
    ] {
        place.clear()?;
        fs::write(place.store(), file).map_err(|e| broken("a file cannot be written", e))?;
        let before = content(subject, &place.root())?;
        match open(subject, &place).await? {
            Ok(_) => return Err(Broken::new(format!("{name} is opened as a store"))),
            Err(error) => refused(subject, &place, &before, &error).map_err(|e| broken(name, e))?,
        }
    }
    Ok(Outcome::Kept)
}

/// Every row, or the error that tells of the damage.
async fn rows(store: &dyn RouteStore) -> Result<Result<Vec<Row>, StoreError>, Broken> {
    let mut rows = Vec::new();
    for what in Model::loads() {
        match store.load(what.clone(), None, 4096).await {
            Ok(page) => rows.extend(page.into_iter().map(|(_, row)| row)),
            Err(error) => {
                ensure!(error.kind() == StoreErrorKind::Corrupt, "reading {what:?}: {error} is not Corrupt");
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(rows))
}

/// A store that has lost its end, or nearly everything, is `Corrupt` and left as it is, or opens with
/// rows that were written. It opens as an empty one only if almost nothing is left of the file.
pub async fn a_truncated_file_is_never_taken_for_an_empty_one(subject: &Subject) -> Verdict {
    let (seed, place) = (seed(), Place::new()?);
    let sound = sound(subject, &place).await?;
    let Some(main) = sound.main(&place) else { return no_file() };
    let mut random = Random::new(seed);
    let mut lengths = vec![main.len() / 2, main.len() * 3 / 4, main.len() - 1, main.len().saturating_sub(512), 1, 100];
    lengths.extend((0..subject.effort.damages / 4).map(|_| below(&mut random, main.len())));
    for length in lengths {
        let here = |e| broken(&format!("BYWAY_STORE_SEED={seed}, {length} of {} bytes are left", main.len()), e);
        sound.put(&place, &main[..length.min(main.len())])?;
        let before = content(subject, &place.root())?;
        match open(subject, &place).await.map_err(here)? {
            Err(error) => refused(subject, &place, &before, &error).map_err(here)?,
            Ok(store) => {
                let left = match rows(&*store).await.map_err(here)? {
                    Ok(_) => check(&*store, &BTreeSet::new()).await.map_err(here)?,
                    Err(_) => continue_damaged(&*store).await,
                };
                ensure!(left.is_subset(&sound.batches), "{}", here(Broken::new("rows that nobody wrote")));
                let told = left.is_empty() && length >= main.len() / 2;
                ensure!(!told, "{}", here(Broken::new("it opens as an empty store")));
                let _ = store.close().await;
            }
        }
    }
    Ok(Outcome::Kept)
}

/// Damage was told; what can be read besides does not matter.
async fn continue_damaged(store: &dyn RouteStore) -> BTreeSet<u64> {
    let _ = store.close().await;
    BTreeSet::from([0])
}

/// One bit of the first 64 bytes is flipped: the store is refused and left as it is, or everything is
/// there as if nothing had happened.
pub async fn a_damaged_header_is_told_or_harmless(subject: &Subject) -> Verdict {
    const HEADER: usize = 64;
    let (seed, place) = (seed(), Place::new()?);
    let sound = sound(subject, &place).await?;
    let Some(main) = sound.main(&place) else { return no_file() };
    let mut random = Random::new(seed);
    let first = (0..8 * 8).step_by(5);
    let others = (0..subject.effort.damages).map(|_| below(&mut random, 8 * HEADER.min(main.len())));
    for bit in first.chain(others) {
        let here = |e| broken(&format!("BYWAY_STORE_SEED={seed}, bit {} of byte {} is flipped", bit % 8, bit / 8), e);
        let mut damaged = main.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        sound.put(&place, &damaged)?;
        let before = content(subject, &place.root())?;
        match open(subject, &place).await.map_err(here)? {
            Err(error) => refused(subject, &place, &before, &error).map_err(here)?,
            Ok(store) => {
                if rows(&*store).await.map_err(here)?.is_ok() {
                    let mut batches = sound.batches.clone();
                    check(&*store, &batches).await.map_err(here)?;
                    works_on(&*store, &mut batches).await.map_err(here)?;
                }
                let _ = store.close().await;
            }
        }
    }
    Ok(Outcome::Kept)
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.next() % bound.max(1) as u64).unwrap_or(0)
}

/// A file of an older version opens with everything that is in it, takes new batches, and keeps both.
pub async fn an_older_file_is_read_and_written(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    let Some(want) = subject.files.older(&place.store()).await else {
        return Ok(Outcome::Skipped("the store has no older version".to_owned()));
    };
    for (time, answer) in [("the first", Applied::Done), ("another", Applied::Duplicate)] {
        let store = place.open(subject).await.map_err(|e| broken("an older file does not open", e))?;
        let mut there = Vec::new();
        let mut loads = vec![Load::Routes { user: None }, Load::Records { user: None }, Load::Outbox, Load::Inbox];
        loads.extend([Load::Seen, Load::Meta { prefix: String::new() }, Load::Pins, Load::Blocked]);
        for row in &want {
            match row {
                Row::Outbox(row) => loads.push(Load::OutboxContent(row.message)),
                Row::Inbox(row) => {
                    loads.push(Load::InboxContent { from_peer: row.from_peer, epoch: row.epoch, seq: row.seq });
                }
                _ => {}
            }
        }
        for what in loads {
            there.extend(all(&*store, what).await?);
        }
        for row in &want {
            ensure!(there.contains(row), "opened {time} time, an older file has lost {row:?}");
        }
        let applied = store.apply(&durable(1)).await.map_err(|e| broken("an older file takes no batch", e))?;
        ensure!(applied == [answer; 2], "opened {time} time, a batch is {applied:?}");
        store.close().await.map_err(|e| broken("it does not close", e))?;
    }
    Ok(Outcome::Kept)
}

/// A file of a newer version is `NewerSchema` and is left as it is.
pub async fn a_newer_file_is_refused(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    sound(subject, &place).await?;
    if !subject.files.newer(&place.store()).await {
        return Ok(Outcome::Skipped("the store cannot be made one of a newer version".to_owned()));
    }
    let before = content(subject, &place.root())?;
    match open(subject, &place).await? {
        Ok(_) => Err(Broken::new("a newer file is opened")),
        Err(error) => {
            ensure!(error.kind() == StoreErrorKind::NewerSchema, "{error} is not NewerSchema");
            refused(subject, &place, &before, &error)?;
            Ok(Outcome::Kept)
        }
    }
}
