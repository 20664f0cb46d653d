//! Stores that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise. The test against the
//! model is a net below all the others and may fail for any of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use byway_api::{
    Applied, ConnectionRow, Durability, Key, Load, MessageId, OutboxState, PeerId, RouteStore, Row, StoreError,
    StoreErrorKind, Write, async_trait,
};

use super::StoreFixture;

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A refused batch leaves its first write.
    LeavesHalfABatch,
    /// Two named values set together become visible one after the other.
    ShowsHalfABatch,
    /// Named values of a batch are set last first.
    SetsBackwards,
    /// An append replaces the row that is there.
    OverwritesOnAppend,
    /// Taking a message forgets that it was seen.
    ForgetsMarks,
    /// A delivered message keeps its content.
    KeepsContent,
    /// Headers come with content.
    LoadsContent,
    /// An older record replaces a newer one.
    TakesOlderRecords,
    /// Every page begins with the last row of the one before.
    RepeatsRows,
    /// The inbox comes newest first.
    NewestFirst,
    /// Answers after it was closed.
    AnswersWhenClosed,
    /// Relaxed writes that no durable one followed are gone after closing.
    LosesRelaxed,
    /// Live connections are there again after opening.
    KeepsConnections,
    /// Opens a second time.
    OpensTwice,
    /// Every batch is a durable commit.
    CommitsEachCall,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::LeavesHalfABatch, &["a_batch_with_a_bad_write_changes_nothing"]),
        (Self::ShowsHalfABatch, &["a_batch_is_seen_whole_or_not_at_all"]),
        (
            Self::SetsBackwards,
            &["writes_of_a_batch_take_effect_in_order", "meta_values_are_set_removed_and_found_by_prefix"],
        ),
        (Self::OverwritesOnAppend, &["append_keeps_the_first_row"]),
        (Self::ForgetsMarks, &["mark_and_take_leave_the_mark"]),
        (Self::KeepsContent, &["content_is_dropped_when_a_message_is_no_longer_queued"]),
        (Self::LoadsContent, &["headers_have_no_content"]),
        (Self::TakesOlderRecords, &["a_record_is_replaced_only_by_a_newer_one"]),
        (Self::RepeatsRows, &["pages_together_are_the_whole", "pages_show_unchanged_rows_once_while_others_change"]),
        (Self::NewestFirst, &["rows_come_in_the_documented_order", "pages_together_are_the_whole"]),
        (Self::AnswersWhenClosed, &["a_closed_store_refuses_every_call"]),
        (Self::LosesRelaxed, &["reopening_keeps_everything", "dropping_the_store_releases_it"]),
        (Self::KeepsConnections, &["reopening_forgets_live_connections"]),
        (Self::OpensTwice, &["a_second_open_is_busy"]),
        (Self::CommitsEachCall, &["relaxed_batches_share_durable_commits", "callers_share_durable_commits"]),
    ];
}

/// Opens stores with one [`Fault`] over the data of a sound fixture.
pub struct BrokenFixture {
    inner: Box<dyn StoreFixture>,
    fault: Fault,
    kept: Arc<Mutex<Kept>>,
    current: Mutex<Weak<BrokenStore>>,
}

/// What a broken store remembers or forgets across openings.
#[derive(Debug, Default)]
struct Kept {
    contents: BTreeMap<(MessageId, Option<PeerId>), Bytes>,
    connections: Vec<ConnectionRow>,
    /// Names set since the last durable batch.
    relaxed: Vec<String>,
}

impl BrokenFixture {
    /// Breaks the stores of a sound fixture.
    pub fn new(inner: impl StoreFixture, fault: Fault) -> Self {
        Self { inner: Box::new(inner), fault, kept: Arc::default(), current: Mutex::default() }
    }
}

impl fmt::Debug for BrokenFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokenFixture").field("fault", &self.fault).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl StoreFixture for BrokenFixture {
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError> {
        let inner = match self.inner.open().await {
            Ok(inner) => inner,
            Err(busy) if self.fault == Fault::OpensTwice && busy.kind() == StoreErrorKind::Busy => {
                let current = lock(&self.current).upgrade();
                return current.map(|store| store as Arc<dyn RouteStore>).ok_or(busy);
            }
            Err(error) => return Err(error),
        };
        let (connections, relaxed) = {
            let mut kept = lock(&self.kept);
            (std::mem::take(&mut kept.connections), std::mem::take(&mut kept.relaxed))
        };
        if self.fault == Fault::KeepsConnections {
            inner.apply(&connections.into_iter().map(Write::Connection).collect::<Vec<_>>()).await?;
        }
        if self.fault == Fault::LosesRelaxed {
            let unset = |key| Write::Meta { key, value: None, durability: Durability::Relaxed };
            inner.apply(&relaxed.into_iter().map(unset).collect::<Vec<_>>()).await?;
        }
        let store =
            Arc::new(BrokenStore { inner, fault: self.fault, kept: Arc::clone(&self.kept), calls: AtomicU64::new(0) });
        *lock(&self.current) = Arc::downgrade(&store);
        Ok(store)
    }

    fn has_disk(&self) -> bool {
        self.fault == Fault::CommitsEachCall
    }
}

