use std::io::{Error, ErrorKind};

use byway_api::{StoreError, StoreErrorKind};

/// An error of the file system, as the error of the store `plugin`.
///
/// `ReadOnly` where writing is not allowed, `DiskFull` where there is no room, else `Io`.
pub fn io_error(plugin: &'static str, detail: impl Into<String>, error: Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::DiskFull,
        _ => StoreErrorKind::Io,
    };
    StoreError::new(kind, plugin, detail).with_source(error)
}
