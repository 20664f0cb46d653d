use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{
    Lookup, Meter, Neighbour, NetworkId, PeerId, Query, Route, Sightings, StepError, StepErrorKind, UserId, async_trait,
};
use tokio::sync::Notify;

/// How a neighbour, or the memory, answers a question.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// With routes.
    Routes(Vec<Route>),
    /// With routes, after a while.
    Slowly(Duration, Vec<Route>),
    /// With an error.
    Fails(StepErrorKind),
    /// Not at all: the call is pending until it is dropped.
    Never,
}

impl Answer {
    async fn give(self) -> Result<Vec<Route>, StepError> {
        match self {
            Self::Routes(routes) => Ok(routes),
            Self::Slowly(delay, routes) => {
                tokio::time::sleep(delay).await;
                Ok(routes)
            }
            Self::Fails(kind) => Err(StepError::new(kind, "script", "as the script says")),
            Self::Never => std::future::pending().await,
        }
    }
}

/// What a [`ScriptedLookup`] shows to a step.
#[derive(Clone, Debug)]
pub struct Script {
    network: NetworkId,
    neighbours: Vec<Neighbour>,
    answers: BTreeMap<(PeerId, String), Answer>,
    memory: BTreeMap<String, Answer>,
    break_after: Option<usize>,
    tokens: u32,
}

impl Script {
    /// A world without neighbours and memory, with 1,000 tokens and a search that never breaks off.
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            neighbours: Vec::new(),
            answers: BTreeMap::new(),
            memory: BTreeMap::new(),
            break_after: None,
            tokens: 1_000,
        }
    }

    /// Adds a neighbour, behind those that are there.
    #[must_use]
    pub fn neighbour(mut self, peer: PeerId, user: UserId) -> Self {
        self.neighbours.push(Neighbour::new(peer, user));
        self
    }

    /// What `neighbour` answers when asked for `user`. Otherwise it knows no route.
    #[must_use]
    pub fn answers(mut self, neighbour: PeerId, user: &UserId, answer: Answer) -> Self {
        self.answers.insert((neighbour, user.to_string()), answer);
        self
    }

    /// What is remembered of `user`, best first. Otherwise nothing is.
    #[must_use]
    pub fn remembers(mut self, user: &UserId, answer: Answer) -> Self {
        self.memory.insert(user.to_string(), answer);
        self
    }

    /// `found` and `seen` say `Break` from the `routes`-th route on, counted from 1.
    #[must_use]
    pub const fn breaking_after(mut self, routes: usize) -> Self {
        self.break_after = Some(routes);
        self
    }

    /// How many tokens the meter has.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: u32) -> Self {
        self.tokens = tokens;
        self
    }

    /// Every neighbour and the memory fail.
    #[must_use]
    pub fn failing(mut self, kind: StepErrorKind) -> Self {
        self.answers.values_mut().chain(self.memory.values_mut()).for_each(|answer| *answer = Answer::Fails(kind));
        self
    }

    /// A lookup for `user`.
    pub fn lookup(&self, user: &UserId) -> ScriptedLookup {
        ScriptedLookup {
            query: Query::new(self.network.clone(), user.clone()),
            meter: ScriptedMeter::new(self.tokens),
            reports: Reports::new(self.break_after),
            asked: Mutex::default(),
            script: self.clone(),
        }
    }

    /// A view for browsing.
    pub fn sightings(&self) -> ScriptedSightings {
        ScriptedSightings {
            network: self.network.clone(),
            meter: ScriptedMeter::new(self.tokens),
            reports: Reports::new(self.break_after),
        }
    }
}

/// Collects routes, and says `Break` when the script wants it.
#[derive(Debug)]
struct Reports {
    routes: Mutex<Vec<Route>>,
    another: Notify,
    break_after: Option<usize>,
}

impl Reports {
    fn new(break_after: Option<usize>) -> Self {
        Self { routes: Mutex::default(), another: Notify::new(), break_after }
    }

