//! The one door to spawning: every task of an endpoint, libp2p's own too, ends with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::swarm::Executor;
use tokio::task::JoinSet;

/// The tasks of one endpoint. Clones are the same tasks.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tasks").field(&self.lock().len()).finish()
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.lock();
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Aborts what is left, and waits until it is gone.
    pub(crate) async fn shutdown(&self) {
        let mut set = std::mem::take(&mut *self.lock());
        set.shutdown().await;
    }

    /// Aborts all without waiting.
    pub(crate) fn abort(&self) {
        self.lock().abort_all();
    }
}

impl Executor for Tasks {
    fn exec(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.spawn(task);
    }
}
