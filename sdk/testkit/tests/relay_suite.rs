//! The suite for relays itself: sound ones pass it, and each broken one fails exactly the promise that
//! it breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use byway_testkit::relay::broken::{BrokenFixture, Fault};
use byway_testkit::relay::{PROMISES, boxed};
use byway_testkit::relay_conformance;
use support::holder::{Forwarding, Holding};
use support::trial;

const NONE: [&str; 0] = [];

#[test]
fn a_sound_holder_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(Holding::default()));
    assert_eq!((broken, skipped), (NONE.to_vec(), vec!["a_relay_that_holds_nothing_says_so"]));
}

#[test]
fn a_sound_relay_that_holds_nothing_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(Forwarding));
    assert_eq!(broken, NONE);
    assert!(!skipped.contains(&"a_relay_that_holds_nothing_says_so") && skipped.contains(&"fetch_removes_nothing"));
}

#[test]
fn each_broken_relay_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        println!("{fault:?}");
        let (broken, _) = match fault {
            Fault::PretendsToHold => trial(PROMISES, || boxed(BrokenFixture::new(Forwarding, *fault))),
            _ => trial(PROMISES, || boxed(BrokenFixture::new(Holding::default(), *fault))),
        };
        assert_eq!(&broken, promises, "{fault:?}");
    }
}

#[test]
fn every_promise_is_broken_by_some_fault() {
    for promise in PROMISES {
        let fault = Fault::ALL.iter().find(|(_, breaks)| breaks.contains(&promise.name()));
        assert!(fault.is_some(), "nothing shows that {} can fail", promise.name());
    }
}

// Fixtures through the macro, as an author of a relay writes it.
relay_conformance!(holder_by_macro, Holding::default());
relay_conformance!(forwarder_by_macro, Forwarding);
