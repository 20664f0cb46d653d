//! The membership of an issuer keeps the promises of `Membership`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use byway_api::{Membership, NetworkId, Secret};
use byway_testkit::membership::{Claims, MembershipFixture};
use byway_third_party::issued::{Issued, Issuer};

struct Group;

fn issuer(network: &NetworkId) -> Issuer {
    Issuer::new(&Secret::new([42; 32]), network.clone())
}

impl MembershipFixture for Group {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        Arc::new(Issued::new(&issuer(network).public_key(), network.clone()).unwrap())
    }
    fn credential(&self, claims: &Claims) -> Option<String> {
        let user = claims.user.parse().ok()?;
        Some(issuer(&claims.network).issue(&user, &claims.device.peer(), claims.from, claims.life))
    }
}

byway_testkit::membership_conformance!(issued, Group);
