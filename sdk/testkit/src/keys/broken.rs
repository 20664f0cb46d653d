//! Key stores that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{KeyError, KeyErrorKind, KeyStore, Keys, Secret};

use super::fixture::{KeyStoreFixture, Limits};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Makes keys up when there are none.
    MakesKeysUp,
    /// Keeps at most ten seal seeds.
    KeepsTen,
    /// Knows only what was saved since it was opened.
    ForgetsOnReopening,
    /// The first save is the last one that counts.
    SavesOnce,
    /// Keeps a copy of what was replaced.
    KeepsACopy,
    /// Empties the file before it writes it.
    Tears,
    /// Forgets the keys when a save fails.
    ForgetsOnFailure,
    /// Lets others read the file.
    LetsOthersRead,
    /// Reads a file whoever else may read it.
    ReadsAnything,
    /// Takes a damaged file for none.
    NewOnDamage,
    /// Its `Debug` has the secrets.
    ShowsSecrets,
    /// Two loads at once fail.
    OneReader,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::MakesKeysUp, &["an_empty_store_has_no_keys"]),
        (Self::KeepsTen, &["what_was_saved_is_loaded"]),
        (Self::ForgetsOnReopening, &["keys_survive_reopening"]),
        (Self::SavesOnce, &["a_save_replaces_the_keys"]),
        (Self::KeepsACopy, &["what_was_replaced_is_gone"]),
        (Self::Tears, &["a_crash_leaves_the_old_or_the_new_keys"]),
        (Self::ForgetsOnFailure, &["a_failed_save_keeps_the_old_keys"]),
        (Self::LetsOthersRead, &["only_the_owner_may_read"]),
        (Self::ReadsAnything, &["keys_that_others_may_read_are_refused"]),
        (Self::NewOnDamage, &["damage_is_an_error"]),
        (Self::ShowsSecrets, &["secrets_do_not_show"]),
        (Self::OneReader, &["loads_may_run_at_once"]),
    ];
}

/// A fixture whose key stores have one [`Fault`]. The inner ones keep a file.
#[derive(Debug)]
pub struct BrokenFixture<F> {
    inner: F,
    fault: Fault,
}

impl<F> BrokenFixture<F> {
    /// Breaks the key stores of a sound fixture.
    pub const fn new(inner: F, fault: Fault) -> Self {
        Self { inner, fault }
    }
}

impl<F: KeyStoreFixture> KeyStoreFixture for BrokenFixture<F> {
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
        Arc::new(BrokenKeys {
            inner: self.inner.open(directory),
            fault: self.fault,
            file: self.inner.file(directory).unwrap_or_else(|| directory.join("none")),
            last: Mutex::default(),
            loading: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            one_by_one: Mutex::default(),
        })
    }

    fn file(&self, directory: &Path) -> Option<PathBuf> {
        self.inner.file(directory)
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

struct BrokenKeys {
    inner: Arc<dyn KeyStore>,
    fault: Fault,
    file: PathBuf,
    /// What was saved last through this handle.
    last: Mutex<Option<Keys>>,
    loading: AtomicBool,
    failed: AtomicBool,
    one_by_one: Mutex<()>,
}

impl fmt::Debug for BrokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fault, &*lock(&self.last)) {
            (Fault::ShowsSecrets, Some(keys)) => write!(f, "BrokenKeys({:?})", keys.device.expose()),
            _ => f.write_str("BrokenKeys(..)"),
        }
    }
}

#[cfg(unix)]
fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(file, fs::Permissions::from_mode(mode));
}

#[cfg(unix)]
fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).map_or(0, |about| about.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

#[cfg(not(unix))]
fn mode(_: &Path) -> u32 {
    0
}

/// A mode that only this fault gives a file.
const OTHERS_MAY_READ: u32 = 0o644;

impl KeyStore for BrokenKeys {
    fn load(&self) -> Result<Option<Keys>, KeyError> {
        /// Long enough for another load to come.
        const WHILE: Duration = Duration::from_millis(2);
        let busy = || KeyError::new(KeyErrorKind::Io, "broken", "another load is under way");
        match self.fault {
            Fault::MakesKeysUp => {
                let made_up = Keys::new(Secret::new([1; 32]), Vec::new());
                self.inner.load().map(|keys| keys.or(Some(made_up)))
            }
            Fault::ForgetsOnReopening if lock(&self.last).is_none() => Ok(None),
            Fault::ForgetsOnFailure if self.failed.load(Ordering::Relaxed) => Ok(None),
            Fault::LetsOthersRead => {
                let _one = lock(&self.one_by_one);
                let ours = mode(&self.file) == OTHERS_MAY_READ;
                if ours {
                    set_mode(&self.file, 0o600);
                }
                let loaded = self.inner.load();
                if ours {
                    set_mode(&self.file, OTHERS_MAY_READ);
                }
                loaded
            }
            Fault::ReadsAnything => {
                set_mode(&self.file, 0o600);
                self.inner.load()
            }
            Fault::NewOnDamage => match self.inner.load() {
                Err(e) if e.kind() == KeyErrorKind::Corrupt => Ok(None),
                loaded => loaded,
            },
            Fault::OneReader => {
                if self.loading.swap(true, Ordering::AcqRel) {
                    return Err(busy());
                }
                std::thread::sleep(WHILE);
                let loaded = self.inner.load();
                self.loading.store(false, Ordering::Release);
                loaded
            }
            _ => self.inner.load(),
        }
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        /// Long enough for a look at the file.
        const WHILE: Duration = Duration::from_millis(2);
        let _one = lock(&self.one_by_one);
        let mut keys = keys.clone();
        match self.fault {
            Fault::KeepsTen if keys.seal.len() == 40 => keys.seal.truncate(10),
            // a rotation that changes only the seal seeds
            Fault::SavesOnce if lock(&self.last).as_ref().is_some_and(|last| last.device == keys.device) => {
                return Ok(());
            }
            Fault::KeepsACopy => drop(fs::copy(&self.file, self.file.with_extension("old"))),
            Fault::Tears if lock(&self.last).is_some() => {
                if let Ok(text) = fs::read(&self.file) {
                    let _ = fs::write(&self.file, &text[..text.len() / 2]);
                    std::thread::sleep(WHILE);
                    let _ = fs::write(&self.file, &text);
                }
            }
            _ => {}
        }
        let saved = self.inner.save(&keys);
        self.failed.store(saved.is_err(), Ordering::Relaxed);
        if saved.is_ok() {
            *lock(&self.last) = Some(keys);
        }
        if self.fault == Fault::LetsOthersRead {
            set_mode(&self.file, OTHERS_MAY_READ);
        }
        saved
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
