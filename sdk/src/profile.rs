//! The directory in which a device lives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of one device in one network.
///
/// | file | what it is |
/// |---|---|
/// | `keys` | the device's secrets ([`FileKeys`](crate::FileKeys)); whoever has it is the device |
/// | `byway.sqlite` (and `-wal`, `-shm`, lock) | routes, messages on their way, pins, the listener's port |
///
/// One node at a time: a second one that opens the same directory is told that the store is busy.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    directory: PathBuf,
}

impl Profile {
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, for its owner only, unless it is there.
    pub(crate) fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.directory)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.directory.join("keys")
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.join("byway.sqlite")
    }
}
