use std::fmt;
use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{NetworkId, PeerId, SignalAddress, StepError, UserId, WallTime};

/// One way to reach one device, as a step found it.
///
/// A claim, not a fact: the node verifies the record's signature before it uses the route, and Hello
/// proves the device before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The device.
    pub peer: PeerId,
    /// How to reach it.
    pub address: SignalAddress,
    /// Its signed record (the bytes of a `Signed` `PeerRecord`). Without one the node can use the
    /// route only with a transport that needs no signalling.
    pub record: Option<Bytes>,
    /// When the device was last known to be there, as far as the source knows.
    pub last_seen: Option<WallTime>,
}

impl Route {
    /// A route without a record.
    pub const fn new(peer: PeerId, address: SignalAddress) -> Self {
        Self { peer, address, record: None, last_seen: None }
    }

    /// Adds the signed record.
    #[must_use]
    pub fn with_record(mut self, record: Bytes) -> Self {
        self.record = Some(record);
        self
    }

    /// Adds when the device was last seen.
    #[must_use]
    pub const fn with_last_seen(mut self, at: WallTime) -> Self {
        self.last_seen = Some(at);
        self
    }
}

/// Who is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// The network.
    pub network: NetworkId,
    /// The user.
    pub user: UserId,
}

impl Query {
    /// A query.
    pub const fn new(network: NetworkId, user: UserId) -> Self {
        Self { network, user }
    }
}

/// A device that is connected to us now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The device.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
}

impl Neighbour {
    /// A neighbour.
    pub const fn new(peer: PeerId, user: UserId) -> Self {
        Self { peer, user }
    }
}

/// Counts the calls to a server. Ask before every call; a refusal means: do not make it now.
pub trait Meter: fmt::Debug + Send + Sync + 'static {
    /// Takes one token for `what` (a name for people: `"announce"`).
    ///
    /// # Errors
    /// [`NoBudget`](crate::StepErrorKind::NoBudget) if none is left; nothing was counted then.
    fn spend(&self, what: &'static str) -> Result<(), StepError>;
}

/// Lent to [`DiscoveryStep::find`] for one lookup.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Who is sought.
    fn query(&self) -> &Query;

    /// Who is connected to us now, best first.
    fn connected(&self) -> Vec<Neighbour>;

    /// Asks one neighbour for routes to the sought user.
    ///
    /// # Errors
    /// [`StepError`] if the neighbour is gone, refuses, or does not answer in time.
    async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, StepError>;

    /// The best remembered routes to the sought user, at most `limit`, best first.
    ///
    /// # Errors
    /// [`StepError`] if the store cannot be read.
    async fn recall(&self, limit: usize) -> Result<Vec<Route>, StepError>;

    /// Reports a route. `Break` means that the search is over: return.
    fn found(&self, route: Route) -> ControlFlow<()>;

    /// The call budget.
    fn meter(&self) -> &dyn Meter;
}

/// Lent to [`DiscoveryStep::browse`].
pub trait Sightings: Send + Sync {
    /// The network we are in.
    fn network(&self) -> &NetworkId;

    /// Reports a member that was seen. `Break` means: stop browsing.
    fn seen(&self, route: Route) -> ControlFlow<()>;

    /// The call budget.
    fn meter(&self) -> &dyn Meter;
}

/// What a device tells the world about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announcement {
    /// The network.
    pub network: NetworkId,
    /// The device.
    pub peer: PeerId,
    /// Its signed record.
    pub record: Bytes,
    /// Where it can be reached, best first.
    pub addresses: Vec<SignalAddress>,
    /// What it offers.
    pub capabilities: Vec<String>,
    /// It is leaving: forget it.
    pub leaving: bool,
}

impl Announcement {
    /// An announcement of a device that is there.
    pub const fn new(network: NetworkId, peer: PeerId, record: Bytes, addresses: Vec<SignalAddress>) -> Self {
        Self { network, peer, record, addresses, capabilities: Vec::new(), leaving: false }
    }
}

/// What a step costs others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cost {
    /// Nothing worth counting: memory, a file, neighbours.
    Free,
    /// Calls to a server. The ladder runs such a step only after all others, and its `browse` only
    /// if no neighbour gave a member list. Each call asks the [`Meter`] first.
    Metered,
}

/// One way to find routes to a user: one rung of the ladder.
///
/// # Behavior
/// * `find` reports every route through [`Lookup::found`] as soon as it has it, and returns when it
///   has no more or when `found` says `Break`. Finding nothing is `Ok`.
/// * It reports claims. It does not verify, rank or dial.
/// * The same step may run for several users at once.
///
/// # Cancellation
/// The node drops `find` when its time is up or the search is over. Dropping it stops the work.
///
/// # Shutdown
/// Nothing is kept between calls but what the step owns; it is dropped with the node.
///
/// # Notes to implementers
/// A plain loop is right. Errors are for explaining, not for control: the ladder goes on, and what was
/// reported before one counts. Run
/// `byway_testkit::step_conformance!` over it.
#[async_trait]
pub trait DiscoveryStep: fmt::Debug + Send + Sync + 'static {
    /// A short constant name, unique in the ladder.
    fn name(&self) -> &'static str;

    /// What it costs others.
    fn cost(&self) -> Cost {
        Cost::Free
    }

    /// Looks for routes to one user.
    ///
    /// # Errors
    /// [`StepError`] says why the step could not look; it appears in `explain()`.
    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError>;

    /// Reports members unasked, for as long as it runs: the first list of a registry, a LAN browser. It
    /// returns when it has told what there is, or runs on and is dropped. Our own device is no member to
    /// report: a step learns which one that is by [`announce`](Self::announce), or does not list it.
    ///
    /// # Errors
    /// [`StepError`] if it could not.
    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        let _ = sightings;
        Ok(())
    }

    /// Tells others about us. Called when our record changes, and once with `leaving` at shutdown.
    ///
    /// # Errors
    /// [`StepError`] if it could not; the node tries again later.
    async fn announce(&self, me: &Announcement, meter: &dyn Meter) -> Result<(), StepError> {
        let _ = (me, meter);
        Ok(())
    }
}
