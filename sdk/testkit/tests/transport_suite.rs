//! The transport suite itself: sound transports pass it, and each broken one fails exactly the
//! promise that it breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use byway_api::Transport;
use byway_testkit::faults::{Refusals, Refusing};
use byway_testkit::transport::broken::{BrokenTransport, Fault};
use byway_testkit::transport::{PROMISES, TransportFixture};
use byway_transport_memory::{MemoryConfig, MemoryNetwork};
use support::signalled::{self, Signalled};
use support::trial;

const NONE: [&str; 0] = [];
const ABOUT_SIGNALS: [&str; 3] =
    ["lost_signals_fail_the_dial_in_time", "repeated_signals_do_no_harm", "late_signals_do_no_harm"];

fn memory() -> Arc<dyn Transport> {
    Arc::new(MemoryNetwork::new().transport())
}

#[test]
fn a_sound_transport_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || TransportFixture::new(memory()));
    assert_eq!((broken, skipped), (NONE.to_vec(), ABOUT_SIGNALS.to_vec()));
}

#[test]
fn a_sound_transport_that_needs_signalling_keeps_every_promise() {
    let sound = || Arc::new(Signalled::new(&MemoryNetwork::new(), signalled::Fault::None));
    let (broken, skipped) = trial(PROMISES, || TransportFixture::new(sound()));
    assert_eq!((broken, skipped), (NONE.to_vec(), NONE.to_vec()));
}

#[test]
fn two_sound_transports_keep_every_promise_to_each_other() {
    let (broken, _) = trial(PROMISES, || {
        let transport = memory();
        TransportFixture::mixed(Arc::new(Refusing::new(Arc::clone(&transport), &Refusals::new())), transport)
    });
    assert_eq!(broken, NONE);
}

#[test]
fn each_broken_transport_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        println!("{fault:?}");
        let (broken, _) = trial(PROMISES, || TransportFixture::new(Arc::new(BrokenTransport::new(memory(), *fault))));
        assert_eq!(&broken, promises, "{fault:?}");
    }
}

#[test]
fn a_fault_on_one_side_only_is_found_too() {
    for fault in [Fault::SwallowsEmpty, Fault::ForgetsTheCode, Fault::WrongPeer, Fault::LosesWhenCancelled] {
        let promises = Fault::ALL.iter().find(|(of, _)| *of == fault).unwrap().1;
        let (broken, _) = trial(PROMISES, || {
            let sound = memory();
            TransportFixture::mixed(Arc::clone(&sound), Arc::new(BrokenTransport::new(sound, fault)))
        });
        assert_eq!(broken, promises, "{fault:?}");
    }
}

#[test]
fn an_endless_accept_queue_is_found() {
    let (broken, _) = trial(PROMISES, || {
        let mut config = MemoryConfig::default();
        config.accept_queue = usize::MAX;
        TransportFixture::new(Arc::new(MemoryNetwork::with_config(config).transport()))
    });
    assert_eq!(broken, ["the_accept_queue_is_bounded"]);
}

#[test]
fn a_short_longest_frame_is_found() {
    let (broken, _) = trial(PROMISES, || {
        let mut config = MemoryConfig::default();
        config.max_frame = 60_000;
        TransportFixture::new(Arc::new(MemoryNetwork::with_config(config).transport()))
    });
    assert_eq!(broken, ["capabilities_are_sound"]);
}

#[test]
fn faults_in_signalling_are_found() {
    use signalled::Fault;
    let without_end = &["dialling_nobody_fails_in_time", "lost_signals_fail_the_dial_in_time"][..];
    for (fault, promises) in [
        (Fault::WaitsForever, without_end),
        (Fault::Impatient(Duration::from_millis(300)), &["late_signals_do_no_harm"]),
    ] {
        let (broken, _) =
            trial(PROMISES, || TransportFixture::new(Arc::new(Signalled::new(&MemoryNetwork::new(), fault))));
        assert_eq!(broken, promises, "{fault:?}");
    }
    let (broken, _) = trial(PROMISES, || {
        TransportFixture::new(Arc::new(Signalled::new(&MemoryNetwork::new(), Fault::DialsPerAnswer)))
    });
    assert!(broken.contains(&"repeated_signals_do_no_harm"), "{broken:?}");
}

// One fixture through the macro, as an author of a transport writes it.
byway_testkit::transport_conformance!(
    by_macro,
    TransportFixture::new(memory()).with_limits(|limits| limits.quiet = Duration::from_millis(30))
);
