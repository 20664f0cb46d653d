use std::sync::Arc;

use byway_api::{KeyStore, Keys, SealSeed, WallTime};

use super::fixture::{KeyStoreFixture, Scratch, keys, load, save, secret, shows};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// A store that nothing was saved in answers `None`, and makes no keys up.
pub async fn an_empty_store_has_no_keys(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    let store = fixture.open(scratch.path());
    for _ in 0..2 {
        let loaded = load(&*store)?;
        ensure!(loaded.is_none(), "nothing was saved, and there are keys");
    }
    if let Some(file) = fixture.file(scratch.path()) {
        ensure!(!file.exists(), "nothing was saved, and {} was made", file.display());
    }
    Ok(Outcome::Kept)
}

/// What was saved is loaded: every seed and every time, in their order.
pub async fn what_was_saved_is_loaded(fixture: &dyn KeyStoreFixture) -> Verdict {
    let odd = |at: i64| SealSeed { seed: secret(200), created_at: WallTime::from_millis(at) };
    let odd = Keys::new(secret(199), vec![odd(i64::MIN), odd(-1), odd(0), odd(i64::MAX)]);
    for saved in [keys(1, 0), keys(2, 1), keys(3, 40), odd] {
        let scratch = Scratch::new()?;
        let store = fixture.open(scratch.path());
        save(&*store, &saved)?;
        let loaded = load(&*store)?;
        let seals = saved.seal.len();
        ensure!(loaded == Some(saved), "keys with {seals} seal seeds were saved, and others were loaded");
    }
    Ok(Outcome::Kept)
}

/// A store that is opened again has the keys.
pub async fn keys_survive_reopening(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    save(&*fixture.open(scratch.path()), &keys(1, 3))?;
    for _ in 0..2 {
        let loaded = load(&*fixture.open(scratch.path()))?;
        ensure!(loaded == Some(keys(1, 3)), "the store was opened again, and the keys are not those that were saved");
    }
    Ok(Outcome::Kept)
}

/// The last save counts, and nothing of those before it.
pub async fn a_save_replaces_the_keys(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    let store = fixture.open(scratch.path());
    for next in [keys(1, 3), keys(1, 2), keys(50, 3), keys(50, 0)] {
        save(&*store, &next)?;
        let loaded = load(&*store)?;
        ensure!(loaded.as_ref() == Some(&next), "keys were saved over others, and the loaded ones are not the last");
    }
    Ok(Outcome::Kept)
}

/// Neither the store's `Debug` nor a refusal shows a secret.
pub async fn secrets_do_not_show(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    let store = fixture.open(scratch.path());
    let secrets = keys(1, 3);
    save(&*store, &secrets)?;
    let mut texts = vec![format!("{store:?} {:?}", load(&*store)?)];
    if let Some(file) = fixture.file(scratch.path()) {
        let mut spoilt = std::fs::read(&file).map_err(|e| Broken::new(format!("{}: {e}", file.display())))?;
        spoilt.truncate(spoilt.len() - spoilt.len() / 4);
        std::fs::write(&file, &spoilt).map_err(|e| Broken::new(format!("{}: {e}", file.display())))?;
        // whether this is a refusal is another promise
        if let Err(e) = store.load() {
            texts.push(format!("{e} {e:?}"));
        }
    }
    for text in &texts {
        for secret in secrets.seal.iter().map(|seal| &seal.seed).chain([&secrets.device]) {
            ensure!(!shows(text.as_bytes(), secret), "a secret is shown in a text of {} bytes", text.len());
        }
    }
    Ok(Outcome::Kept)
}

/// Loads at the same time all succeed.
pub async fn loads_may_run_at_once(fixture: &dyn KeyStoreFixture) -> Verdict {
    const READERS: usize = 4;
    const LOADS: usize = 25;
    let scratch = Scratch::new()?;
    let store: Arc<dyn KeyStore> = fixture.open(scratch.path());
    let saved = keys(1, 3);
    save(&*store, &saved)?;
    let read = || (0..LOADS).try_for_each(|_| load(&*store).map(|loaded| equal(loaded.as_ref(), &saved))?);
    let all: Result<Vec<()>, Broken> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let join = |reader: std::thread::ScopedJoinHandle<'_, Result<(), Broken>>| {
            reader.join().map_err(|_| Broken::new("a load panicked")).and_then(|read| read)
        };
        readers.into_iter().map(join).collect()
    });
    all?;
    Ok(Outcome::Kept)
}

fn equal(loaded: Option<&Keys>, saved: &Keys) -> Result<(), Broken> {
    ensure!(loaded == Some(saved), "of several loads at once one gave other keys");
    Ok(())
}
