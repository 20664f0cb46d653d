//! Running discovery steps: what they are lent, and what becomes of their claims.

use std::ops::ControlFlow;
use std::sync::Arc;

use byway_api::{
    Announcement, Cost, DiscoveryStep, Load, Lookup, Meter, Neighbour, NetworkId, PeerId, Query, Retry, Route, Row,
    Sightings, StepError, StepErrorKind, UserId,
};
use byway_core::OpId;
use byway_core::io::{AskError, FoundRoute, RouteSource, StepOutcome};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ops::Ended;
use super::runtime::timeout;
use super::shared::{Notice, Shared};

/// Records that [`Lookup::recall`] reads: one for each device of a user.
const DEVICES: usize = byway_wire::limits::MEMBER_DEVICES;

fn source(step: &dyn DiscoveryStep) -> RouteSource {
    match step.cost() {
        Cost::Metered => RouteSource::Registry,
        _ if step.name() == "cache" => RouteSource::Cache,
        _ => RouteSource::Step,
    }
}

/// Claims of one run on their way to the driver. Reporting never waits; a run that reports more than
/// it may is told to stop.
struct Claims {
    shared: Arc<Shared>,
    source: RouteSource,
    routes: mpsc::Sender<FoundRoute>,
}

impl Claims {
    fn new(shared: &Arc<Shared>, step: &dyn DiscoveryStep, most: usize) -> (Self, mpsc::Receiver<FoundRoute>) {
        let (routes, taken) = mpsc::channel(most);
        (Self { shared: Arc::clone(shared), source: source(step), routes }, taken)
    }

    fn report(&self, claim: Route) -> ControlFlow<()> {
        let peer = claim.peer;
        if peer == self.shared.identity.peer() {
            return ControlFlow::Continue(());
        }
        match self.shared.route(claim, self.source) {
            Ok(route) => match self.routes.try_send(route) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            Err(error) => {
                tracing::debug!(target: "byway::ladder", peer = %peer.short(), %error, "a claim was dropped");
                ControlFlow::Continue(())
            }
        }
    }
}

/// Runs `work` while passing on what it reports, and then the rest.
async fn pass_on<T>(
    shared: &Shared,
    mut routes: mpsc::Receiver<FoundRoute>,
    notice: impl Fn(FoundRoute) -> Notice,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            Some(route) = routes.recv() => shared.notify(notice(route)).await,
            done = &mut work => break done,
        }
    };
    while let Ok(route) = routes.try_recv() {
        shared.notify(notice(route)).await;
    }
    done
}

fn outcome(result: Option<Result<(), StepError>>) -> StepOutcome {
    match result {
        Some(Ok(())) => StepOutcome::Finished,
        Some(Err(error)) => StepOutcome::Failed(error.kind(), error.to_string()),
        None => StepOutcome::Failed(StepErrorKind::Timeout, "it did not end in time".to_owned()),
    }
}

/// Runs `find` of a step. Dropping the future stops it.
pub(super) async fn find(shared: Arc<Shared>, step: Arc<dyn DiscoveryStep>, op: OpId, user: UserId) -> Ended {
    let (claims, routes) = Claims::new(&shared, &*step, shared.settings.routes_per_run);
    let view = LookupView { query: Query::new(shared.identity.network().clone(), user), claims };
    let work = timeout(shared.settings.find_wait, step.find(&view));
    let result = pass_on(&shared, routes, |route| Notice::Found { op, route }, work).await;
    Ended::Run(outcome(result))
}

/// Runs `browse` of a step, for as long as it likes. Dropping the future stops it.
pub(super) async fn browse(shared: Arc<Shared>, step: Arc<dyn DiscoveryStep>) -> Ended {
    let (claims, routes) = Claims::new(&shared, &*step, shared.settings.sightings);
    let view = SightingsView { claims };
    let result = pass_on(&shared, routes, Notice::Sighting, async { Some(step.browse(&view).await) }).await;
    Ended::Browsed(outcome(result))
}

