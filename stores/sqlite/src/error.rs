//! What SQLite reports, as a [`StoreError`] that says what a person can do.

use std::path::Path;

use byway_api::{StoreError, StoreErrorKind};
use rusqlite::{Error, ErrorCode, ffi};

pub(crate) const NAME: &str = "sqlite";

/// The kind of an error of SQLite.
pub(crate) fn kind(error: &Error) -> StoreErrorKind {
    match error {
        // A number in the header that no SQLite ever wrote; it has no code of its own.
        Error::SqliteFailure(_, Some(why)) if why == "unsupported file format" => StoreErrorKind::Corrupt,
        Error::SqliteFailure(failure, _) => code_kind(*failure),
        // A value that is in no row this store ever wrote.
        Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..) => {
            StoreErrorKind::Corrupt
        }
        _ => StoreErrorKind::Io,
    }
}

fn code_kind(failure: ffi::Error) -> StoreErrorKind {
    // The shared-memory file is made and enlarged when a store is opened; that it could not be is what
    // a full disk looks like there.
    if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
        return StoreErrorKind::DiskFull;
    }
    match failure.code {
        ErrorCode::DiskFull => StoreErrorKind::DiskFull,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreErrorKind::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Corrupt,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreErrorKind::Busy
        }
        ErrorCode::TooBig => StoreErrorKind::TooLarge,
        _ => StoreErrorKind::Io,
    }
}

/// True if what the file holds is not certain any more: the disk failed, or the file is damaged.
pub(crate) fn is_fatal(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::CannotOpen)
    )
}

/// An error of SQLite at the file.
pub(crate) fn of(path: &Path, error: Error) -> StoreError {
    let kind = kind(&error);
    let path = path.display();
    let detail = match kind {
        StoreErrorKind::DiskFull => format!("free some space for {path}"),
        StoreErrorKind::ReadOnly => format!("make {path}, its -wal and -shm files and its directory writable"),
        StoreErrorKind::Corrupt => {
            format!("{path}: restore it from a copy, or move it away to start with an empty one")
        }
        StoreErrorKind::Busy => format!("another program holds a lock on {path}: close it"),
        StoreErrorKind::TooLarge => format!("{path}"),
        _ if error.sqlite_error_code() == Some(ErrorCode::ApiMisuse) => "the call is wrong".to_owned(),
        _ => format!("{path}: open the store again"),
    };
    StoreError::new(kind, NAME, detail).with_source(error)
}

/// An error of the file system that did not come through SQLite.
pub(crate) fn io(detail: String, error: std::io::Error) -> StoreError {
    byway_store_file::io_error(NAME, detail, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_sqlite_have_kinds() {
        for (code, want, fatal) in [
            (ffi::SQLITE_FULL, StoreErrorKind::DiskFull, false),
            (ffi::SQLITE_IOERR_SHMSIZE, StoreErrorKind::DiskFull, true),
            (ffi::SQLITE_READONLY, StoreErrorKind::ReadOnly, false),
            (ffi::SQLITE_READONLY_DIRECTORY, StoreErrorKind::ReadOnly, false),
            (ffi::SQLITE_READONLY_CANTINIT, StoreErrorKind::ReadOnly, false),
            (ffi::SQLITE_PERM, StoreErrorKind::ReadOnly, false),
            (ffi::SQLITE_CORRUPT, StoreErrorKind::Corrupt, true),
            (ffi::SQLITE_NOTADB, StoreErrorKind::Corrupt, true),
            (ffi::SQLITE_BUSY, StoreErrorKind::Busy, false),
            (ffi::SQLITE_BUSY_RECOVERY, StoreErrorKind::Busy, false),
            (ffi::SQLITE_IOERR_FSYNC, StoreErrorKind::Io, true),
            (ffi::SQLITE_IOERR_WRITE, StoreErrorKind::Io, true),
            (ffi::SQLITE_IOERR_SHORT_READ, StoreErrorKind::Io, true),
            (ffi::SQLITE_CANTOPEN, StoreErrorKind::Io, true),
            (ffi::SQLITE_TOOBIG, StoreErrorKind::TooLarge, false),
        ] {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!((kind(&error), is_fatal(&error)), (want, fatal), "code {code}");
        }
    }

    #[test]
    fn errors_of_the_file_system_have_kinds() {
        for (code, want) in [(28, StoreErrorKind::DiskFull), (30, StoreErrorKind::ReadOnly), (5, StoreErrorKind::Io)] {
            assert_eq!(io(String::new(), std::io::Error::from_raw_os_error(code)).kind(), want, "errno {code}");
        }
    }
}
