//! The command `byway-sim`, as a process of its own.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn byway_sim(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_byway-sim")).args(arguments.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Nothing of a run depends on the process: no address, no clock, no order of a hash map.
#[test]
fn two_processes_see_the_same_run() {
    let run = || byway_sim("--nodes 5 --minutes 1 --seeds 3 --first-seed 5 --faults harsh --json");
    let (first, second) = (run(), run());
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("\"trace_hash\":\""), "{}", text(&first.stdout));
    assert_eq!(text(&first.stdout), text(&second.stdout));
    let other = byway_sim("--nodes 5 --minutes 1 --seeds 3 --first-seed 6 --faults harsh --json");
    assert_ne!(text(&first.stdout), text(&other.stdout), "another seed is another run");
}

#[test]
fn a_summary_says_what_was_run() {
    let out = byway_sim("--nodes 3 --minutes 1 --seeds 2 --faults none");
    let summary = text(&out.stdout);
    let value = |name: &str| {
        let line = summary.lines().find(|l| l.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(value("seeds"), "2");
    assert_eq!(value("violations"), "0");
    assert_eq!(value("delivered_percent"), "100.000");
}

#[test]
fn what_it_does_not_understand_it_says() {
    for (arguments, says) in [
        ("--nodes many", "\"many\" is not a number"),
        ("--faults some", "none, default or harsh"),
        ("--nodes", "needs a number"),
        ("--sedes 3", "\"--sedes\" is not known"),
        ("--nodes 1", "--nodes is 2 to 1000"),
    ] {
        let out = byway_sim(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments}");
        assert!(text(&out.stderr).contains(says), "{arguments}: {}", text(&out.stderr));
    }
}
