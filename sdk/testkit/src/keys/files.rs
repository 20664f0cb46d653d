use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::fixture::{KeyStoreFixture, Scratch, keys, load, no_file, save, shows};
use crate::promise::{Broken, Outcome, Verdict, ensure};

fn io(file: &Path) -> impl Fn(std::io::Error) -> Broken {
    move |e| Broken::new(format!("{}: {e}", file.display()))
}

/// Seeds that were left out of a save are in no file any more.
pub async fn what_was_replaced_is_gone(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    if fixture.file(scratch.path()).is_none() {
        return Ok(no_file());
    }
    let store = fixture.open(scratch.path());
    let old = keys(1, 3);
    save(&*store, &old)?;
    save(&*store, &keys(50, 2))?;
    for entry in fs::read_dir(scratch.path()).map_err(io(scratch.path()))? {
        let path = entry.map_err(io(scratch.path()))?.path();
        let content = fs::read(&path).map_err(io(&path))?;
        for secret in old.seal.iter().map(|seal| &seal.seed).chain([&old.device]) {
            ensure!(!shows(&content, secret), "a secret that was replaced is still in {}", path.display());
        }
    }
    Ok(Outcome::Kept)
}

#[cfg(not(unix))]
fn no_modes() -> Outcome {
    Outcome::Skipped("files of this system have no mode".to_owned())
}

/// Nobody but the owner may read the file, after the first save and after later ones.
#[cfg(not(unix))]
pub async fn only_the_owner_may_read(_: &dyn KeyStoreFixture) -> Verdict {
    Ok(no_modes())
}

/// A file that others may read is refused, as `Permissions`, until they may not.
#[cfg(not(unix))]
pub async fn keys_that_others_may_read_are_refused(_: &dyn KeyStoreFixture) -> Verdict {
    Ok(no_modes())
}

/// Nobody but the owner may read the file, after the first save and after later ones.
#[cfg(unix)]
pub async fn only_the_owner_may_read(fixture: &dyn KeyStoreFixture) -> Verdict {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new()?;
    let Some(file) = fixture.file(scratch.path()) else { return Ok(no_file()) };
    let store = fixture.open(scratch.path());
    for n in [1, 50] {
        save(&*store, &keys(n, 2))?;
        let mode = fs::metadata(&file).map_err(io(&file))?.permissions().mode() & 0o777;
        ensure!(mode & 0o177 == 0, "{} has mode {mode:o}, not 600", file.display());
    }
    Ok(Outcome::Kept)
}

/// A file that others may read is refused, as `Permissions`, until they may not.
#[cfg(unix)]
pub async fn keys_that_others_may_read_are_refused(fixture: &dyn KeyStoreFixture) -> Verdict {
    use std::os::unix::fs::PermissionsExt as _;

    use byway_api::{KeyError, KeyErrorKind};
    let scratch = Scratch::new()?;
    let Some(file) = fixture.file(scratch.path()) else { return Ok(no_file()) };
    let store = fixture.open(scratch.path());
    save(&*store, &keys(1, 2))?;
    for mode in [0o640, 0o604, 0o660, 0o620] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).map_err(io(&file))?;
        let kind = store.load().as_ref().map_err(KeyError::kind).err();
        ensure!(kind == Some(KeyErrorKind::Permissions), "a file of mode {mode:o} gave {kind:?}, not Permissions");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(io(&file))?;
    ensure!(load(&*store)? == Some(keys(1, 2)), "a file that is its owner's again gave other keys");
    Ok(Outcome::Kept)
}

/// Changes the content of a file in place: some file systems wait for the disk when a file is emptied first.
fn overwrite(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut open = fs::OpenOptions::new().write(true).open(file)?;
    open.write_all(bytes)?;
    open.set_len(bytes.len() as u64)
}

/// A file that was cut, changed in any bit or replaced by something else is `Corrupt`: never no keys, never
/// other keys, and never replaced.
pub async fn damage_is_an_error(fixture: &dyn KeyStoreFixture) -> Verdict {
    let scratch = Scratch::new()?;
    let Some(file) = fixture.file(scratch.path()) else { return Ok(no_file()) };
    let store = fixture.open(scratch.path());
    save(&*store, &keys(1, 2))?;
    let good = fs::read(&file).map_err(io(&file))?;
    let flipped = |bit: usize| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        (format!("bit {bit} of {} flipped", good.len() * 8), bytes)
    };
    let cut = |length: usize| (format!("cut at {length} of {}", good.len()), good[..length].to_vec());
    let others = [("zeros", vec![0; good.len()]), ("another text", b"not a key in sight\n".to_vec())];
    let damaged = (0..good.len()).map(cut).chain((0..good.len() * 8).map(flipped));
    for (what, bytes) in damaged.chain(others.map(|(what, bytes)| (what.to_owned(), bytes))) {
        overwrite(&file, &bytes).map_err(io(&file))?;
        match store.load() {
            Err(e) if e.kind() == byway_api::KeyErrorKind::Corrupt => {}
            Err(e) => return Err(Broken::new(format!("{what}: not Corrupt, but {e}"))),
            // some bits, such as the last line's end, may mean nothing
            Ok(Some(loaded)) if loaded == keys(1, 2) => {}
            Ok(Some(_)) => return Err(Broken::new(format!("{what}: other keys were loaded"))),
            Ok(None) => return Err(Broken::new(format!("{what}: there are said to be no keys"))),
        }
        let after = fs::read(&file).map_err(io(&file))?;
        ensure!(after == bytes, "{what}: the file was changed by a load");
    }
    Ok(Outcome::Kept)
}
