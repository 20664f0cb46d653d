//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use byway_api::{StoreError, StoreErrorKind};

use crate::error::{NAME, io};

/// The lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a process that is just being started has a copy of it.
        let _ = self.0.unlock();
    }
}

/// Takes the lock beside the database. After a crash the operating system releases it; the file itself
/// stays, because removing it would race with the next owner.
pub(crate) fn acquire(database: &Path) -> Result<Lock, StoreError> {
    let path = beside(database);
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = opened.map_err(|e| io(format!("the lock file {} cannot be opened", path.display()), e))?;
    match file.try_lock() {
        Ok(()) => {
            // For the message of whoever comes second; a full disk is no reason not to open.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(Lock(file))
        }
        Err(TryLockError::WouldBlock) => Err(busy(database, &mut file)),
        Err(TryLockError::Error(e)) => Err(io(format!("{} cannot be locked", path.display()), e)),
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn busy(database: &Path, file: &mut File) -> StoreError {
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
        NAME,
        format!("{owner} has {path} open: stop it, or give this node a profile directory of its own"),
    )
}
