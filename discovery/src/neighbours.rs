use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{DiscoveryStep, Lookup, PeerId, Route, SignalAddress, StepError};

/// Step 2, `neighbours`: ask everybody who is connected.
///
/// All are asked at once, and each answer is reported when it comes; the slowest neighbour holds nobody
/// up. A neighbour that answers is a way itself: each device it tells of is also reported with the
/// address `peer:{neighbour}`, after the neighbour's own routes.
///
/// # Errors
/// The last neighbour's error if every one of them failed. No neighbours is no error.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    /// How many neighbours are asked at most, best first (15: all links of an ordinary node).
    pub ask_at_most: usize,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { ask_at_most: 15 }
    }
}

impl Neighbours {
    /// Its name in the ladder.
    pub const NAME: &'static str = "neighbours";
}

#[async_trait]
impl DiscoveryStep for Neighbours {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let neighbours = lookup.connected().into_iter().take(self.ask_at_most).map(|n| n.peer);
        ask_all(lookup, neighbours).await
    }
}

/// Asks all of them at once and reports what they answer until the search is over.
pub(crate) async fn ask_all(lookup: &dyn Lookup, whom: impl Iterator<Item = PeerId>) -> Result<(), StepError> {
    type Asking<'a> = Pin<Box<dyn Future<Output = (PeerId, Result<Vec<Route>, StepError>)> + Send + 'a>>;
    let mut asking: Vec<Asking<'_>> =
        whom.map(|peer| Box::pin(async move { (peer, lookup.ask(peer).await) }) as Asking<'_>).collect();
    let mut answered = false;
    let mut failure = None;
    // at most a handful: each wake-up polls them all
    poll_fn(|cx| {
        let mut over = false;
        asking.retain_mut(|ask| match ask.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready((_, Ok(_))) if over => false,
            Poll::Ready((neighbour, Ok(routes))) => {
                answered = true;
                over = report(lookup, neighbour, routes).is_break();
                false
            }
            Poll::Ready((_, Err(e))) => {
                failure = Some(e);
                false
            }
        });
        if over || asking.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match failure {
        Some(e) if !answered => Err(e),
        _ => Ok(()),
    }
}

/// One answer: its routes as they are, then the neighbour itself as the way to each device in it.
fn report(lookup: &dyn Lookup, neighbour: PeerId, routes: Vec<Route>) -> ControlFlow<()> {
    let through = SignalAddress::through(neighbour);
    let mut devices: BTreeMap<PeerId, Option<Bytes>> = BTreeMap::new();
    for route in &routes {
        let record = devices.entry(route.peer).or_default();
        if record.is_none() {
            record.clone_from(&route.record);
        }
    }
    // the neighbour may be a device of the sought user: then step 1 has reported it
    devices.remove(&neighbour);
    for route in routes {
        if route.address == through {
            devices.remove(&route.peer);
        }
        lookup.found(route)?;
    }
    for (device, record) in devices {
        let route = Route::new(device, through.clone());
        lookup.found(match record {
            Some(record) => route.with_record(record),
            None => route,
        })?;
    }
    ControlFlow::Continue(())
}
