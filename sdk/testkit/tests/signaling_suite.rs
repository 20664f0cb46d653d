//! The suite for carriers itself: the reference passes it, and each broken carrier fails exactly the
//! promise that it breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use byway_testkit::signaling::broken::{BrokenFixture, Fault};
use byway_testkit::signaling::{MemoryHub, PROMISES, SignalFixture, SignalWorld, boxed};
use byway_testkit::signaling_conformance;
use support::trial;

const NONE: [&str; 0] = [];

#[test]
fn the_reference_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(MemoryHub::new()));
    assert_eq!((broken, skipped), (NONE.to_vec(), NONE.to_vec()));
}

#[test]
fn each_broken_carrier_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        println!("{fault:?}");
        let (broken, _) = trial(PROMISES, || boxed(BrokenFixture::new(MemoryHub::new(), *fault)));
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

/// One carrier of a world is broken, the other is sound.
#[derive(Debug)]
struct Mixed(Fault);

struct MixedWorld(MemoryHub, Fault);

#[byway_api::async_trait]
impl SignalFixture for Mixed {
    async fn world(&self) -> Box<dyn SignalWorld> {
        Box::new(MixedWorld(MemoryHub::new(), self.0))
    }
}

#[byway_api::async_trait]
impl SignalWorld for MixedWorld {
    async fn carrier(&self, n: usize) -> std::sync::Arc<dyn byway_api::Signaling> {
        let sound = SignalWorld::carrier(&self.0, n).await;
        match n {
            1 => std::sync::Arc::new(byway_testkit::signaling::broken::BrokenCarrier::new(sound, self.1)),
            _ => sound,
        }
    }
    fn address(&self, peer: byway_api::PeerId) -> byway_api::SignalAddress {
        MemoryHub::address_of(peer)
    }
}

#[test]
fn a_fault_on_one_side_only_is_found_too() {
    for fault in [Fault::Repeats, Fault::Stores, Fault::Swallows, Fault::LosesWhenCancelled, Fault::SendsAfterClose] {
        let promises = Fault::ALL.iter().find(|(of, _)| *of == fault).unwrap().1;
        let (broken, _) = trial(PROMISES, || boxed(Mixed(fault)));
        assert_eq!(broken, promises, "{fault:?}");
    }
}

// The reference through the macro, as an author of a carrier writes it; in real time.
signaling_conformance!(by_macro, MemoryHub::new());
