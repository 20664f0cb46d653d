use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use byway_api::{KeyStore, Keys, SealSeed, Secret, WallTime};

use crate::promise::{Broken, Outcome};

/// What the suite grants a key store.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 60 s.
    pub deadline: Duration,
    /// A process that saves has done so. Default 15 s.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), patience: Duration::from_secs(15) }
    }
}

/// Makes the key store under test.
pub trait KeyStoreFixture: Send + Sync + 'static {
    /// Opens the store in this directory: empty the first time, over the same keys afterwards, as a
    /// restarted process would.
    fn open(&self, directory: &Path) -> Arc<dyn KeyStore>;

    /// The file in which such a store keeps all keys; `None` if it has none. Promises about files are
    /// skipped then: about damage, permissions and crashes, so that little is left to be shown.
    fn file(&self, directory: &Path) -> Option<PathBuf> {
        let _ = directory;
        None
    }

    /// What the suite grants this store.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// A directory of one promise, gone at its end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, Broken> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("byway-keys-{}-{number}", std::process::id()));
        // what a killed process with the same number has left
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|e| Broken::new(format!("{}: {e}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn no_file() -> Outcome {
    Outcome::Skipped("the store has no file".to_owned())
}

/// 32 bytes that look like nothing else (SplitMix64).
pub(super) fn secret(n: u8) -> Secret {
    let mut state = u64::from(n);
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
    }
    Secret::new(bytes)
}

/// Keys with so many seal seeds, all told apart by `n`.
pub(super) fn keys(n: u8, seals: u8) -> Keys {
    let seal = |at: u8| SealSeed {
        seed: secret(n.wrapping_add(at).wrapping_add(1)),
        created_at: WallTime::from_millis(1_800_000_000_000 + i64::from(at) * 86_400_000),
    };
    Keys::new(secret(n), (0..seals).map(seal).collect())
}

pub(super) fn save(store: &dyn KeyStore, keys: &Keys) -> Result<(), Broken> {
    store.save(keys).map_err(|e| Broken::new(format!("save failed: {e}")))
}

pub(super) fn load(store: &dyn KeyStore) -> Result<Option<Keys>, Broken> {
    store.load().map_err(|e| Broken::new(format!("load failed: {e}")))
}

/// The secret as it could stand in a file or a text.
pub(super) fn spellings(secret: &Secret) -> Vec<Vec<u8>> {
    let bytes = secret.expose();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let url = byway_wire::base64url::encode(bytes);
    let plain = url.replace('-', "+").replace('_', "/");
    let texts = [hex.to_uppercase(), hex, list.join(", "), list.join(","), url, plain];
    texts.into_iter().map(String::into_bytes).chain([bytes.to_vec()]).collect()
}

/// Whether `text` has the secret, or its first half, in some spelling.
pub(super) fn shows(text: &[u8], secret: &Secret) -> bool {
    spellings(secret).iter().any(|spelling| {
        let half = &spelling[..spelling.len() / 2];
        text.windows(half.len()).any(|part| part == half)
    })
}
