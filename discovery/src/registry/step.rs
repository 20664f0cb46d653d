use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{Announcement, Cost, DiscoveryStep, Lookup, Meter, PeerId, Route, Sightings, SignalAddress, StepError};

use super::RegistryClient;

/// Step 5, `registry`: ask the server. Metered.
///
/// * `find` is one call, and none while the registry is known to be down. It reports the user's devices,
///   and `peer:{coordinator}` for each of them if one of the user's last coordinators is connected.
/// * `browse` reads one page of the member list per node start (per [`RegistryClient::attach`]); later
///   calls do nothing.
/// * `announce` is one call.
#[derive(Clone, Debug)]
pub struct RegistryStep {
    client: Arc<RegistryClient>,
}

impl RegistryStep {
    /// Its name in the ladder.
    pub const NAME: &'static str = "registry";

    /// A step that asks through `client`.
    pub const fn new(client: Arc<RegistryClient>) -> Self {
        Self { client }
    }
}

#[async_trait]
impl DiscoveryStep for RegistryStep {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cost(&self) -> Cost {
        Cost::Metered
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let (routes, coordinators) = self.client.peer(lookup.query(), lookup.meter()).await?;
        let connected: BTreeSet<PeerId> = lookup.connected().into_iter().map(|n| n.peer).collect();
        let ways: Vec<Route> = routes
            .iter()
            .flat_map(|route| {
                coordinators.iter().filter(|c| **c != route.peer && connected.contains(*c)).map(|c| {
                    let mut way = route.clone();
                    way.address = SignalAddress::through(*c);
                    way
                })
            })
            .collect();
        for route in routes.into_iter().chain(ways) {
            if lookup.found(route).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        for route in self.client.first_page(sightings.network(), sightings.meter()).await? {
            if sightings.seen(route).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn announce(&self, me: &Announcement, meter: &dyn Meter) -> Result<(), StepError> {
        self.client.announce(me, meter).await
    }
}
