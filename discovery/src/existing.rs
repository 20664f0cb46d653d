use async_trait::async_trait;
use byway_api::{DiscoveryStep, Lookup, Route, SignalAddress, StepError};

/// Step 1, `existing`: a device of the user is connected already.
///
/// Reports `peer:{device}` for each neighbour that belongs to the sought user. The address names the
/// device itself, so the node knows that the connection is open and dials nothing. Asks nobody, takes
/// no time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Existing;

impl Existing {
    /// Its name in the ladder.
    pub const NAME: &'static str = "existing";
}

#[async_trait]
impl DiscoveryStep for Existing {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let user = &lookup.query().user;
        for device in lookup.connected().into_iter().filter(|n| n.user == *user) {
            if lookup.found(Route::new(device.peer, SignalAddress::through(device.peer))).is_break() {
                break;
            }
        }
        Ok(())
    }
}
