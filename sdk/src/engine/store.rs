//! Batches on their way to the store: applied in order by one task, merged while they wait.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byway_api::{Applied, StoreErrorKind, Write};
use byway_core::OpId;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::runtime::timeout;
use super::shared::Shared;

/// Writes that a store takes in one batch.
const BATCH: usize = 4_096;

/// What became of the batches of the core that one commit held.
pub(super) type Stored = Vec<(OpId, Result<Vec<Applied>, StoreErrorKind>)>;

/// The driver's end.
pub(super) struct StoreQueue {
    waiting: Mutex<Waiting>,
    ready: Notify,
    /// Wakes the driver when nothing is left to write.
    wake: Arc<Notify>,
    most_writes: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    writes: VecDeque<Write>,
    /// Which request how many of the writes belong to; `None`: the engine's own.
    requests: VecDeque<(Option<OpId>, usize)>,
    bytes: usize,
    busy: bool,
    closed: bool,
}

impl fmt::Debug for StoreQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreQueue").field("writes", &self.waiting().writes.len()).finish_non_exhaustive()
    }
}

impl StoreQueue {
    pub(super) fn new(most_writes: usize, most_bytes: usize, wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), ready: Notify::new(), wake, most_writes, most_bytes })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the batches of one turn.
    pub(super) fn push(&self, batches: &mut Vec<(Option<OpId>, Vec<Write>)>) {
        if batches.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        for (op, batch) in batches.drain(..) {
            waiting.requests.push_back((op, batch.len()));
            for write in batch {
                waiting.bytes += weight(&write);
                waiting.writes.push_back(write);
            }
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// False while so much waits that no further input should be taken.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.waiting();
        waiting.writes.len() < self.most_writes && waiting.bytes < self.most_bytes
    }

    /// Nothing waits and nothing is being written.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.requests.is_empty() && !waiting.busy
    }

    /// Ends the task once everything is written.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.ready.notify_one();
    }

    /// The next commit: whole requests, at most [`BATCH`] writes unless one request alone has more.
    fn take(&self) -> Taken {
        let mut waiting = self.waiting();
        let mut requests = Vec::new();
        let mut count = 0;
        while let Some((op, n)) = waiting.requests.front().copied() {
            if count > 0 && count + n > BATCH {
                break;
            }
            waiting.requests.pop_front();
            count += n;
            requests.push((op, n));
        }
        waiting.busy = !requests.is_empty();
        if requests.is_empty() {
            return if waiting.closed { Taken::Closed } else { Taken::Nothing };
        }
        let writes: Vec<_> = waiting.writes.drain(..count).collect();
        waiting.bytes -= writes.iter().map(weight).sum::<usize>();
        Taken::Commit { writes, requests }
    }
}

enum Taken {
    Commit { writes: Vec<Write>, requests: Vec<(Option<OpId>, usize)> },
    Nothing,
    Closed,
}

/// Roughly what a write holds in memory.
fn weight(write: &Write) -> usize {
    const ROW: usize = 128;
    let content = |content: &Option<bytes::Bytes>| content.as_ref().map_or(0, bytes::Bytes::len);
    ROW + match write {
        Write::Append(row) => content(&row.content),
        Write::Receive { row, .. } => content(&row.content),
        Write::Record(row) => row.record.len(),
        Write::Meta { value, .. } => content(value),
        _ => 0,
    }
}

/// Applies batches in order until the queue is closed and empty.
pub(super) async fn work(shared: Arc<Shared>, queue: Arc<StoreQueue>, to: mpsc::Sender<Stored>) {
    loop {
        let (writes, requests) = match queue.take() {
            Taken::Commit { writes, requests } => (writes, requests),
            Taken::Nothing => {
                queue.wake.notify_one();
                queue.ready.notified().await;
                continue;
            }
            Taken::Closed => return,
        };
        let count = writes.len();
        // In a task of its own, so that a store that panics fails this commit and not all later ones.
        let mut commit = JoinSet::new();
        let store = Arc::clone(&shared.store);
        shared.runtime.spawn_into(&mut commit, async move { store.apply(&writes).await });
        let result = match timeout(shared.settings.store_wait, commit.join_next()).await {
            Some(Some(Ok(Ok(applied)))) => Ok(applied),
            Some(Some(Ok(Err(error)))) => {
                tracing::error!(target: "byway::store", %error, writes = count, "a batch was not stored");
                Err(error.kind())
            }
            Some(panicked) => {
                tracing::error!(target: "byway::store", ?panicked, writes = count, "a batch was not stored");
                Err(StoreErrorKind::Io)
            }
            None => {
                tracing::error!(target: "byway::store", writes = count, "the store does not answer");
                Err(StoreErrorKind::Io)
            }
        };
        let stored = split(result, requests);
        if !stored.is_empty() && to.send(stored).await.is_err() {
            return;
        }
    }
}

/// Gives each request its part of the result.
fn split(result: Result<Vec<Applied>, StoreErrorKind>, requests: Vec<(Option<OpId>, usize)>) -> Stored {
    let mut stored = Vec::with_capacity(requests.len());
    let mut applied = result.map(Vec::into_iter);
    for (op, n) in requests {
        let part = match &mut applied {
            Ok(all) => {
                let part: Vec<_> = all.by_ref().take(n).collect();
                if part.len() == n { Ok(part) } else { Err(StoreErrorKind::Io) }
            }
            Err(kind) => Err(*kind),
        };
        if let Some(op) = op {
            stored.push((op, part));
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(n: usize) -> Vec<Write> {
        (0..n).map(|i| Write::Disconnected { peer: byway_api::PeerId::from_bytes([i as u8; 32]) }).collect()
    }

    #[test]
    fn what_waits_is_merged_and_split_again() {
        let queue = StoreQueue::new(10_000, 1 << 20, Arc::default());
        queue.push(&mut vec![(Some(OpId(1)), writes(2)), (None, writes(1)), (Some(OpId(2)), writes(3))]);
        let Taken::Commit { writes, requests } = queue.take() else { unreachable!("something waits") };
        assert_eq!(writes.len(), 6);
        assert!(!queue.is_idle());
        let mut applied = vec![Applied::Done; 6];
        applied[5] = Applied::Missing;
        let stored = split(Ok(applied), requests);
        let last = vec![Applied::Done, Applied::Done, Applied::Missing];
        assert_eq!(stored, vec![(OpId(1), Ok(vec![Applied::Done; 2])), (OpId(2), Ok(last))]);
        assert!(matches!(queue.take(), Taken::Nothing));
        assert!(queue.is_idle());
    }

    #[test]
    fn a_commit_holds_whole_requests() {
        let queue = StoreQueue::new(10_000, 1 << 20, Arc::default());
        queue.push(&mut vec![(Some(OpId(1)), writes(BATCH - 1)), (Some(OpId(2)), writes(2))]);
        let Taken::Commit { requests, .. } = queue.take() else { unreachable!("something waits") };
        assert_eq!(requests, vec![(Some(OpId(1)), BATCH - 1)]);
    }

    #[test]
    fn a_full_queue_says_so() {
        let queue = StoreQueue::new(4, 1 << 20, Arc::default());
        assert!(queue.has_room());
        queue.push(&mut vec![(None, writes(4))]);
        assert!(!queue.has_room());
    }
}
