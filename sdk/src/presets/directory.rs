//! Who is there, for the nodes of one process: what a registry would be, without a server.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byway_api::{
    Announcement, DiscoveryStep, Lookup, Meter, NetworkId, PeerId, Route, Sightings, StepError, StepErrorKind, UserId,
};
use byway_wire::claimed_user;
use tokio::sync::watch;

const NAME: &str = "directory";

/// Remembers what its members announce; shared by every node of one
/// [`InMemory`](super::InMemory) preset.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    entries: Arc<Mutex<BTreeMap<(NetworkId, PeerId), Entry>>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    routes: Vec<Route>,
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NetworkId, PeerId), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self, network: &NetworkId, user: Option<&UserId>) -> Vec<Route> {
        let entries = self.lock();
        let wanted = entries.iter().filter(|((n, _), entry)| n == network && user.is_none_or(|u| *u == entry.user));
        wanted.flat_map(|(_, entry)| entry.routes.iter().cloned()).collect()
    }
}

#[byway_api::async_trait]
impl DiscoveryStep for Directory {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let query = lookup.query();
        for route in self.routes(&query.network, Some(&query.user)) {
            if lookup.found(route) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        let mut changes = self.changes.subscribe();
        loop {
            for route in self.routes(sightings.network(), None) {
                if sightings.seen(route) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn announce(&self, me: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        let key = (me.network.clone(), me.peer);
        if me.leaving {
            self.lock().remove(&key);
        } else {
            let user = claimed_user(&me.record).map_err(|e| {
                StepError::new(StepErrorKind::Refused, NAME, "the record cannot be read").with_source(e)
            })?;
            let route = |at: &byway_api::SignalAddress| Route::new(me.peer, at.clone()).with_record(me.record.clone());
            self.lock().insert(key, Entry { user, routes: me.addresses.iter().map(route).collect() });
        }
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }
}
