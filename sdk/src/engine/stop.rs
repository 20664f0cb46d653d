//! Telling tasks to stop, and waiting until they have.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

/// A flag that goes up once. Clones share it.
#[derive(Clone)]
pub(super) struct Stop(Arc<watch::Sender<bool>>);

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_raised())
    }
}

impl Stop {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn raise(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is up. Cancel-safe.
    pub(super) async fn raised(&self) {
        // the sender lives as long as `self`
        let _ = self.0.subscribe().wait_for(|up| *up).await;
    }

    /// Runs `work` until it ends, or drops it when the flag goes up.
    pub(super) async fn unless_raised<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.raised() => None,
            done = work => Some(done),
        }
    }

    /// Raises the flag when dropped: also when the task that holds it is aborted.
    pub(super) const fn on_drop(self) -> RaiseOnDrop {
        RaiseOnDrop(self)
    }
}

#[derive(Debug)]
pub(super) struct RaiseOnDrop(Stop);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Counts tasks. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Count(Arc<watch::Sender<usize>>);

impl Count {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn now(&self) -> usize {
        *self.0.borrow()
    }

    /// One more, until the guard is dropped.
    pub(super) fn enter(&self) -> Counted {
        self.0.send_modify(|n| *n += 1);
        Counted(self.clone())
    }

    /// Waits until there are none. Cancel-safe.
    pub(super) async fn none_left(&self) {
        let _ = self.0.subscribe().wait_for(|n| *n == 0).await;
    }
}

#[derive(Debug)]
pub(super) struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n -= 1);
    }
}