    fn add(&self, route: Route) -> ControlFlow<()> {
        let mut routes = lock(&self.routes);
        routes.push(route);
        self.another.notify_one();
        match self.break_after {
            Some(bound) if routes.len() >= bound => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn all(&self) -> Vec<Route> {
        lock(&self.routes).clone()
    }

    fn after_break(&self) -> usize {
        lock(&self.routes).len().saturating_sub(self.break_after.unwrap_or(usize::MAX))
    }
}

/// A [`Lookup`] that follows a [`Script`] and remembers what the step did with it.
#[derive(Debug)]
pub struct ScriptedLookup {
    query: Query,
    script: Script,
    meter: ScriptedMeter,
    reports: Reports,
    asked: Mutex<Vec<PeerId>>,
}

impl ScriptedLookup {
    /// The routes that were reported, in order.
    pub fn reported(&self) -> Vec<Route> {
        self.reports.all()
    }

    /// How many routes were reported after `found` had said `Break`.
    pub fn reported_after_break(&self) -> usize {
        self.reports.after_break()
    }

    /// The neighbours that were asked, in order.
    pub fn asked(&self) -> Vec<PeerId> {
        lock(&self.asked).clone()
    }

    /// The meter, to see what was spent.
    pub const fn scripted_meter(&self) -> &ScriptedMeter {
        &self.meter
    }
}

#[async_trait]
impl Lookup for ScriptedLookup {
    fn query(&self) -> &Query {
        &self.query
    }

    fn connected(&self) -> Vec<Neighbour> {
        self.script.neighbours.clone()
    }

    async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, StepError> {
        lock(&self.asked).push(neighbour);
        if !self.script.neighbours.iter().any(|n| n.peer == neighbour) {
            return Err(StepError::new(StepErrorKind::Unreachable, "script", format!("{neighbour} is no neighbour")));
        }
        let answer = self.script.answers.get(&(neighbour, self.query.user.to_string()));
        answer.cloned().unwrap_or(Answer::Routes(Vec::new())).give().await
    }

    async fn recall(&self, limit: usize) -> Result<Vec<Route>, StepError> {
        let answer = self.script.memory.get(self.query.user.as_str()).cloned();
        let mut routes = answer.unwrap_or(Answer::Routes(Vec::new())).give().await?;
        routes.truncate(limit);
        Ok(routes)
    }

    fn found(&self, route: Route) -> ControlFlow<()> {
        self.reports.add(route)
    }

    fn meter(&self) -> &dyn Meter {
        &self.meter
    }
}

/// A [`Sightings`] that remembers what was seen.
#[derive(Debug)]
pub struct ScriptedSightings {
    network: NetworkId,
    meter: ScriptedMeter,
    reports: Reports,
}

impl ScriptedSightings {
    /// What was seen, in order.
    pub fn reported(&self) -> Vec<Route> {
        self.reports.all()
    }

    /// Waits until something is seen that this call has not been woken for yet.
    pub async fn another(&self) {
        self.reports.another.notified().await;
    }

    /// How many sightings were reported after `seen` had said `Break`.
    pub fn reported_after_break(&self) -> usize {
        self.reports.after_break()
    }

    /// The meter, to see what was spent.
    pub const fn scripted_meter(&self) -> &ScriptedMeter {
        &self.meter
    }
}

impl Sightings for ScriptedSightings {
    fn network(&self) -> &NetworkId {
        &self.network
    }

    fn seen(&self, route: Route) -> ControlFlow<()> {
        self.reports.add(route)
    }

    fn meter(&self) -> &dyn Meter {
        &self.meter
    }
}

/// A [`Meter`] with a number of tokens and no clock. Cheap to clone; every clone is the same meter.
#[derive(Clone, Debug)]
pub struct ScriptedMeter {
    state: Arc<Mutex<Purse>>,
}

#[derive(Debug)]
struct Purse {
    tokens: u32,
    spent: Vec<&'static str>,
    refused: u64,
}

impl ScriptedMeter {
    /// A meter with so many tokens, and never more.
    pub fn new(tokens: u32) -> Self {
        Self { state: Arc::new(Mutex::new(Purse { tokens, spent: Vec::new(), refused: 0 })) }
    }

    /// What tokens were spent on, in order.
    pub fn spent(&self) -> Vec<&'static str> {
        lock(&self.state).spent.clone()
    }

    /// How often the meter was asked in vain.
    pub fn refused(&self) -> u64 {
        lock(&self.state).refused
    }
}

impl Meter for ScriptedMeter {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        let mut purse = lock(&self.state);
        let Some(left) = purse.tokens.checked_sub(1) else {
            purse.refused += 1;
            return Err(StepError::new(StepErrorKind::NoBudget, "script", format!("no token for {what}")));
        };
        purse.tokens = left;
        purse.spent.push(what);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
