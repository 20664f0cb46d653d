//! Keeps our own record current: new addresses, a new credential, a new seal key.

use std::sync::Arc;

use byway_core::Tick;
use tokio::sync::Notify;

use super::dial::Bound;
use super::endpoints;
use super::runtime::timeout;
use super::shared::{Notice, Shared};
use super::signals::Signals;

/// What wakes the keeper. Hints: several at once count as one.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// Some plugin's addresses may have changed.
    pub(super) addresses: Notify,
    /// This machine's network has changed.
    pub(super) network: Notify,
}

/// Runs for as long as the node.
pub(super) async fn keep(shared: Arc<Shared>, bound: Arc<[Bound]>, signals: Arc<Signals>, wakes: Arc<Wakes>) {
    let mut rotation = shared.identity.next_rotation();
    loop {
        let differs = tokio::select! {
            () = wakes.addresses.notified() => refresh(&shared, &bound, &signals),
            () = wakes.network.notified() => {
                network_changed(&shared, &bound, &signals).await;
                // Perhaps it has slept, and the monotonic clock with it.
                rotation = shared.identity.next_rotation();
                refresh(&shared, &bound, &signals)
            }
            () = shared.identity.credential_changed() => true,
            () = shared.runtime.sleep_until(Some(rotation)) => {
                rotation = rotate(&shared).await;
                refresh(&shared, &bound, &signals);
                true
            }
        };
        if differs {
            publish(&shared).await;
        }
    }
}

fn refresh(shared: &Shared, bound: &[Bound], signals: &Signals) -> bool {
    shared.identity.set_addresses(endpoints::addresses(bound, signals))
}

async fn publish(shared: &Shared) {
    match shared.identity.sign_record() {
        Ok(record) => {
            shared.records.put(&record);
            shared.notify(Notice::Me(record)).await;
        }
        Err(error) => {
            tracing::error!(target: "byway::engine", %error, "our record could not be signed anew");
        }
    }
}

/// When to rotate next.
async fn rotate(shared: &Shared) -> Tick {
    let retry = shared.runtime.now().tick.plus(shared.settings.rotation_retry);
    match shared.identity.rotate().await {
        Ok(()) => shared.identity.next_rotation().max(retry),
        Err(error) => {
            tracing::error!(target: "byway::engine", %error, "the seal keys could not be renewed");
            retry
        }
    }
}

async fn network_changed(shared: &Shared, bound: &[Bound], signals: &Signals) {
    let limit = shared.settings.open_wait;
    for transport in bound {
        let _ = timeout(limit, transport.endpoint.network_changed()).await;
    }
    for carrier in signals.carriers() {
        let _ = timeout(limit, carrier.network_changed()).await;
    }
}
