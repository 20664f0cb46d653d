//! A small sound key store in a file.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use byway_api::{KeyError, KeyErrorKind, KeyStore, Keys, SealSeed, Secret, WallTime};
use byway_testkit::keys::KeyStoreFixture;

#[derive(Debug)]
pub struct SmallFile;

impl KeyStoreFixture for SmallFile {
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
        Arc::new(Small(directory.join("keys")))
    }

    fn file(&self, directory: &Path) -> Option<PathBuf> {
        Some(directory.join("keys"))
    }
}

/// Layout: 40 bytes a seal key, the device seed, a sum of all that (FNV-1a).
#[derive(Debug)]
struct Small(PathBuf);

fn error(kind: KeyErrorKind) -> KeyError {
    KeyError::new(kind, "small", "")
}

fn sum(bytes: &[u8]) -> [u8; 8] {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    hash.to_be_bytes()
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}

impl KeyStore for Small {
    fn load(&self) -> Result<Option<Keys>, KeyError> {
        if others_may_read(&self.0) {
            return Err(error(KeyErrorKind::Permissions));
        }
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(error(KeyErrorKind::Io).with_source(e)),
        };
        let corrupt = || error(KeyErrorKind::Corrupt);
        let (bytes, sum_there) = bytes.split_last_chunk::<8>().ok_or_else(corrupt)?;
        if sum(bytes) != *sum_there {
            return Err(corrupt());
        }
        let (seals, device) = bytes.split_last_chunk::<32>().ok_or_else(corrupt)?;
        let seal = |row: &[u8]| SealSeed {
            created_at: WallTime::from_millis(i64::from_be_bytes(row[..8].try_into().unwrap())),
            seed: Secret::new(row[8..].try_into().unwrap()),
        };
        Ok(Some(Keys::new(Secret::new(*device), seals.chunks_exact(40).map(seal).collect())))
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        let mut bytes = Vec::new();
        for seal in &keys.seal {
            bytes.extend_from_slice(&seal.created_at.as_millis().to_be_bytes());
            bytes.extend_from_slice(seal.seed.expose());
        }
        bytes.extend_from_slice(keys.device.expose());
        bytes.extend_from_slice(&sum(&bytes));
        let new = self.0.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // a store that is to survive a power cut syncs the file before the renaming, and the directory after it
        let written = options.open(&new).and_then(|mut file| file.write_all(&bytes));
        written.and_then(|()| fs::rename(&new, &self.0)).map_err(|e| error(KeyErrorKind::Io).with_source(e))
    }
}
