//! What redb reads and writes: a file, or whatever else keeps bytes.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::error::NotFlushed;

/// Opens the same bytes once more. What was opened before is not used any more by then.
pub(crate) type Opener = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// Opens an existing file.
pub(crate) fn of_file(path: PathBuf) -> Opener {
    Box::new(move || {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    })
}

/// The opened bytes, with a bound on how many there may be.
pub(crate) struct Storage {
    inner: Box<dyn StorageBackend>,
    max_bytes: Option<u64>,
}

impl Storage {
    pub(crate) fn new(inner: Box<dyn StorageBackend>, max_bytes: Option<u64>) -> Self {
        Self { inner, max_bytes }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.max_bytes.is_some_and(|max| len > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.set_len(len)
    }

    /// Also of a full disk an error here is more than that: what was written before it may be on the
    /// disk or not.
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().map_err(|e| io::Error::other(NotFlushed(e)))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Reads the bytes and keeps what is written to itself: redb opens a database by writing to it, and a
/// file that is damaged, foreign or newer must stay as it is.
pub(crate) struct Look {
    inner: Box<dyn StorageBackend>,
    seen: Mutex<Seen>,
}

struct Seen {
    len: u64,
    /// In the order in which they came.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Look {
    pub(crate) fn new(inner: Box<dyn StorageBackend>) -> io::Result<Self> {
        let seen = Seen { len: inner.len()?, writes: Vec::new() };
        Ok(Self { inner, seen: Mutex::new(seen) })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// The part of `from` that lies within `len` bytes at `offset`: where it begins in each, and its length.
fn overlap(offset: u64, len: usize, (at, data): (u64, usize)) -> Option<(usize, usize, usize)> {
    let (start, end) = (offset.max(at), (offset + len as u64).min(at + data as u64));
    let place = |n: u64| usize::try_from(n).ok();
    if start >= end { None } else { Some((place(start - offset)?, place(start - at)?, place(end - start)?)) }
}

impl StorageBackend for Look {
    fn len(&self) -> io::Result<u64> {
        Ok(self.seen().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let seen = self.seen();
        if offset + out.len() as u64 > seen.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = self.inner.len()?.saturating_sub(offset).min(out.len() as u64);
        let (stored, new) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        self.inner.read(offset, stored)?;
        new.fill(0);
        for (at, data) in &seen.writes {
            if let Some((to, from, len)) = overlap(offset, out.len(), (*at, data.len())) {
                out[to..to + len].copy_from_slice(&data[from..from + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.seen().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut seen = self.seen();
        seen.len = seen.len.max(offset + data.len() as u64);
        seen.writes.push((offset, data.to_vec()));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn a_look_changes_nothing_and_reads_what_it_wrote() {
        let inner = InMemoryBackend::new();
        inner.set_len(8).unwrap();
        inner.write(0, b"abcdefgh").unwrap();
        let look = Look::new(Box::new(inner)).unwrap();
        look.write(2, b"XYZ").unwrap();
        look.write(4, b"12").unwrap();
        look.set_len(10).unwrap();
        let mut out = [b'?'; 10];
        look.read(0, &mut out).unwrap();
        assert_eq!(&out, b"abXY12gh\0\0");
        let mut out = [b'?'; 3];
        look.read(5, &mut out).unwrap();
        assert_eq!(&out, b"2gh");
        assert!(look.read(8, &mut [0; 3]).is_err());
        let mut out = [b'?'; 8];
        look.inner.read(0, &mut out).unwrap();
        assert_eq!(&out, b"abcdefgh");
        assert_eq!(look.inner.len().unwrap(), 8);
    }

    #[test]
    fn no_more_bytes_than_the_bound() {
        let storage = Storage::new(Box::new(InMemoryBackend::new()), Some(100));
        storage.set_len(100).unwrap();
        assert_eq!(storage.set_len(101).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(storage.len().unwrap(), 100);
    }
}