/// A store with one [`Fault`].
#[derive(Debug)]
struct BrokenStore {
    inner: Arc<dyn RouteStore>,
    fault: Fault,
    kept: Arc<Mutex<Kept>>,
    calls: AtomicU64,
}

type Rows = Vec<(Key, Row)>;

impl BrokenStore {
    fn remember(&self, batch: &[Write]) {
        let mut kept = lock(&self.kept);
        if batch.iter().any(|write| write.durability() == Durability::Durable) {
            kept.relaxed.clear();
        }
        for write in batch {
            match write {
                Write::Append(row) => {
                    kept.contents.extend(row.content.clone().map(|content| ((row.message, row.to_peer), content)));
                }
                Write::Connection(row) => kept.connections.push(row.clone()),
                Write::Meta { key, value: Some(_), durability: Durability::Relaxed } => kept.relaxed.push(key.clone()),
                _ => {}
            }
        }
    }

    /// What a broken store does besides, after a write was answered.
    fn besides(&self, write: &Write, applied: &mut Applied) -> Vec<Write> {
        match (self.fault, write, *applied) {
            (Fault::OverwritesOnAppend, Write::Append(row), Applied::Duplicate) => {
                vec![Write::Forget { message: row.message, to_peer: row.to_peer }, write.clone()]
            }
            (Fault::ForgetsMarks, Write::Take { from_peer, epoch, .. }, Applied::Done) => {
                vec![Write::Unsee { from_peer: *from_peer, epoch: *epoch }]
            }
            (Fault::TakesOlderRecords, Write::Record(row), Applied::Duplicate) => {
                *applied = Applied::Done;
                vec![Write::DropPeer { peer: row.peer }, write.clone()]
            }
            _ => Vec::new(),
        }
    }

    async fn broken_page(&self, what: &Load, mut rows: Rows, after: Option<Key>) -> Result<Rows, StoreError> {
        match (self.fault, what) {
            (Fault::KeepsContent, Load::OutboxContent(_)) => {
                let kept = lock(&self.kept);
                for (_, row) in &mut rows {
                    if let Row::Outbox(row) = row
                        && row.state != OutboxState::Queued
                    {
                        row.content = kept.contents.get(&(row.message, row.to_peer)).cloned();
                    }
                }
            }
            (Fault::LoadsContent, Load::Outbox) => {
                for (_, row) in &mut rows {
                    let Row::Outbox(header) = row else { continue };
                    for (_, full) in self.inner.load(Load::OutboxContent(header.message), None, 64).await? {
                        match full {
                            Row::Outbox(full) if full.to_peer == header.to_peer => header.content = full.content,
                            _ => {}
                        }
                    }
                }
            }
            (Fault::RepeatsRows, _) if rows.len() > 1 => {
                let mut previous = after.unwrap_or_else(|| Key(Bytes::new()));
                for (key, _) in &mut rows {
                    std::mem::swap(key, &mut previous);
                }
            }
            (Fault::NewestFirst, Load::Inbox) => {
                let (keys, mut reversed): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
                reversed.reverse();
                rows = keys.into_iter().zip(reversed).collect();
            }
            _ => {}
        }
        Ok(rows)
    }
}

fn sets_only(batch: &[Write]) -> bool {
    batch.iter().all(|write| matches!(write, Write::Meta { .. }))
}

#[async_trait]
impl RouteStore for BrokenStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, batch: &[Write]) -> Result<Vec<Applied>, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::ShowsHalfABatch && batch.len() == 2 && sets_only(batch) {
            let mut applied = self.inner.apply(&batch[..1]).await?;
            tokio::task::yield_now().await;
            applied.extend(self.inner.apply(&batch[1..]).await?);
            return Ok(applied);
        }
        let mut batch = batch.to_vec();
        if self.fault == Fault::SetsBackwards && sets_only(&batch) {
            batch.reverse();
        }
        match self.inner.apply(&batch).await {
            Ok(mut applied) => {
                self.remember(&batch);
                for (write, applied) in batch.iter().zip(&mut applied) {
                    let besides = self.besides(write, applied);
                    if !besides.is_empty() {
                        self.inner.apply(&besides).await?;
                    }
                }
                Ok(applied)
            }
            Err(error) if self.fault == Fault::LeavesHalfABatch && error.kind() == StoreErrorKind::TooLarge => {
                self.inner.apply(&batch[..1]).await?;
                Err(error)
            }
            Err(error) if self.fault == Fault::AnswersWhenClosed && error.kind() == StoreErrorKind::Closed => {
                Ok(vec![Applied::Done; batch.len()])
            }
            Err(error) => Err(error),
        }
    }

    async fn load(&self, what: Load, after: Option<Key>, limit: usize) -> Result<Rows, StoreError> {
        let from_start = self.fault == Fault::RepeatsRows && after.as_ref().is_some_and(|key| key.0.is_empty());
        let after = after.filter(|_| !from_start);
        match self.inner.load(what.clone(), after.clone(), limit).await {
            Ok(rows) => self.broken_page(&what, rows, after).await,
            Err(error) if self.fault == Fault::AnswersWhenClosed && error.kind() == StoreErrorKind::Closed => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn durable_commits(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