/// Runs `announce` of every step with our current record.
pub(super) async fn announce(shared: Arc<Shared>, steps: Arc<[Arc<dyn DiscoveryStep>]>, leaving: bool) -> Ended {
    let me = shared.identity.me();
    let mut announcement =
        Announcement::new(me.network, me.peer, me.record.bytes().clone(), me.record.addresses().to_vec());
    announcement.capabilities = me.record.capabilities().to_vec();
    announcement.leaving = leaving;
    let announcement = Arc::new(announcement);
    let mut tasks = JoinSet::new();
    for step in steps.iter() {
        let (shared, step, announcement) = (Arc::clone(&shared), Arc::clone(step), Arc::clone(&announcement));
        let runtime = shared.runtime.clone();
        runtime.spawn_into(&mut tasks, async move {
            let work = step.announce(&announcement, &*shared.meter);
            match timeout(shared.settings.announce_wait, work).await {
                Some(Ok(())) => true,
                Some(Err(error)) => {
                    tracing::debug!(target: "byway::ladder", step = step.name(), %error, "not announced");
                    error.retry() != Retry::Later
                }
                None => false,
            }
        });
    }
    let mut all = true;
    while let Some(ok) = tasks.join_next().await {
        all &= ok.unwrap_or(false);
    }
    Ended::Announced(all)
}

struct LookupView {
    query: Query,
    claims: Claims,
}

const NODE: &str = "node";

#[byway_api::async_trait]
impl Lookup for LookupView {
    fn query(&self) -> &Query {
        &self.query
    }

    fn connected(&self) -> Vec<Neighbour> {
        self.claims.shared.neighbours.now().to_vec()
    }

    async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, StepError> {
        let user = self.query.user.clone();
        let error = |kind, text: &str| Err(StepError::new(kind, NODE, text));
        match self.claims.shared.ask(|reply| Notice::Ask { neighbour, user, reply }).await {
            Some(Ok(routes)) => Ok(routes.into_iter().map(claim).collect()),
            Some(Err(AskError::NotConnected)) => error(StepErrorKind::Unreachable, "the neighbour is gone"),
            Some(Err(AskError::Busy)) => error(StepErrorKind::Refused, "the neighbour's queue is full"),
            Some(Err(AskError::Timeout)) => error(StepErrorKind::Timeout, "the neighbour does not answer"),
            Some(Err(_)) => error(StepErrorKind::Other, "the neighbour gives no answer"),
            None => error(StepErrorKind::Other, "the node stops"),
        }
    }

    async fn recall(&self, limit: usize) -> Result<Vec<Route>, StepError> {
        let shared = &self.claims.shared;
        let user = Some(self.query.user.clone());
        let read = async {
            let routes = shared.store.load(Load::Routes { user: user.clone() }, None, limit.max(1)).await?;
            let records = shared.store.load(Load::Records { user }, None, DEVICES).await?;
            Ok::<_, byway_api::StoreError>((routes, records))
        };
        let (routes, records) = match timeout(shared.settings.answer_wait, read).await {
            Some(Ok(read)) => read,
            Some(Err(e)) => return Err(StepError::new(StepErrorKind::Other, NODE, "the store").with_source(e)),
            None => return Err(StepError::new(StepErrorKind::Timeout, NODE, "the store does not answer")),
        };
        let record_of = |peer| {
            records.iter().find_map(|(_, row)| match row {
                Row::Record(record) if record.peer == peer => Some(record.record.clone()),
                _ => None,
            })
        };
        let mut recalled: Vec<Route> = Vec::new();
        for (_, row) in routes {
            let Row::Route(row) = row else { continue };
            let route = Route::new(row.peer, row.address).with_last_seen(row.last_seen);
            recalled.push(match record_of(row.peer) {
                Some(record) => route.with_record(record),
                None => route,
            });
        }
        // Devices that never connected have no proven routes, and still their own word.
        for (_, row) in &records {
            let Row::Record(row) = row else { continue };
            let Ok(record) = shared.verify(&row.record) else { continue };
            for address in record.addresses() {
                if !recalled.iter().any(|r| r.peer == row.peer && r.address == *address) {
                    recalled.push(Route::new(row.peer, address.clone()).with_record(row.record.clone()));
                }
            }
        }
        recalled.truncate(limit);
        Ok(recalled)
    }

    fn found(&self, route: Route) -> ControlFlow<()> {
        self.claims.report(route)
    }

    fn meter(&self) -> &dyn Meter {
        &*self.claims.shared.meter
    }
}

/// What the core knows, as a plugin sees it.
fn claim(route: FoundRoute) -> Route {
    let mut claim = Route::new(route.peer, route.address);
    claim.record = route.record.map(|record| record.bytes().clone());
    claim.last_seen = route.last_seen;
    claim
}

struct SightingsView {
    claims: Claims,
}

impl Sightings for SightingsView {
    fn network(&self) -> &NetworkId {
        self.claims.shared.identity.network()
    }

    fn seen(&self, route: Route) -> ControlFlow<()> {
        self.claims.report(route)
    }

    fn meter(&self) -> &dyn Meter {
        &*self.claims.shared.meter
    }
}
