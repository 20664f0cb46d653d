//! The suite for key stores itself: a sound store passes it, and each broken one fails exactly the
//! promise that it breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use byway_testkit::key_store_conformance;
use byway_testkit::keys::broken::{BrokenFixture, Fault};
use byway_testkit::keys::{PROMISES, boxed};
use support::keys::SmallFile;
use support::trial;

const NONE: [&str; 0] = [];

#[test]
fn a_sound_store_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(SmallFile));
    assert_eq!(broken, NONE);
    assert!(cfg!(not(unix)) || skipped.is_empty(), "{skipped:?}");
}

#[cfg(unix)]
#[test]
fn each_broken_store_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        println!("{fault:?}");
        let (broken, _) = trial(PROMISES, || boxed(BrokenFixture::new(SmallFile, *fault)));
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

// One fixture through the macro, as an author of a key store writes it.
key_store_conformance!(by_macro, SmallFile);
