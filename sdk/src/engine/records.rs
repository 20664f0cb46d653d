use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use byway_api::{PeerId, WallTime};
use byway_wire::VerifiedRecord;

/// Verified records by their bytes, so that the same bytes are not verified twice: a neighbour that
/// tells thousands of records costs a hash each. Bounded; the oldest goes first.
pub(super) struct RecordCache {
    inner: Mutex<Inner>,
    capacity: usize,
}

#[derive(Default)]
struct Inner {
    by_bytes: HashMap<Bytes, VerifiedRecord>,
    newest: HashMap<PeerId, VerifiedRecord>,
    order: VecDeque<Bytes>,
}

impl fmt::Debug for RecordCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("RecordCache").field("records", &inner.order.len()).finish_non_exhaustive()
    }
}

impl RecordCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { inner: Mutex::default(), capacity }
    }

    /// The record of these bytes, if it was verified before and is still good.
    pub(super) fn get(&self, bytes: &[u8], now: WallTime) -> Option<VerifiedRecord> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_bytes.get(bytes).filter(|record| good(record, now)).cloned()
    }

    /// The newest record of a device that is in the cache.
    pub(super) fn newest(&self, peer: &PeerId, now: WallTime) -> Option<VerifiedRecord> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.newest.get(peer).filter(|record| good(record, now)).cloned()
    }

    /// Remembers a record.
    pub(super) fn put(&self, record: &VerifiedRecord) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.by_bytes.insert(record.bytes().clone(), record.clone()).is_some() {
            return;
        }
        inner.order.push_back(record.bytes().clone());
        let newest = inner.newest.entry(record.peer()).or_insert_with(|| record.clone());
        if newest.seq() < record.seq() {
            *newest = record.clone();
        }
        if inner.order.len() > self.capacity
            && let Some(oldest) = inner.order.pop_front()
            && let Some(gone) = inner.by_bytes.remove(&oldest)
            && inner.newest.get(&gone.peer()).is_some_and(|newest| newest.seq() == gone.seq())
        {
            inner.newest.remove(&gone.peer());
        }
    }
}

/// Neither the record nor its credential has ended.
fn good(record: &VerifiedRecord, now: WallTime) -> bool {
    record.expires_at() > now && record.member().expires_at > now
}
