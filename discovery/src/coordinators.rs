use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{DiscoveryStep, Lookup, PeerId, Route, SignalAddress, StepError};
use byway_wire::{limits, proto};
use prost::Message as _;

use crate::neighbours::ask_all;

/// Step 4, `coordinators`: go by way of the coordinators that the user named last.
///
/// A device's record names the coordinators that keep its mail. The step reads the records that the
/// node remembers of the user and takes the coordinators among our neighbours: `peer:{coordinator}` is
/// reported at once as a way to each device that named it, then those coordinators are asked like any
/// neighbour. They are looked for among all connections, also those that step 2 had no room for.
///
/// A coordinator that is not connected is not reached by this step: no way to it is known from here.
/// Its own routes are found when it is looked up as a member.
///
/// # Errors
/// The store's error, or the last coordinator's if all of them failed. No remembered record and no
/// connected coordinator is no error.
#[derive(Clone, Copy, Debug)]
pub struct Coordinators {
    /// How many remembered routes are searched for records (16).
    pub recall: usize,
    /// How many coordinators are used at most (8).
    pub ask_at_most: usize,
}

impl Default for Coordinators {
    fn default() -> Self {
        Self { recall: 16, ask_at_most: 8 }
    }
}

impl Coordinators {
    /// Its name in the ladder.
    pub const NAME: &'static str = "coordinators";
}

#[async_trait]
impl DiscoveryStep for Coordinators {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let connected: BTreeSet<PeerId> = lookup.connected().into_iter().map(|n| n.peer).collect();
        if connected.is_empty() {
            return Ok(());
        }
        // a record counts once, however many routes carry it
        let records: BTreeMap<PeerId, Bytes> =
            lookup.recall(self.recall).await?.into_iter().filter_map(|r| Some((r.peer, r.record?))).collect();
        let mut ask = BTreeSet::new();
        for (device, record) in records {
            for coordinator in claimed_coordinators(&record) {
                if coordinator == device || !connected.contains(&coordinator) {
                    continue;
                }
                if !ask.contains(&coordinator) {
                    if ask.len() == self.ask_at_most {
                        continue;
                    }
                    ask.insert(coordinator);
                }
                let way = Route::new(device, SignalAddress::through(coordinator)).with_record(record.clone());
                if lookup.found(way).is_break() {
                    return Ok(());
                }
            }
        }
        ask_all(lookup, ask.into_iter()).await
    }
}

/// The coordinators that a record names. It is read, not verified: what comes of it is a claim like
/// every route, and the node verifies the record that goes with it.
fn claimed_coordinators(record: &Bytes) -> Vec<PeerId> {
    if record.len() > limits::RECORD_MAX {
        return Vec::new();
    }
    let payload = proto::Signed::decode(record.clone()).map(|signed| signed.payload).unwrap_or_default();
    let record = proto::PeerRecord::decode(payload).unwrap_or_default();
    record
        .coordinators
        .iter()
        .filter_map(|key| PeerId::from_slice(key).ok())
        .take(limits::RECORD_COORDINATORS)
        .collect()
}
