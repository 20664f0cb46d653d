use async_trait::async_trait;
use byway_api::{DiscoveryStep, Lookup, StepError};

/// Step 3, `cache`: the routes that led to the user before, best first.
///
/// One read of the node's store, microseconds. Nobody is asked.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// How many routes are read at most (8: one per device that a user may own).
    pub limit: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self { limit: 8 }
    }
}

impl Cache {
    /// Its name in the ladder.
    pub const NAME: &'static str = "cache";
}

#[async_trait]
impl DiscoveryStep for Cache {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        for route in lookup.recall(self.limit).await? {
            if lookup.found(route).is_break() {
                break;
            }
        }
        Ok(())
    }
}
