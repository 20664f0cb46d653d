//! Where the secrets of a device are kept.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use byway_api::{KeyError, KeyErrorKind, KeyStore, Keys, SealSeed, Secret, WallTime};
use zeroize::Zeroizing;

const FORMAT: &str = "byway-keys 2";
/// The same without a sum at the end.
const FORMAT_WITHOUT_SUM: &str = "byway-keys 1";
/// A key file holds one device seed and about 28 seal seeds; anything near this is something else.
const MAX_FILE: u64 = 64 * 1024;

/// The secrets in one text file that only its owner may read.
///
/// The file is replaced atomically and synced, so that after a crash either the old or the new keys
/// are there. On Unix a file that others may read is refused instead of used. The text is a line with
/// the format's name, one `device <seed>`, one `seal <created, Unix ms> <seed>` per seal key and a
/// `sum` of all that; seeds are base64url. By the sum a file that was cut or changed by accident is told
/// from a good one: a device must not turn into another one because of a flipped bit. Files of the first
/// format, which had no sum, are read, and get one at the next save.
///
/// Whoever has this file *is* the device. Copy it to move the device, never to have two.
#[derive(Clone, Debug)]
pub struct FileKeys {
    path: PathBuf,
}

impl FileKeys {
    /// Keys in this file; it is made at the first save, its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn error(&self, kind: KeyErrorKind, advice: &str) -> KeyError {
        KeyError::new(kind, "file", format!("{}: {advice}", self.path.display()))
    }

    fn io(&self, error: std::io::Error) -> KeyError {
        self.error(KeyErrorKind::Io, "check that the directory exists and is yours").with_source(error)
    }

    fn corrupt(&self) -> KeyError {
        self.error(KeyErrorKind::Corrupt, "restore it from a backup, or move it away to start as a new device")
    }

    fn read(&self) -> Result<Option<Zeroizing<String>>, KeyError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io(e)),
        };
        let about = file.metadata().map_err(|e| self.io(e))?;
        if !private(&about) {
            let advice = format!("run chmod 600 {}", self.path.display());
            return Err(KeyError::new(KeyErrorKind::Permissions, "file", advice));
        }
        if about.len() > MAX_FILE {
            return Err(self.corrupt());
        }
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1));
        match file.take(MAX_FILE).read_to_string(&mut text) {
            Ok(_) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::InvalidData => Err(self.corrupt()),
            Err(e) => Err(self.io(e)),
        }
    }

    fn replace(&self, text: &[u8]) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let written = private_options().open(&new).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        if let Err(e) = written.and_then(|()| fs::rename(&new, &self.path)) {
            // The old keys are still in place; a half-written copy of the new ones must not stay behind.
            let _ = fs::remove_file(&new);
            return Err(e);
        }
        sync_directory(&self.path)
    }
}

impl KeyStore for FileKeys {
    fn load(&self) -> Result<Option<Keys>, KeyError> {
        match self.read()? {
            Some(text) => parse(&text).map(Some).ok_or_else(|| self.corrupt()),
            None => Ok(None),
        }
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        self.replace(write(keys).as_bytes()).map_err(|e| self.io(e))
    }
}

/// The secrets in memory: a device that is gone when the process ends. For tests and short-lived tools.
///
/// Clones share the keys, so that a test can restart a device.
#[derive(Clone, Default)]
pub struct MemoryKeys {
    keys: Arc<Mutex<Option<Keys>>>,
}

impl MemoryKeys {
    /// No keys yet; the node makes some.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryKeys(..)")
    }
}

impl KeyStore for MemoryKeys {
    fn load(&self) -> Result<Option<Keys>, KeyError> {
        Ok(self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
        Ok(())
    }
}

fn write(keys: &Keys) -> Zeroizing<String> {
    // Room for everything at once: a growing string would leave copies of the secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(128 + keys.seal.len() * 80));
    text.push_str(FORMAT);
    text.push_str("\ndevice ");
    push_seed(&mut text, &keys.device);
    for seal in &keys.seal {
        text.push_str(&format!("\nseal {} ", seal.created_at.as_millis()));
        push_seed(&mut text, &seal.seed);
    }
    text.push('\n');
    let sum = sum(&text);
    text.push_str(&format!("sum {sum:016x}\n"));
    text
}

/// FNV-1a: no two texts that differ in one byte have the same sum.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn push_seed(text: &mut String, seed: &Secret) {
    URL_SAFE_NO_PAD.encode_string(seed.expose(), text);
}

