//! Keys as a sheet of text that can be printed and typed in again: hexadecimal lines with a checksum.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use byway_api::{KeyError, KeyErrorKind, KeyStore, Keys, SealSeed, Secret, WallTime};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const NAME: &str = "sheet";
const TITLE: &str = "byway-keys 1";
/// A line has at most this many bytes: `seal `, a time, a space, 64 digits, a line end.
const LINE: usize = 96;
/// A longer file is none of ours: room for some 680 seal keys, where a device has about 30.
const LONGEST: usize = 64 * 1024;

/// The keys of one device in one text file:
///
/// ```text
/// byway-keys 1
/// device 64 hexadecimal digits
/// seal 1800000000000 64 hexadecimal digits
/// sum 64 hexadecimal digits: SHA-256 of what stands above
/// ```
///
/// Written beside its place (`.new`), synced, renamed over it, and then the directory is synced. One process
/// saves at a time.
#[derive(Debug)]
pub struct Sheet {
    path: PathBuf,
    saving: Mutex<()>,
}

impl Sheet {
    /// Keys in this file. Its directory has to exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), saving: Mutex::default() }
    }

    fn failed(&self, what: &str, e: std::io::Error) -> KeyError {
        self.error(KeyErrorKind::Io, what).with_source(e)
    }

    fn error(&self, kind: KeyErrorKind, what: &str) -> KeyError {
        KeyError::new(kind, NAME, format!("{}: {what}", self.path.display()))
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        // of a save that was interrupted
        match fs::remove_file(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        let replaced = written.and_then(|()| fs::rename(&new, &self.path));
        if replaced.is_err() {
            // half a file of secrets is not left lying about; the first error is the one to tell
            let _ = fs::remove_file(&new);
        }
        replaced?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(".".as_ref()))?.sync_all()
    }
}

impl KeyStore for Sheet {
    fn load(&self) -> Result<Option<Keys>, KeyError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed("cannot be opened", e)),
        };
        let about = file.metadata().map_err(|e| self.failed("cannot be read", e))?;
        if !about.is_file() {
            return Err(self.error(KeyErrorKind::Corrupt, "this is no file"));
        }
        if about.mode() & 0o077 != 0 {
            return Err(self.error(KeyErrorKind::Permissions, "take it back with chmod 600"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
        file.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(|e| self.failed("cannot be read", e))?;
        let keys = std::str::from_utf8(&bytes).ok().and_then(parse);
        keys.map(Some).ok_or_else(|| self.error(KeyErrorKind::Corrupt, "restore it from a copy, or type it in again"))
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let text = print(keys);
        if text.len() > LONGEST {
            return Err(self.error(KeyErrorKind::Io, "more seal keys than there is room for"));
        }
        self.replace(&text).map_err(|e| self.failed("cannot be written", e))
    }
}

fn print(keys: &Keys) -> Zeroizing<String> {
    // as long as it becomes: a growing string leaves copies of itself behind
    let mut text = Zeroizing::new(String::with_capacity(LINE * (keys.seal.len() + 3)));
    let _ = write!(text, "{TITLE}\ndevice ");
    push_hex(&mut text, keys.device.expose());
    for seal in &keys.seal {
        let _ = write!(text, "\nseal {} ", seal.created_at.as_millis());
        push_hex(&mut text, seal.seed.expose());
    }
    text.push('\n');
    let sum: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    text.push_str("sum ");
    push_hex(&mut text, &sum);
    text.push('\n');
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // writing to a string cannot fail
        let _ = write!(text, "{byte:02x}");
    }
}

/// What prints as exactly this text, if anything does: so every bit of it counts.
fn parse(text: &str) -> Option<Keys> {
    let mut lines = text.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let device = secret(lines.next()?.strip_prefix("device ")?)?;
    let mut seal = Vec::new();
    for line in lines {
        let Some(rest) = line.strip_prefix("seal ") else { break };
        let (at, seed) = rest.split_once(' ')?;
        seal.push(SealSeed { seed: secret(seed)?, created_at: WallTime::from_millis(at.parse().ok()?) });
    }
    let keys = Keys::new(device, seal);
    (*print(&keys) == text).then_some(keys)
}

fn secret(hex: &str) -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Secret::new(*bytes))
}
