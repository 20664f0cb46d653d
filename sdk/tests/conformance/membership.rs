//! The membership of open networks.

use std::sync::Arc;

use byway_api::{Membership, NetworkId};
use byway_testkit::membership::{Claims, MembershipFixture};
use byway_testkit::membership_conformance;
use byway_wire::{OpenMembership, issue_self_token};

struct Open;

impl MembershipFixture for Open {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        Arc::new(OpenMembership::new(network.clone()))
    }

    fn credential(&self, claims: &Claims) -> Option<String> {
        // a name in another form has no UserId, and so no token of ours; those of others are refused in
        // the tests of byway-wire
        let user = claims.user.parse().ok()?;
        let Claims { device, network, from, life, .. } = claims;
        Some(issue_self_token(device, network, &user, &device.peer(), *from, *life, [7; 16]))
    }
}

membership_conformance!(open, Open);

/// A further device of the same user, whose token an earlier device has signed.
struct Authorised;

impl MembershipFixture for Authorised {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        Arc::new(OpenMembership::new(network.clone()))
    }

    fn credential(&self, claims: &Claims) -> Option<String> {
        let user = claims.user.parse().ok()?;
        let Claims { device, network, from, life, .. } = claims;
        let earlier = byway_wire::DeviceKey::from_seed(&byway_api::Secret::new([77; 32]));
        Some(issue_self_token(&earlier, network, &user, &device.peer(), *from, *life, [7; 16]))
    }
}

membership_conformance!(authorised, Authorised);