fn parse(text: &str) -> Option<Keys> {
    let text = match text.lines().next()? {
        FORMAT => {
            let (text, there) = text.split_at_checked(text.rfind("sum ")?)?;
            (there == format!("sum {:016x}\n", sum(text))).then_some(text)?
        }
        FORMAT_WITHOUT_SUM => text,
        _ => return None,
    };
    let mut lines = text.lines().skip(1);
    let device = parse_seed(lines.next()?.strip_prefix("device ")?)?;
    let seal = lines
        .map(|line| {
            let (created, seed) = line.strip_prefix("seal ")?.split_once(' ')?;
            Some(SealSeed { seed: parse_seed(seed)?, created_at: WallTime::from_millis(created.parse().ok()?) })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Keys::new(device, seal))
}

fn parse_seed(text: &str) -> Option<Secret> {
    let mut bytes = Zeroizing::new([0u8; 48]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
    bytes[..length].try_into().ok().map(Secret::new)
}

#[cfg(unix)]
fn private(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    about.permissions().mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> bool {
    true
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes the renaming durable. Other systems than Unix do not open directories.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let seal = |n| SealSeed { seed: Secret::new([n; 32]), created_at: WallTime::from_millis(i64::from(n)) };
        Keys::new(Secret::new([1; 32]), vec![seal(2), seal(3)])
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_was_left_out_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileKeys::new(dir.path().join("keys"));
        assert_eq!(file.load().unwrap(), None);
        file.save(&keys()).unwrap();
        assert_eq!(file.load().unwrap(), Some(keys()));
        let mut fewer = keys();
        let erased = fewer.seal.remove(0);
        file.save(&fewer).unwrap();
        let text = fs::read_to_string(dir.path().join("keys")).unwrap();
        assert!(!text.contains(&URL_SAFE_NO_PAD.encode(erased.seed.expose())));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no copy stays behind");
    }

    #[test]
    fn a_crash_before_the_renaming_leaves_the_old_keys() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileKeys::new(dir.path().join("keys"));
        file.save(&keys()).unwrap();
        fs::write(dir.path().join("keys.new"), "byway-keys 1\ndev").unwrap();
        assert_eq!(file.load().unwrap(), Some(keys()));
        file.save(&keys()).unwrap();
        assert!(!dir.path().join("keys.new").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let file = FileKeys::new(&path);
        file.save(&keys()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = file.load().unwrap_err();
        assert_eq!(error.kind(), KeyErrorKind::Permissions);
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_neither_used_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let file = FileKeys::new(&path);
        file.save(&keys()).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let damaged = [
            &good[..40],
            &good.replace("byway-keys 2", "byway-keys 3"),
            &good.replace("byway-keys 2", "byway-keys 1"),
            "",
            "seal x y",
            &good.replace("seal 2", "seal two"),
        ];
        for text in damaged {
            fs::write(&path, text).unwrap();
            assert_eq!(file.load().unwrap_err().kind(), KeyErrorKind::Corrupt, "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    /// Files without a sum were read as they were: one flipped bit in the seed made another device, and a
    /// file cut behind a line lost the seal keys that followed, both without a word.
    #[test]
    fn a_file_of_the_first_format_is_read_and_gets_a_sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let file = FileKeys::new(&path);
        file.save(&keys()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let first = text[..text.find("sum ").unwrap()].replace("byway-keys 2", "byway-keys 1");
        fs::write(&path, first).unwrap();
        assert_eq!(file.load().unwrap(), Some(keys()));
        file.save(&keys()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let memory = MemoryKeys::new();
        memory.save(&keys()).unwrap();
        assert_eq!(memory.load().unwrap(), Some(keys()));
        assert_eq!(format!("{memory:?}"), "MemoryKeys(..)");
    }
}
