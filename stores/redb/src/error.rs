//! What redb reports, as a [`StoreError`] that says what a person can do.

use std::io;

use byway_api::{StoreError, StoreErrorKind};

use crate::codec::Damaged;

pub(crate) const NAME: &str = "redb";

/// Why a transaction or a page failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Redb(redb::Error),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The key of a page that this store did not make, or made for another load.
    #[error("the key is not of this load")]
    ForeignKey,
}

macro_rules! from_redb {
    ($($error:ident)+) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        })+
    };
}

from_redb!(StorageError TableError TransactionError CommitError SetDurabilityError DatabaseError);

/// Marks an error of an fsync: whatever its cause, what is on the disk is not certain any more.
#[derive(Debug, thiserror::Error)]
#[error("the disk could not be flushed: {0}")]
pub(crate) struct NotFlushed(#[source] pub(crate) io::Error);

impl Failure {
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Redb(error) => match error {
                redb::Error::Io(error) => io_kind(error),
                redb::Error::Corrupted(_)
                | redb::Error::UpgradeRequired(_)
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TypeDefinitionChanged { .. } => StoreErrorKind::Corrupt,
                redb::Error::DatabaseAlreadyOpen => StoreErrorKind::Busy,
                redb::Error::ValueTooLarge(_) => StoreErrorKind::TooLarge,
                _ => StoreErrorKind::Io,
            },
            Self::Damaged(_) => StoreErrorKind::Corrupt,
            Self::ForeignKey => StoreErrorKind::Io,
        }
    }

    /// Whether an earlier error has ended this use of the file, which is opened again or given up.
    pub(crate) fn is_consequence(&self) -> bool {
        matches!(self, Self::Redb(redb::Error::PreviousIo))
    }

    /// True if what the file holds is not certain any more: the disk failed, or the file is damaged.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::ForeignKey) && self.kind() != StoreErrorKind::TooLarge
    }

    /// An error at the file, or storage, called `name`.
    pub(crate) fn at(self, name: &str) -> StoreError {
        let kind = self.kind();
        let detail = match kind {
            StoreErrorKind::DiskFull => format!("free some space for {name}"),
            StoreErrorKind::ReadOnly => format!("make {name} and its directory writable"),
            StoreErrorKind::Corrupt => {
                format!("{name}: restore it from a copy, or move it away to start with an empty one")
            }
            StoreErrorKind::Busy => format!("another program has {name} open: close it"),
            StoreErrorKind::TooLarge => name.to_owned(),
            _ if matches!(self, Self::ForeignKey) => "the call is wrong".to_owned(),
            _ => format!("{name}: open the store again"),
        };
        StoreError::new(kind, NAME, detail).with_source(self)
    }
}

fn io_kind(error: &io::Error) -> StoreErrorKind {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::DiskFull,
        // No redb database, or one whose end is missing.
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Io,
    }
}

/// An error of the file system that did not come through redb.
pub(crate) fn io(detail: String, error: io::Error) -> StoreError {
    StoreError::new(io_kind(&error), NAME, detail).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_redb_have_kinds() {
        let of_disk = |error: io::Error| Failure::from(redb::StorageError::Io(error));
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for (failure, kind, fatal) in [
            (of_disk(full()), StoreErrorKind::DiskFull, true),
            (of_disk(io::Error::other(NotFlushed(full()))), StoreErrorKind::Io, true),
            (of_disk(io::ErrorKind::ReadOnlyFilesystem.into()), StoreErrorKind::ReadOnly, true),
            (of_disk(io::ErrorKind::InvalidData.into()), StoreErrorKind::Corrupt, true),
            (of_disk(io::ErrorKind::UnexpectedEof.into()), StoreErrorKind::Corrupt, true),
            (of_disk(io::Error::from_raw_os_error(5)), StoreErrorKind::Io, true),
            (redb::StorageError::Corrupted(String::new()).into(), StoreErrorKind::Corrupt, true),
            (redb::StorageError::PreviousIo.into(), StoreErrorKind::Io, true),
            (redb::StorageError::ValueTooLarge(9).into(), StoreErrorKind::TooLarge, false),
            (redb::DatabaseError::DatabaseAlreadyOpen.into(), StoreErrorKind::Busy, true),
            (redb::DatabaseError::UpgradeRequired(1).into(), StoreErrorKind::Corrupt, true),
            (Failure::ForeignKey, StoreErrorKind::Io, false),
        ] {
            assert_eq!((failure.kind(), failure.is_fatal()), (kind, fatal), "{failure}");
        }
    }
}
