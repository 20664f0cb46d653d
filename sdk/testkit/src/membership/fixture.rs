use std::sync::Arc;
use std::time::Duration;

use byway_api::{Member, Membership, MembershipError, NetworkId, Secret, WallTime};
use byway_wire::DeviceKey;
use byway_wire::limits::CREDENTIAL_SKEW;

use crate::promise::Broken;

/// What the suite grants a membership.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 60 s.
    pub deadline: Duration,
    /// The median of some judgements takes no longer, in a debug build on a busy machine. Default
    /// 25 ms.
    pub judgement: Duration,
    /// How far two clocks may differ. Default 5 min, as in the protocol.
    pub skew: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), judgement: Duration::from_millis(25), skew: CREDENTIAL_SKEW }
    }
}

/// What a credential is to say.
#[derive(Debug)]
#[non_exhaustive]
pub struct Claims {
    /// The network it is for.
    pub network: NetworkId,
    /// The user it names; not always one that has the form of a [`UserId`](byway_api::UserId).
    pub user: String,
    /// The device it is bound to.
    pub device: DeviceKey,
    /// When it begins; whole seconds.
    pub from: WallTime,
    /// How long it is good; whole seconds.
    pub life: Duration,
}

/// Makes memberships and credentials that they accept.
pub trait MembershipFixture: Send + Sync + 'static {
    /// The membership of a network.
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership>;

    /// A credential as the network's issuer would make it; `None` if it would never make this one.
    fn credential(&self, claims: &Claims) -> Option<String>;

    /// What the suite grants this membership.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// When credentials of the suite begin.
pub(super) const START: WallTime = WallTime::from_millis(1_800_000_000_000);
pub(super) const LIFE: Duration = Duration::from_secs(7_200);
/// In the middle of a credential's life.
pub(super) const NOON: WallTime = WallTime::from_millis(1_800_003_600_000);

pub(super) fn network(name: &str) -> NetworkId {
    match NetworkId::new(name) {
        Ok(network) => network,
        Err(error) => unreachable!("a constant name: {error}"),
    }
}

pub(super) fn device(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([n; 32]))
}

/// What alice's credential says.
pub(super) fn alice() -> Claims {
    Claims { network: network("blue"), user: "alice".to_owned(), device: device(1), from: START, life: LIFE }
}

/// A credential that every fixture makes.
pub(super) fn credential(fixture: &dyn MembershipFixture, claims: &Claims) -> Result<String, Broken> {
    fixture.credential(claims).ok_or_else(|| Broken::new(format!("the fixture makes no credential of {claims:?}")))
}

/// Judges alice's network, her device and this moment.
pub(super) fn judge(membership: &dyn Membership, credential: &str, now: WallTime) -> Result<Member, MembershipError> {
    membership.verify(credential, &device(1).peer(), now)
}
