//! The one door to spawning: every task of an endpoint is cancelled and joined with it.

use std::future::Future;
use std::sync::Mutex;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// The tasks of one endpoint. Dropping it aborts them.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: Mutex<JoinSet<()>>,
    cancel: CancellationToken,
}

impl Tasks {
    /// Runs `task` until it ends or the endpoint closes.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let mut set = lock(&self.set);
        while set.try_join_next().is_some() {}
        set.spawn(async move {
            tokio::select! { biased;
                () = cancel.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// How many are running.
    pub(crate) fn count(&self) -> usize {
        let mut set = lock(&self.set);
        while set.try_join_next().is_some() {}
        set.len()
    }

    /// Waits until every task ended that ends by itself, at most `patience`; `keep` are known to run on.
    #[cfg(feature = "webrtc-shell")]
    pub(crate) async fn settle(&self, keep: usize, patience: std::time::Duration) {
        let rest = async {
            loop {
                let ended = std::future::poll_fn(|cx| lock(&self.set).poll_join_next(cx));
                if self.count() <= keep || ended.await.is_none() {
                    return;
                }
            }
        };
        // an error means that time is up
        let _ = tokio::time::timeout(patience, rest).await;
    }

    /// Cancels all and waits until they are gone.
    pub(crate) async fn shutdown(&self) {
        self.cancel.cancel();
        let mut set = std::mem::take(&mut *lock(&self.set));
        while set.join_next().await.is_some() {}
    }

    /// Cancels all without waiting.
    pub(crate) fn abort(&self) {
        self.cancel.cancel();
        lock(&self.set).abort_all();
    }
}
