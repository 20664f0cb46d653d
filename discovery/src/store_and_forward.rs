use async_trait::async_trait;
use byway_api::{DiscoveryStep, Lookup, StepError};

/// Step 6, `store-and-forward`: the named end of the ladder.
///
/// There is nothing left to find when it runs, and it reports no route: what was to be sent is in the
/// outbox since `send` returned, and the node tries again on its own schedule or when the user shows
/// any sign of life. The step is a rung of its own so that `explain()` can say that a lookup ended
/// here, and so that steps can be placed relative to it by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreAndForward;

impl StoreAndForward {
    /// Its name in the ladder.
    pub const NAME: &'static str = "store-and-forward";
}

#[async_trait]
impl DiscoveryStep for StoreAndForward {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, _lookup: &dyn Lookup) -> Result<(), StepError> {
        Ok(())
    }
}
