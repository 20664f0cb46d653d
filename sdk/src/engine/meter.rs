use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use byway_api::{Meter, StepError, StepErrorKind};
use byway_core::limiter::TokenBucket;

use super::Settings;
use super::runtime::Runtime;

/// The one budget for calls to servers, shared by every plugin that makes some.
#[derive(Debug)]
pub(super) struct CallMeter {
    bucket: Mutex<TokenBucket>,
    runtime: Runtime,
    spent: AtomicU64,
    refused: AtomicU64,
}

impl CallMeter {
    pub(super) fn new(settings: &Settings, runtime: Runtime) -> Self {
        let bucket = Mutex::new(TokenBucket::new(settings.call_burst, settings.call_refill));
        Self { bucket, runtime, spent: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Calls that were made.
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Calls that were not made.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Meter for CallMeter {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        let now = self.runtime.now().tick;
        if self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            self.spent.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(target: "byway::ladder", what, "one call to a server");
            Ok(())
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Err(StepError::new(StepErrorKind::NoBudget, "meter", format!("no call is left for {what}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Clock;
    use crate::engine::runtime::timeout;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn five_calls_at_once_then_one_in_75_seconds() {
        let runtime = Runtime::new(Clock::Ticks);
        let meter = CallMeter::new(&Settings::default(), runtime);
        assert_eq!((0..9).filter(|_| meter.spend("test").is_ok()).count(), 5);
        timeout(Duration::from_secs(74), std::future::pending::<()>()).await;
        assert!(meter.spend("test").is_err());
        timeout(Duration::from_secs(2), std::future::pending::<()>()).await;
        assert!(meter.spend("test").is_ok());
        assert_eq!((meter.spent(), meter.refused()), (6, 5));
    }
}
