//! The simulator over fixed seeds: small networks, so that it is quick without optimisation.
#![allow(clippy::unwrap_used)]

use byway_testkit::sim::{Config, Faults, Outcome, run};

fn sound(config: &Config, seed: u64) -> Outcome {
    let outcome = run(config, seed);
    assert!(
        outcome.violations.is_empty(),
        "seed {seed}\n{}\n{}\n{}",
        outcome.violations.join("\n"),
        outcome.plan.join("\n"),
        config.repro(seed)
    );
    outcome
}

#[test]
fn without_faults_everything_arrives_and_quickly() {
    let config = Config { nodes: 6, minutes: 3, faults: Faults::None, ..Config::default() };
    for seed in 1..=4 {
        let stats = sound(&config, seed).stats;
        assert!(stats.accepted > 50, "{stats:?}");
        assert_eq!((stats.accepted, stats.delivered, stats.expired), (stats.messages, stats.messages, 0));
        assert_eq!(stats.acknowledged_within_5s, stats.accepted, "{stats:?}");
        assert_eq!(stats.connected_within_2s, stats.connected, "{stats:?}");
        assert!(stats.registry_most_in_10_min < 10, "fewer than one call a minute: {stats:?}");
    }
}

#[test]
fn with_faults_nothing_that_was_accepted_is_lost() {
    let config = Config { nodes: 7, minutes: 2, ..Config::default() };
    let mut faults = 0;
    for seed in 1..=8 {
        let stats = sound(&config, seed).stats;
        assert_eq!(stats.delivered + stats.expired, stats.accepted, "{stats:?}");
        faults += stats.faults + stats.breaks;
    }
    assert!(faults > 50, "{faults}");
}

#[test]
fn on_a_very_bad_day_too() {
    let config = Config { nodes: 5, minutes: 2, faults: Faults::Harsh, ..Config::default() };
    for seed in 1..=6 {
        let stats = sound(&config, seed).stats;
        assert_eq!(stats.delivered + stats.expired, stats.accepted, "{stats:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    let config = Config { nodes: 4, minutes: 1, ..Config::default() };
    let hash = run(&config, 11).hash;
    assert_eq!(run(&config, 11).hash, hash);
    assert_ne!(run(&config, 12).hash, hash);
}
