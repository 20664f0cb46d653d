//! Steps that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

#![expect(clippy::disallowed_methods, reason = "a task that nobody ends is what is broken here")]

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use byway_api::{
    Announcement, Cost, DiscoveryStep, Lookup, Meter, Neighbour, NetworkId, PeerId, Query, Route, Sightings,
    SignalAddress, StepError, StepErrorKind, async_trait,
};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Reports on after `Break`.
    IgnoresBreak,
    /// Finding nothing is an error.
    FailsOnNothing,
    /// Reports another device too.
    ReportsAStranger,
    /// Makes its calls although the meter refused, or without asking.
    DoesNotPay,
    /// Does not end when its source fails.
    WaitsForever,
    /// Starts a task that goes on when `find` is dropped.
    WorksOn,
    /// `browse` reports on after `Break`.
    BrowsesOn,
    /// `browse` reports a device of another network too.
    BrowsesElsewhere,
    /// `browse` is silent.
    SeesNobody,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::IgnoresBreak, &["finding_stops_on_break"]),
        (Self::FailsOnNothing, &["finding_nothing_is_ok", "users_are_sought_at_once"]),
        (Self::ReportsAStranger, &["only_the_sought_user_is_reported"]),
        (Self::DoesNotPay, &["an_empty_meter_stops_every_call", "every_call_is_paid_for"]),
        (Self::WaitsForever, &["a_dead_source_ends_in_time"]),
        (Self::WorksOn, &["a_dropped_find_stops"]),
        (Self::BrowsesOn, &["browsing_stops_on_break"]),
        (Self::BrowsesElsewhere, &["browsing_reports_the_members"]),
        (Self::SeesNobody, &["browsing_reports_the_members"]),
    ];
}

/// A step with one [`Fault`].
#[derive(Clone, Debug)]
pub struct BrokenStep {
    inner: Arc<dyn DiscoveryStep>,
    fault: Fault,
}

impl BrokenStep {
    /// Breaks a sound step.
    pub fn new(inner: Arc<dyn DiscoveryStep>, fault: Fault) -> Self {
        Self { inner, fault }
    }
}

#[async_trait]
impl DiscoveryStep for BrokenStep {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn cost(&self) -> Cost {
        self.inner.cost()
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        if self.fault == Fault::WorksOn {
            tokio::spawn(std::future::pending::<()>());
        }
        let lookup = BrokenLookup { inner: lookup, fault: self.fault, count: Count::default() };
        let found = self.inner.find(&lookup).await;
        match (self.fault, found) {
            (Fault::FailsOnNothing, Ok(())) if lookup.count.get() == 0 => {
                Err(StepError::new(StepErrorKind::Other, "broken", "nothing found"))
            }
            (Fault::WaitsForever, Err(e)) if e.kind() != StepErrorKind::NoBudget => std::future::pending().await,
            (_, found) => found,
        }
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        if self.fault == Fault::SeesNobody {
            return std::future::pending().await;
        }
        self.inner.browse(&BrokenSightings { inner: sightings, fault: self.fault, count: Count::default() }).await
    }

    async fn announce(&self, me: &Announcement, meter: &dyn Meter) -> Result<(), StepError> {
        let meter: &dyn Meter = if self.fault == Fault::DoesNotPay { &Unlimited } else { meter };
        self.inner.announce(me, meter).await
    }
}

/// How many routes the step has reported.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Count {
    /// Counts one; how many there were before.
    fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct BrokenLookup<'a> {
    inner: &'a dyn Lookup,
    fault: Fault,
    count: Count,
}

impl fmt::Debug for BrokenLookup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokenLookup({:?})", self.fault)
    }
}

#[async_trait]
impl Lookup for BrokenLookup<'_> {
    fn query(&self) -> &Query {
        self.inner.query()
    }

    fn connected(&self) -> Vec<Neighbour> {
        self.inner.connected()
    }

    async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, StepError> {
        self.inner.ask(neighbour).await
    }

    async fn recall(&self, limit: usize) -> Result<Vec<Route>, StepError> {
        self.inner.recall(limit).await
    }

    fn found(&self, route: Route) -> ControlFlow<()> {
        if self.count.up() == 0 && self.fault == Fault::ReportsAStranger {
            self.inner.found(stranger())?;
        }
        let over = self.inner.found(route);
        if self.fault == Fault::IgnoresBreak { ControlFlow::Continue(()) } else { over }
    }

    fn meter(&self) -> &dyn Meter {
        if self.fault == Fault::DoesNotPay { &Unlimited } else { self.inner.meter() }
    }
}

/// Somebody who does not belong here.
fn stranger() -> Route {
    let stranger = PeerId::from_bytes([0xee; 32]);
    Route::new(stranger, SignalAddress::through(stranger))
}

struct BrokenSightings<'a> {
    inner: &'a dyn Sightings,
    fault: Fault,
    count: Count,
}

impl Sightings for BrokenSightings<'_> {
    fn network(&self) -> &NetworkId {
        self.inner.network()
    }

    fn seen(&self, route: Route) -> ControlFlow<()> {
        if self.count.up() == 0 && self.fault == Fault::BrowsesElsewhere {
            self.inner.seen(stranger())?;
        }
        let over = self.inner.seen(route);
        if self.fault == Fault::BrowsesOn { ControlFlow::Continue(()) } else { over }
    }

    fn meter(&self) -> &dyn Meter {
        if self.fault == Fault::DoesNotPay { &Unlimited } else { self.inner.meter() }
    }
}

/// A meter that counts nothing.
#[derive(Debug)]
struct Unlimited;

impl Meter for Unlimited {
    fn spend(&self, _what: &'static str) -> Result<(), StepError> {
        Ok(())
    }
}
