//! The file: a header and records, each with its length and a checksum.
//!
//! At most one record is not synced at any time. So an unreadable one with a readable one behind it is
//! damage, and one at the end is a commit that the power was cut from: that was not acknowledged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use byway_api::{StoreError, StoreErrorKind};

use crate::NAME;

const MAGIC: &[u8; 12] = b"byway-log\r\n\0";
const VERSION: u32 = 1;
/// Magic, version, length of what was complete when the file got its name, checksum.
const HEADER: usize = 32;
/// Length and checksum.
const FRAME: usize = 16;

/// An error of the file system.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::DiskFull,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        _ => StoreErrorKind::Io,
    };
    StoreError::new(kind, NAME, format!("{} cannot be {what}", path.display())).with_source(error)
}

/// FNV-1a. The place is in it: a record that somebody sends in a message is none.
fn checksum(place: usize, bytes: &[u8]) -> [u8; 8] {
    let start = (place as u64).to_le_bytes();
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    start.iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step).to_le_bytes()
}

fn header(complete: usize) -> Vec<u8> {
    let mut header = [&MAGIC[..], &VERSION.to_le_bytes(), &(complete as u64).to_le_bytes()].concat();
    header.extend(checksum(0, &header));
    header
}

fn frame(place: usize, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u64).to_le_bytes()[..], &checksum(place, payload), payload].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

/// The record at this place, if there is a whole one.
fn record(file: &[u8], place: usize) -> Option<&[u8]> {
    let start = place + FRAME;
    let payload = file.get(start..start.checked_add(number(file, place)?)?)?;
    (file[place + 8..start] == checksum(place, payload)).then_some(payload)
}

/// The open file and its lock.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    end: usize,
    /// The length after the last compaction.
    compacted: usize,
    lock: File,
}

impl Drop for Log {
    fn drop(&mut self) {
        // Closing it is not enough while a process that is just being started has a copy of it.
        let _ = self.lock.unlock();
    }
}

impl Log {
    /// Opens the file and gives each record to `replay`, or makes an empty one.
    pub(crate) fn open(path: &Path, mut replay: impl FnMut(&[u8]) -> Option<()>) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let made = prepare(path, &[]).and_then(|made| publish(path).map(|()| made));
                let (file, end) = made.map_err(|e| failed("made", path, e))?;
                return Ok(Self { path: path.to_owned(), file, end, compacted: end, lock });
            }
            Err(e) => return Err(failed("read", path, e)),
        };
        let corrupt = |why: &str| StoreError::new(StoreErrorKind::Corrupt, NAME, format!("{}: {why}", path.display()));
        if !content.starts_with(MAGIC) || content.len() < HEADER {
            return Err(corrupt("this is not a log of Byway"));
        }
        if content[24..HEADER] != checksum(0, &content[..24]) {
            return Err(corrupt("its header is damaged"));
        }
        if content[12..16] != VERSION.to_le_bytes() {
            let detail = format!("{}: use the newer program", path.display());
            return Err(StoreError::new(StoreErrorKind::NewerSchema, NAME, detail));
        }
        let compacted = number(&content, 16).unwrap_or(usize::MAX);
        let mut end = HEADER;
        while let Some(payload) = record(&content, end) {
            replay(payload).ok_or_else(|| corrupt(&format!("the record at {end} is not one of this store")))?;
            end += FRAME + payload.len();
        }
        if end < compacted || (end + 1..content.len()).any(|place| record(&content, place).is_some()) {
            return Err(corrupt(&format!("the record at {end} is damaged: restore the file from a copy")));
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| failed("opened", path, e))?;
        if end < content.len() {
            let cut = file.set_len(end as u64).and_then(|()| file.sync_all());
            cut.map_err(|e| failed("cut to its last whole record", path, e))?;
        }
        Ok(Self { path: path.to_owned(), file, end, compacted, lock })
    }

    /// Adds a record and syncs it.
    ///
    /// # Errors
    /// `DiskFull`: it is not there. Any other: the disk may have it or not; open the file again.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        let frame = frame(self.end, payload);
        let written = self.file.seek(SeekFrom::Start(self.end as u64)).and_then(|_| self.file.write_all(&frame));
        if let Err(error) = written {
            // Half a record must not stand where the next one begins.
            let cut = self.file.set_len(self.end as u64);
            cut.map_err(|e| failed("cut; open the store again", &self.path, e))?;
            return Err(failed("written", &self.path, error));
        }
        // After a failed sync nobody knows what the disk has, and a second one would lie.
        self.file.sync_data().map_err(|e| StoreError::new(StoreErrorKind::Io, NAME, "open it again").with_source(e))?;
        self.end += frame.len();
        Ok(())
    }

    /// Whether most of the file is history.
    pub(crate) fn has_outgrown(&self, least: u64) -> bool {
        self.end as u64 > least.max(4 * self.compacted as u64)
    }

    /// Replaces the file by one with a single record. `Ok(false)` if there is no room for that now.
    ///
    /// # Errors
    /// The disk may have the old file or the new one; open the file again.
    pub(crate) fn compact(&mut self, payload: &[u8]) -> Result<bool, StoreError> {
        let Ok((file, end)) = prepare(&self.path, payload) else {
            // Not again before it has grown as much once more.
            self.compacted = self.end;
            return Ok(false);
        };
        publish(&self.path).map_err(|e| StoreError::new(StoreErrorKind::Io, NAME, "open it again").with_source(e))?;
        (self.file, self.end, self.compacted) = (file, end, end);
        Ok(true)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The operating system releases it when the process ends, however that happens.
fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, ".lock"));
    let lock = lock.map_err(|e| failed("locked", path, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let detail = format!("close the other program that has {} open", path.display());
            Err(StoreError::new(StoreErrorKind::Busy, NAME, detail))
        }
        Err(TryLockError::Error(e)) => Err(failed("locked", path, e)),
    }
}

/// A whole, synced file beside the place where it belongs; its length.
fn prepare(path: &Path, payload: &[u8]) -> io::Result<(File, usize)> {
    let record = if payload.is_empty() { Vec::new() } else { frame(HEADER, payload) };
    let end = HEADER + record.len();
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(beside(path, ".new"))?;
    file.write_all(&[header(end), record].concat())?;
    file.sync_all()?;
    Ok((file, end))
}

/// Gives the prepared file its name, and makes the name durable.
fn publish(path: &Path) -> io::Result<()> {
    fs::rename(beside(path, ".new"), path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Elsewhere a directory cannot be opened as a file, and renaming needs no sync.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
