use std::fmt;

use zeroize::Zeroize;

use crate::{KeyError, WallTime};

/// 32 secret bytes. No `Debug` of the content, erased on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Wraps a seed.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes. Do not log them.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The seed of one rotating seal key (PROTOCOL section 3: new every 24 h, valid 14 d, erased at 28 d).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSeed {
    /// The X25519 seed.
    pub seed: Secret,
    /// When it was made.
    pub created_at: WallTime,
}

/// The secrets of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keys {
    /// Seed of the Ed25519 device key.
    pub device: Secret,
    /// Seeds of the seal keys, oldest first.
    pub seal: Vec<SealSeed>,
}

impl Keys {
    /// Keys from their seeds.
    pub fn new(device: Secret, seal: Vec<SealSeed>) -> Self {
        Self { device, seal }
    }
}

/// Keeps the secrets of one device.
///
/// # Behavior
/// * `load` answers `None` if there are no keys yet, and never makes any up.
/// * `save` replaces the keys atomically: after a crash either the old or the new ones are there.
///   What it replaces is gone from the store (seal seeds are erased by being left out).
/// * Damage is [`Corrupt`](crate::KeyErrorKind::Corrupt), whatever stands in the place of the keys, a
///   directory too, and is left as it is: never no keys, never other keys. A seed has no redundancy, so
///   keep a checksum.
/// * The secrets never reach a database or a log.
///
/// # Cancellation
/// The methods are synchronous; the node calls them at start and once a day.
///
/// # Shutdown
/// Nothing to release.
///
/// # Notes to implementers
/// A file must be readable by its owner only; refuse one that others may read
/// ([`KeyErrorKind::Permissions`](crate::KeyErrorKind::Permissions)) instead of using it. Write beside it,
/// sync, rename, sync the directory; what an interrupted save has left beside it has secrets too, and must
/// not stand in the way of the next one.
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// The keys, if there are any.
    ///
    /// # Errors
    /// [`KeyError`] if they are there and cannot be read.
    fn load(&self) -> Result<Option<Keys>, KeyError>;

    /// Replaces the keys.
    ///
    /// # Errors
    /// [`KeyError`] if they could not be made durable; the old ones are then still there.
    fn save(&self, keys: &Keys) -> Result<(), KeyError>;
}
