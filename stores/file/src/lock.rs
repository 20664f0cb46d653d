//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use byway_api::{StoreError, StoreErrorKind};

use crate::io_error;

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a process that is just being started has a copy of it.
        let _ = self.0.unlock();
    }
}

/// Takes the lock of `database` for the store `plugin`: a file beside it, with `.lock` added to the name.
///
/// After a crash the operating system releases it; the file itself stays, because removing it would race
/// with the next owner. Does not wait.
///
/// # Errors
/// `Busy` if another store has it, in this process or in another, which the message names; `ReadOnly`,
/// `DiskFull` or `Io` if the lock file cannot be made.
pub fn acquire(database: &Path, plugin: &'static str) -> Result<Lock, StoreError> {
    let path = beside(database);
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file =
        opened.map_err(|e| io_error(plugin, format!("the lock file {} cannot be opened", path.display()), e))?;
    match file.try_lock() {
        Ok(()) => {
            // For the message of whoever comes second; a full disk is no reason not to open.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(Lock(file))
        }
        Err(TryLockError::WouldBlock) => Err(busy(database, plugin, &mut file)),
        Err(TryLockError::Error(e)) => Err(io_error(plugin, format!("{} cannot be locked", path.display()), e)),
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn busy(database: &Path, plugin: &'static str, file: &mut File) -> StoreError {
    const LONGEST_PROCESS_ID: u64 = 10;
    let mut owner = String::new();
    let read = file.rewind().and_then(|()| file.take(LONGEST_PROCESS_ID).read_to_string(&mut owner));
    let owner = match read {
        Ok(_) if owner.parse() == Ok(std::process::id()) => "another store in this process".to_owned(),
        Ok(1..) if owner.bytes().all(|b| b.is_ascii_digit()) => format!("process {owner}"),
        _ => "another process".to_owned(),
    };
    let path = database.display();
    StoreError::new(
        StoreErrorKind::Busy,
        plugin,
        format!("{owner} has {path} open: stop it, or give this node a profile directory of its own"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_comes_next() {
        let directory = tempfile::TempDir::new().unwrap();
        let database = directory.path().join("db");
        let first = acquire(&database, "test").unwrap();
        let error = acquire(&database, "test").unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy);
        assert!(error.to_string().contains("another store in this process"), "{error}");
        drop(first);
        acquire(&database, "test").unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let error = acquire(&directory.path().join("no/such/db"), "test").unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Io);
        assert!(error.to_string().contains("db.lock"), "{error}");
    }
}
