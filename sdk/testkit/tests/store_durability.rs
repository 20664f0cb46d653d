//! The durability suite can fail: each broken store fails the promises it breaks, and the sound store
//! in a file keeps them all.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use byway_api::RouteStore;
use byway_custom_store::{LogConfig, LogStore};
use byway_testkit::promise::Outcome;
use byway_testkit::store::durability::broken::Fault;
use byway_testkit::store::durability::{PROMISES, StoreInFile};

fn sound() -> impl StoreInFile {
    |path: PathBuf| async move {
        let mut config = LogConfig::default();
        config.compact_from = 16 * 1024;
        Ok(Arc::new(LogStore::open(path, config)?) as Arc<dyn RouteStore>)
    }
}

fn fails_what_it_breaks(fault: Fault, child: &str) {
    let (_, breaks, may_break) = Fault::ALL.iter().find(|(known, ..)| *known == fault).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut failed, mut skipped) = (BTreeSet::new(), BTreeSet::new());
    for promise in PROMISES {
        let subject = fault.subject(sound(), child);
        let deadline = sound().deadline();
        match runtime.block_on(promise.test(&subject, deadline)) {
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Skipped(_)) => drop(skipped.insert(promise.name())),
            Err(broken) => {
                println!("{fault:?}: {}: {broken}", promise.name());
                failed.insert(promise.name());
            }
        }
    }
    let must: BTreeSet<_> = breaks.iter().copied().collect();
    let may: BTreeSet<_> = must.iter().copied().chain(may_break.iter().copied()).collect();
    let missed: Vec<_> = must.difference(&failed).filter(|name| !skipped.contains(*name)).collect();
    let more: Vec<_> = failed.difference(&may).collect();
    assert!(missed.is_empty() && more.is_empty(), "{fault:?} keeps {missed:?} and breaks {more:?} as well");
}

macro_rules! broken {
    ($($test:ident: $fault:ident)*) => {
        $(
            mod $test {
                use super::*;

                #[test]
                #[ignore = "the second process of the other test"]
                fn child() {
                    byway_testkit::store::durability::run_child(Fault::$fault.files(sound()));
                }

                #[test]
                fn fails_what_it_breaks() {
                    super::fails_what_it_breaks(Fault::$fault, concat!(module_path!(), "::child"));
                }
            }
        )*

        #[test]
        fn every_fault_is_tried() {
            assert_eq!([$(Fault::$fault),*][..], Fault::ALL.iter().map(|(fault, ..)| *fault).collect::<Vec<_>>());
        }

        #[test]
        fn every_promise_can_be_broken() {
            let breakable: BTreeSet<_> = Fault::ALL.iter().flat_map(|(_, breaks, _)| breaks.iter().copied()).collect();
            let unbroken: Vec<_> = PROMISES.iter().map(|p| p.name()).filter(|name| !breakable.contains(name)).collect();
            assert!(unbroken.is_empty(), "nothing breaks {unbroken:?}");
        }
    };
}

broken! {
    forgets_syncs: ForgetsSyncs
    forgets_directory_syncs: ForgetsDirectorySyncs
    answers_early: AnswersEarly
    splits_batches: SplitsBatches
    opens_twice: OpensTwice
    leaves_lock: LeavesLock
    holds_on: HoldsOn
    starts_over: StartsOver
    takes_short_for_empty: TakesShortForEmpty
    panics_on_damage: PanicsOnDamage
    blames_the_disk: BlamesTheDisk
    hides_full_disk: HidesFullDisk
    hides_errors: HidesErrors
    hangs_on_errors: HangsOnErrors
    loses_older_rows: LosesOlderRows
    opens_newer: OpensNewer
}
