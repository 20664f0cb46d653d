//! The one door to tasks, time and randomness. Nothing else in the crate spawns, sleeps or reads a
//! clock, so that shutdown can join every task and a test can hold the time.

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_api::WallTime;
use byway_core::{Now, Tick};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::stop::{Count, Stop};

/// Where wall time comes from. Ticks always come from the runtime's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The operating system's clock; it may jump.
    #[default]
    System,
    /// The system's clock at start, and from then on as the ticks go: for tests with virtual time.
    Ticks,
}

/// The operating system's wall time.
pub(crate) fn now_wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(0).plus(since)
}

/// Waits at most `limit`; `None` when it is over.
pub(crate) async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The tasks of one node and its clock. Clones share both.
#[derive(Clone)]
pub(crate) struct Runtime {
    running: Count,
    abort: Stop,
    started: Instant,
    wall: Option<WallTime>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

impl Runtime {
    pub(super) fn new(clock: Clock) -> Self {
        let wall = match clock {
            Clock::System => None,
            Clock::Ticks => Some(now_wall()),
        };
        Self { running: Count::new(), abort: Stop::new(), started: Instant::now(), wall }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        let ran = self.started.elapsed();
        let wall = self.wall.map_or_else(now_wall, |start| start.plus(ran));
        Now { tick: Tick(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX)), wall }
    }

    /// Waits until `tick`; for ever without one.
    pub(super) async fn sleep_until(&self, tick: Option<Tick>) {
        match tick {
            // A tick is the whole milliseconds that have passed, so it is reached at its own start.
            Some(tick) => tokio::time::sleep_until(self.started + Duration::from_millis(tick.0)).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for `wait`.
    pub(super) async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }

    /// Runs a task until it ends or the node is aborted.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let (abort, counted) = (self.abort.clone(), self.running.enter());
        #[expect(clippy::disallowed_methods, reason = "the one door to spawning")]
        tokio::spawn(async move {
            let _counted = counted;
            abort.unless_raised(task).await;
        })
    }

    /// Runs a task whose result `set` yields.
    pub(super) fn spawn_into<T: Send + 'static>(
        &self,
        set: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortHandle {
        let counted = self.running.enter();
        set.spawn(async move {
            let _counted = counted;
            task.await
        })
    }

    /// Runs something that blocks for a moment, such as writing a key file.
    pub(super) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let counted = self.running.enter();
        tokio::task::spawn_blocking(move || {
            let _counted = counted;
            work()
        })
        .await
        .ok()
    }

    /// Ends every task at its next wait.
    pub(super) fn abort(&self) {
        self.abort.raise();
    }

    /// Waits until every task has ended.
    pub(super) async fn join(&self) {
        self.running.none_left().await;
    }

    /// How many tasks run now.
    pub(super) fn tasks(&self) -> usize {
        self.running.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tick_is_reached_when_it_was_slept_for() {
        let runtime = Runtime::new(Clock::Ticks);
        let start = runtime.now();
        runtime.sleep_until(Some(start.tick.plus(Duration::from_millis(7)))).await;
        let end = runtime.now();
        assert_eq!(end.tick.since(start.tick), Duration::from_millis(7));
        assert_eq!(end.wall.since(start.wall), Duration::from_millis(7));
    }

    #[tokio::test]
    async fn an_abort_ends_every_task() {
        let runtime = Runtime::new(Clock::System);
        runtime.spawn(std::future::pending());
        let mut set = JoinSet::new();
        runtime.spawn_into(&mut set, std::future::pending::<()>());
        assert_eq!(runtime.tasks(), 2);
        drop(set);
        runtime.abort();
        runtime.join().await;
        assert_eq!(runtime.tasks(), 0);
    }
}
