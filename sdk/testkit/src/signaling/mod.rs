//! The conformance suite for carriers of signals: [`Signaling`](byway_api::Signaling).
//!
//! ```no_run
//! use byway_testkit::signaling::{SignalFixture, SignalWorld};
//!
//! struct MyFixture;
//! # fn my_world() -> Box<dyn SignalWorld> { std::process::abort() }
//!
//! #[byway_api::async_trait]
//! impl SignalFixture for MyFixture {
//!     async fn world(&self) -> Box<dyn SignalWorld> {
//!         my_world()
//!     }
//! }
//!
//! // in tests/conformance.rs
//! byway_testkit::signaling_conformance!(my_carrier, MyFixture);
//! # fn main() {}
//! ```
//!
//! gives a module `my_carrier` with one `#[test]` per promise. A world is a place where carriers meet,
//! [`MemoryHub`] for one. Every promise is tested in both directions between its first two carriers, so
//! a world of two implementations tests them against each other. A promise that does not apply (about
//! an outage that the world cannot make, about calls that it does not count) prints `skipped: ...`.

mod bounds;
pub mod broken;
mod closing;
mod lasting;
mod reference;
mod sending;
mod stage;
mod world;

pub use bounds::{a_flood_is_refused_with_busy, a_longer_envelope_is_refused, the_longest_envelope_arrives};
pub use closing::{
    after_close_nothing_is_received, after_close_nothing_is_sent, close_ends_a_waiting_recv, close_is_idempotent,
    close_leaves_nothing,
};
pub use lasting::{
    a_network_change_does_no_harm, an_empty_meter_stops_every_call, attach_does_not_wait, every_call_is_paid_for,
    it_reconnects_by_itself,
};
pub use reference::{MemoryCarrier, MemoryHub};
pub use sending::{
    a_device_that_is_not_there_is_no_such_peer, a_dropped_send_does_no_harm, envelopes_arrive_whole_and_once,
    nothing_is_stored, own_addresses_lead_here, recv_is_cancel_safe, serves_agrees_with_send, the_name_is_constant,
    the_way_back_leads_to_the_sender,
};
pub use world::{Limits, SignalFixture, SignalWorld};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn SignalFixture>] = crate::__signaling_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn SignalFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __signaling_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] signaling:
            the_name_is_constant
            attach_does_not_wait
            envelopes_arrive_whole_and_once
            the_way_back_leads_to_the_sender
            own_addresses_lead_here
            serves_agrees_with_send
            a_device_that_is_not_there_is_no_such_peer
            nothing_is_stored
            recv_is_cancel_safe
            a_dropped_send_does_no_harm
            the_longest_envelope_arrives
            a_longer_envelope_is_refused
            a_flood_is_refused_with_busy
            it_reconnects_by_itself
            a_network_change_does_no_harm
            every_call_is_paid_for
            an_empty_meter_stops_every_call
            close_is_idempotent
            close_ends_a_waiting_recv
            after_close_nothing_is_received
            after_close_nothing_is_sent
            close_leaves_nothing
        }
    };
}

/// Tests a carrier of signals against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`SignalFixture`](crate::signaling::SignalFixture); it is evaluated anew for each
/// test, inside a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! signaling_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__signaling_promises! { tests $crate::signaling::boxed($fixture) }
        }
    };
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl SignalFixture) -> Box<dyn SignalFixture> {
    Box::new(fixture)
}
