//! The conformance suite for [`Membership`](byway_api::Membership).
//!
//! ```no_run
//! use std::sync::Arc;
//! use byway_api::{Membership, NetworkId};
//! use byway_testkit::membership::{Claims, MembershipFixture};
//! use byway_wire::{OpenMembership, issue_self_token};
//!
//! struct Open;
//!
//! impl MembershipFixture for Open {
//!     fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
//!         Arc::new(OpenMembership::new(network.clone()))
//!     }
//!     fn credential(&self, claims: &Claims) -> Option<String> {
//!         let user = claims.user.parse().ok()?; // no credential for what is no user id
//!         let Claims { device, network, from, life, .. } = claims;
//!         Some(issue_self_token(device, network, &user, &device.peer(), *from, *life, [7; 16]))
//!     }
//! }
//!
//! // in tests/conformance.rs
//! byway_testkit::membership_conformance!(open, Open);
//! # fn main() {}
//! ```
//!
//! gives a module `open` with one `#[test]` per promise. A promise that does not apply (about a
//! credential that the fixture cannot make) prints `skipped: ...`.

pub mod broken;
mod fixture;
mod judging;
mod tampering;

pub use fixture::{Claims, Limits, MembershipFixture};
pub use judging::{
    a_credential_is_for_one_device, a_credential_is_for_one_network, a_credential_is_good_from_its_start,
    a_credential_is_good_until_its_end, names_are_in_one_form, the_right_device_is_a_member, the_same_is_judged_alike,
    verify_does_not_block,
};
pub use tampering::{
    a_cut_or_longer_credential_is_refused, every_flipped_bit_is_noticed, garbage_is_refused, refusals_are_short,
};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn MembershipFixture>] = crate::__membership_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn MembershipFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __membership_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] membership:
            the_right_device_is_a_member
            a_credential_is_for_one_device
            a_credential_is_for_one_network
            a_credential_is_good_from_its_start
            a_credential_is_good_until_its_end
            names_are_in_one_form
            the_same_is_judged_alike
            verify_does_not_block
            garbage_is_refused
            a_cut_or_longer_credential_is_refused
            every_flipped_bit_is_noticed
            refusals_are_short
        }
    };
}

/// Tests a membership against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`MembershipFixture`](crate::membership::MembershipFixture); it is evaluated anew for
/// each test, inside a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! membership_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__membership_promises! { tests $crate::membership::boxed($fixture) }
        }
    };
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl MembershipFixture) -> Box<dyn MembershipFixture> {
    Box::new(fixture)
}
