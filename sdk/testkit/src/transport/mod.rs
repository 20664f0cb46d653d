//! The conformance suite for [`Transport`](byway_api::Transport), [`Endpoint`](byway_api::Endpoint)
//! and [`Connection`](byway_api::Connection).
//!
//! ```no_run
//! # fn my_transport() -> std::sync::Arc<dyn byway_api::Transport> { std::process::abort() }
//! // in tests/conformance.rs
//! use byway_testkit::transport::TransportFixture;
//!
//! byway_testkit::transport_conformance!(mine, TransportFixture::new(my_transport()));
//! # fn main() {}
//! ```
//!
//! gives a module `mine` with one `#[test]` per promise. The kit binds the transport, lends it
//! signals if it needs them, and runs every promise in both directions. A promise that does not apply
//! to the transport's capabilities prints `skipped: ...`.
//!
//! Whether a transport keeps several connections between the same two endpoints is its own affair: the
//! suite never needs two at once, and takes further devices where it needs many connections.
//!
//! What the suite cannot wait for as an event - that *nothing* happens, that a send *stays* waiting -
//! it takes as given after [`Limits::quiet`].

mod bounds;
pub mod broken;
mod closing;
mod dialling;
mod fixture;
mod frames;
mod identity;
mod signalling;

pub use bounds::{a_full_connection_does_not_stall_another, empty_frames_are_bounded_too, send_waits_for_room};
pub use closing::{
    after_close_nothing_is_sent, close_ends_waiting_calls, closing_an_endpoint_ends_its_connections,
    closing_an_endpoint_is_final, dropping_the_last_handle_closes, no_task_is_left, the_close_code_arrives,
    what_was_sent_before_close_arrives,
};
pub use dialling::{
    a_dropped_dial_leaves_nothing, accepted_connections_wait, addresses_are_its_own, an_unknown_address_is_refused,
    binding_twice_makes_two_endpoints, crossing_dials_make_one_connection, dial_and_accept,
    dialling_nobody_fails_in_time, many_connections_in_parallel, next_is_cancel_safe, the_accept_queue_is_bounded,
};
pub use fixture::{Ends, Limits, Pair, Side, TransportFixture};
pub use frames::{
    a_longer_frame_is_refused_and_the_connection_lives, an_empty_frame_is_a_frame,
    frames_arrive_whole_in_order_and_once, the_longest_frame_arrives,
};
pub use identity::{
    bindings_are_equal_and_unique, capabilities_are_sound, the_path_is_plausible, the_peer_is_right_if_known,
};
pub use signalling::{late_signals_do_no_harm, lost_signals_fail_the_dial_in_time, repeated_signals_do_no_harm};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<TransportFixture>] = crate::__transport_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &TransportFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __transport_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] transport:
            capabilities_are_sound
            addresses_are_its_own
            dial_and_accept
            dialling_nobody_fails_in_time
            an_unknown_address_is_refused
            a_dropped_dial_leaves_nothing
            next_is_cancel_safe
            accepted_connections_wait
            the_accept_queue_is_bounded
            crossing_dials_make_one_connection
            many_connections_in_parallel
            binding_twice_makes_two_endpoints
            frames_arrive_whole_in_order_and_once
            an_empty_frame_is_a_frame
            the_longest_frame_arrives
            a_longer_frame_is_refused_and_the_connection_lives
            send_waits_for_room
            empty_frames_are_bounded_too
            a_full_connection_does_not_stall_another
            what_was_sent_before_close_arrives
            the_close_code_arrives
            after_close_nothing_is_sent
            close_ends_waiting_calls
            dropping_the_last_handle_closes
            closing_an_endpoint_is_final
            closing_an_endpoint_ends_its_connections
            no_task_is_left
            bindings_are_equal_and_unique
            the_peer_is_right_if_known
            the_path_is_plausible
            lost_signals_fail_the_dial_in_time
            repeated_signals_do_no_harm
            late_signals_do_no_harm
        }
    };
}

/// Tests a transport against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`TransportFixture`]; it is evaluated anew for each test, inside a tokio
/// runtime, and may `.await`.
#[macro_export]
macro_rules! transport_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__transport_promises! { tests $fixture }
        }
    };
}
