use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use byway_api::{KeyStore, Keys};

use super::fixture::{KeyStoreFixture, Scratch, keys, load, no_file, save};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// Tells a started test binary in which directory to save, until it is killed.
const DIRECTORY: &str = "BYWAY_KEYS_CRASH";
/// The end of this test's name, whatever suite it is in.
const NAME: &str = "::a_crash_leaves_the_old_or_the_new_keys";

fn old() -> Keys {
    keys(1, 3)
}

fn new() -> Keys {
    keys(50, 30)
}

/// At no moment of a save is there anything but the old or the new keys, also if the process is killed
/// then; and the next process can save.
pub async fn a_crash_leaves_the_old_or_the_new_keys(fixture: &dyn KeyStoreFixture) -> Verdict {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        save_until_killed(fixture, &directory, fixture.limits().deadline);
    }
    let scratch = Scratch::new()?;
    let store = fixture.open(scratch.path());
    save(&*store, &old())?;
    watch_saves(&*store)?;
    if fixture.file(scratch.path()).is_none() {
        return Ok(Outcome::Kept);
    }
    // without the name of this test (it runs in the main thread, or outside of a macro) no process can be
    // told to do the same
    if let Some(test) = std::thread::current().name().filter(|name| name.ends_with(NAME)) {
        for round in 1..=3 {
            kill_while_saving(fixture, test, round)?;
        }
    } else {
        println!("no process was killed: the name of the test is not known");
    }
    Ok(Outcome::Kept)
}

/// One thread saves, this one looks.
fn watch_saves(store: &dyn KeyStore) -> Result<(), Broken> {
    const SAVES: usize = 8;
    let saving = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let saver = scope.spawn(|| {
            let saved = (0..SAVES).try_for_each(|n| save(store, &if n % 2 == 0 { new() } else { old() }));
            saving.store(false, Ordering::Release);
            saved
        });
        let mut seen = Ok(());
        while saving.load(Ordering::Acquire) && seen.is_ok() {
            seen = whole(store, "while others were being saved");
        }
        saver.join().map_err(|_| Broken::new("a save panicked"))?.and(seen)
    })
}

fn whole(store: &dyn KeyStore, when: &str) -> Result<(), Broken> {
    match store.load() {
        Ok(Some(keys)) if keys == old() || keys == new() => Ok(()),
        Ok(Some(_)) => Err(Broken::new(format!("{when}: neither the old nor the new keys"))),
        Ok(None) => Err(Broken::new(format!("{when}: no keys"))),
        Err(e) => Err(Broken::new(format!("{when}: {e}"))),
    }
}

/// The part of the process that is to be killed.
fn save_until_killed(fixture: &dyn KeyStoreFixture, directory: &OsStr, deadline: Duration) {
    let store = fixture.open(Path::new(directory));
    let start = Instant::now();
    while start.elapsed() < deadline {
        // an error is seen by the parent: it waits for the keys
        let _ = store.save(&new()).and_then(|()| store.save(&old()));
    }
    std::process::exit(1);
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill_while_saving(fixture: &dyn KeyStoreFixture, test: &str, round: usize) -> Result<(), Broken> {
    let start = |e: std::io::Error| Broken::new(format!("the test binary could not be started again: {e}"));
    let scratch = Scratch::new()?;
    let store = fixture.open(scratch.path());
    let child = Command::new(std::env::current_exe().map_err(start)?)
        .args(["--exact", test, "--test-threads", "1"])
        .env(DIRECTORY, scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let mut child = Killed(child);
    let waiting = Instant::now();
    let patience = fixture.limits().patience;
    // so many changes later, to be killed in other moments of a save
    let (mut changes, mut last) = (0, None);
    while changes < round * 3 {
        let loaded = store.load().ok().flatten();
        if loaded != last {
            last = loaded;
            changes += 1;
        }
        let ended = child.0.try_wait().map_err(start)?;
        ensure!(ended.is_none(), "the process that saves has ended: {ended:?}");
        ensure!(waiting.elapsed() < patience, "the process that saves did not within {patience:?}");
    }
    child.0.kill().and_then(|()| child.0.wait()).map_err(start)?;
    let reopened = fixture.open(scratch.path());
    whole(&*reopened, "after the process was killed")?;
    save(&*reopened, &keys(100, 1))?;
    ensure!(load(&*reopened)? == Some(keys(100, 1)), "after the process was killed a save has no effect");
    Ok(())
}

/// A save that cannot be made durable fails, and the old keys are still there.
pub async fn a_failed_save_keeps_the_old_keys(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    let (home, away): (PathBuf, PathBuf) = (scratch.path().join("home"), scratch.path().join("away"));
    if fixture.file(&home).is_none() {
        return Ok(no_file());
    }
    let io = |e: std::io::Error| Broken::new(format!("{}: {e}", home.display()));
    fs::create_dir(&home).map_err(io)?;
    let store = fixture.open(&home);
    save(&*store, &old())?;
    fs::rename(&home, &away).map_err(io)?;
    let saved = store.save(&new());
    if saved.is_ok() {
        ensure!(home.exists(), "the directory is gone, and save says that the keys are there");
        return Ok(Outcome::Skipped("the store makes its directory again".to_owned()));
    }
    fs::rename(&away, &home).map_err(io)?;
    ensure!(load(&*store)? == Some(old()), "a save failed, and the old keys are gone");
    save(&*store, &new())?;
    ensure!(load(&*store)? == Some(new()), "after a save that failed another one has no effect");
    Ok(Outcome::Kept)
}
