//! The conformance suite for [`Relay`](byway_api::Relay).
//!
//! ```no_run
//! use std::sync::Arc;
//! use byway_api::Relay;
//! use byway_testkit::relay::RelayFixture;
//!
//! struct MyFixture;
//! # fn my_relay() -> Arc<dyn Relay> { std::process::abort() }
//!
//! impl RelayFixture for MyFixture {
//!     fn open(&self) -> Arc<dyn Relay> {
//!         my_relay()
//!     }
//! }
//!
//! // in tests/conformance.rs
//! byway_testkit::relay_conformance!(my_relay_keeps_its_promises, MyFixture);
//! # fn main() {}
//! ```
//!
//! gives a module with one `#[test]` per promise. A promise that does not apply (about mail that a relay
//! does not hold) prints `skipped: ...`.

pub mod broken;
mod carrier;
mod fixture;
mod forwarding;
mod holding;
mod policy;

pub use carrier::{Answer, ScriptedCarrier};
pub use fixture::{Limits, RelayFixture};
pub use forwarding::{
    a_dropped_forward_stops, forward_hands_over_once_and_unchanged, forward_reports_a_refusal_as_it_is,
    forward_returns_the_hops_answer, forwards_run_at_once,
};
pub use holding::{
    a_full_box_is_quota, a_relay_that_holds_nothing_says_so, fetch_removes_nothing, held_mail_survives_reopening,
    holding_again_keeps_one_copy, mail_that_has_expired_is_not_given, pages_together_are_the_whole,
    release_forgets_what_was_named, what_was_held_is_fetched_in_order,
};
pub use policy::{
    admit_is_quick, admit_needs_no_runtime, admitted_mail_is_let_through, other_mail_is_refused, the_name_is_constant,
};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn RelayFixture>] = crate::__relay_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn RelayFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __relay_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] relay:
            the_name_is_constant
            admitted_mail_is_let_through
            other_mail_is_refused
            admit_is_quick
            admit_needs_no_runtime
            forward_hands_over_once_and_unchanged
            forward_returns_the_hops_answer
            forward_reports_a_refusal_as_it_is
            a_dropped_forward_stops
            forwards_run_at_once
            a_relay_that_holds_nothing_says_so
            what_was_held_is_fetched_in_order
            fetch_removes_nothing
            pages_together_are_the_whole
            holding_again_keeps_one_copy
            release_forgets_what_was_named
            held_mail_survives_reopening
            mail_that_has_expired_is_not_given
            a_full_box_is_quota
        }
    };
}

/// Tests a relay against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`RelayFixture`](crate::relay::RelayFixture); it is evaluated anew for each test,
/// inside a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! relay_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__relay_promises! { tests $crate::relay::boxed($fixture) }
        }
    };
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl RelayFixture) -> Box<dyn RelayFixture> {
    Box::new(fixture)
}
