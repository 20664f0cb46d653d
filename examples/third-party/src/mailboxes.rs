//! Envelopes as files: one directory for each device, one file for each envelope.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Result as IoResult, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use byway_api::{EnvelopeId, Held, PeerId, RelayError, RelayErrorKind, Sealed, StoredUntil, WallTime};
use sha2::{Digest as _, Sha256};

use crate::volunteer::error;

/// A file is named `place-until-id` and has the envelope. The file with the highest place of a box is emptied
/// instead of removed, so that its place is never used again.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    directory: PathBuf,
    box_bytes: u64,
    boxes: usize,
    changing: Mutex<()>,
}

/// What the name of a file and its length say.
struct Entry {
    n: u64,
    until: WallTime,
    id: String,
    bytes: u64,
    path: PathBuf,
}

impl Mailboxes {
    pub(crate) fn new(directory: PathBuf, box_bytes: u64, boxes: usize) -> Self {
        Self { directory, box_bytes, boxes, changing: Mutex::default() }
    }

    pub(crate) fn hold(&self, mail: &Sealed, now: WallTime, latest: WallTime) -> Result<StoredUntil, RelayError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(expires) = expires_at(&mail.envelope) else {
            return Err(error(RelayErrorKind::Refused, "this is no sealed envelope"));
        };
        if expires <= now {
            return Err(error(RelayErrorKind::Expired, format!("it ended at {expires}")));
        }
        let id = EnvelopeId::from_bytes(Sha256::digest(&mail.envelope).into()).to_string();
        let folder = self.of(mail.to);
        let (mut entries, expired): (Vec<_>, Vec<_>) =
            entries(&folder).map_err(failed)?.into_iter().partition(|entry| entry.until > now);
        if let Some(held) = entries.iter().find(|entry| entry.id == id && entry.bytes > 0) {
            return Ok(StoredUntil(held.until));
        }
        let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let places = entries.iter().chain(&expired).map(|entry| entry.n).max();
        let full = places.is_none() && self.all().map_err(failed)?.len() >= self.boxes;
        if full || bytes + mail.envelope.len() as u64 > self.box_bytes {
            return Err(error(RelayErrorKind::Quota, "no more mail is kept for this device"));
        }
        let until = expires.min(latest);
        let name = format!("{:020}-{}-{id}", places.unwrap_or(0) + 1, until.as_millis());
        write(&folder, &name, &mail.envelope).map_err(failed)?;
        // Now another file has the highest place. What cannot be removed is tried again by the next one.
        entries.retain(|entry| entry.bytes == 0);
        for entry in entries.iter().chain(&expired) {
            let _ = fs::remove_file(&entry.path);
        }
        Ok(StoredUntil(until))
    }

    pub(crate) fn fetch(&self, device: PeerId, after: u64, max: usize, now: WallTime) -> Result<Vec<Held>, RelayError> {
        let mut page: Vec<Held> = Vec::new();
        let mut room = max as u64;
        for entry in entries(&self.of(device)).map_err(failed)? {
            if entry.n <= after || entry.until <= now || entry.bytes == 0 {
                continue;
            }
            if !page.is_empty() && entry.bytes > room {
                break;
            }
            room = room.saturating_sub(entry.bytes);
            let envelope = match fs::read(&entry.path) {
                Ok(envelope) if !envelope.is_empty() => envelope,
                // released in the meantime
                Ok(_) => continue,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            let id = EnvelopeId::from_bytes(Sha256::digest(&envelope).into());
            page.push(Held::new(entry.n, id, Sealed { to: device, envelope: envelope.into() }));
        }
        Ok(page)
    }

    pub(crate) fn release(&self, ids: &BTreeSet<EnvelopeId>) -> Result<(), RelayError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: BTreeSet<String> = ids.iter().map(EnvelopeId::to_string).collect();
        for folder in self.all().map_err(failed)? {
            let entries = entries(&folder).map_err(failed)?;
            let highest = entries.last().map_or(0, |entry| entry.n);
            for entry in entries.iter().filter(|entry| ids.contains(&entry.id)) {
                if entry.n == highest {
                    File::create(&entry.path).map(drop).map_err(failed)?;
                } else {
                    fs::remove_file(&entry.path).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    fn of(&self, device: PeerId) -> PathBuf {
        self.directory.join(device.to_string())
    }

    fn all(&self) -> IoResult<Vec<PathBuf>> {
        match fs::read_dir(&self.directory) {
            Ok(folders) => folders.map(|folder| folder.map(|f| f.path())).collect(),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

/// What is in a box, by place.
fn entries(folder: &Path) -> IoResult<Vec<Entry>> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut entries = Vec::new();
    for file in files {
        let file = file?;
        let name = file.file_name();
        // `new` is a file that was being written
        let Some(mut parts) = name.to_str().map(|name| name.splitn(3, '-')) else { continue };
        let (Some(n), Some(until), Some(id)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (Ok(n), Ok(until)) = (n.parse(), until.parse()) else { continue };
        let bytes = match file.metadata() {
            Ok(about) => about.len(),
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        entries.push(Entry { n, until: WallTime::from_millis(until), id: id.to_owned(), bytes, path: file.path() });
    }
    entries.sort_by_key(|entry| entry.n);
    Ok(entries)
}

/// On the disk as a whole, or not at all.
fn write(folder: &Path, name: &str, content: &[u8]) -> IoResult<()> {
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    let new = folder.join("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// `expires_at` of a `SealedEnvelope`, field 5 (`sdk/docs/protocol.md`, section 3).
fn expires_at(mut envelope: &[u8]) -> Option<WallTime> {
    let mut at = None;
    while !envelope.is_empty() {
        let tag = varint(&mut envelope)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut envelope)?;
                if tag >> 3 == 5 {
                    at = Some(WallTime::from_millis(value.cast_signed()));
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut envelope)?).ok()?,
            5 => 4,
            _ => return None,
        };
        envelope = envelope.get(skipped..)?;
    }
    at
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn failed(e: std::io::Error) -> RelayError {
    error(RelayErrorKind::Store, "the directory of the mail").with_source(e)
}
