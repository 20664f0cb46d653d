//! The conformance suite for [`DiscoveryStep`](byway_api::DiscoveryStep), and scripted views for a
//! step author's own tests.
//!
//! ```no_run
//! use byway_testkit::step::{StepFixture, World};
//!
//! struct MyWorld;
//! # async fn my_world() -> World { std::process::abort() }
//!
//! #[byway_api::async_trait]
//! impl StepFixture for MyWorld {
//!     async fn world(&self) -> World {
//!         my_world().await
//!     }
//! }
//!
//! // in tests/conformance.rs
//! byway_testkit::step_conformance!(my_step, MyWorld);
//! # fn main() {}
//! ```
//!
//! gives a module `my_step` with one `#[test]` per promise. A promise that does not apply (a step that
//! costs nothing, a step that does not browse) prints `skipped: ...`.

pub mod broken;
mod browsing;
mod finding;
mod metering;
mod script;
mod world;

pub use browsing::{announcing_again_is_harmless, browsing_reports_the_members, browsing_stops_on_break};
pub use finding::{
    a_dead_source_ends_in_time, a_dropped_find_stops, a_known_user_is_found, finding_nothing_is_ok,
    finding_stops_on_break, only_the_sought_user_is_reported, the_name_is_constant, users_are_sought_at_once,
};
pub use metering::{a_free_step_spends_nothing, an_empty_meter_stops_every_call, every_call_is_paid_for};
pub use script::{Answer, Script, ScriptedLookup, ScriptedMeter, ScriptedSightings};
pub use world::{Limits, StepFixture, World};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn StepFixture>] = crate::__step_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn StepFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __step_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] step:
            the_name_is_constant
            a_known_user_is_found
            finding_nothing_is_ok
            only_the_sought_user_is_reported
            finding_stops_on_break
            a_dropped_find_stops
            a_dead_source_ends_in_time
            users_are_sought_at_once
            an_empty_meter_stops_every_call
            every_call_is_paid_for
            a_free_step_spends_nothing
            browsing_reports_the_members
            browsing_stops_on_break
            announcing_again_is_harmless
        }
    };
}

/// Tests a discovery step against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`StepFixture`](crate::step::StepFixture); it is evaluated anew for each test, inside
/// a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! step_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__step_promises! { tests $crate::step::boxed($fixture) }
        }
    };
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl StepFixture) -> Box<dyn StepFixture> {
    Box::new(fixture)
}
