//! Plays one scenario of the tour's binary: real processes, real WebRTC, real SQLite.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

/// The scenario's JSON line; it has passed.
pub(crate) fn play(scenario: &str) -> Value {
    let tour = Command::new(env!("CARGO_BIN_EXE_byway-tour")).args(["--only", scenario, "--json"]).output().unwrap();
    let (out, log) = (String::from_utf8_lossy(&tour.stdout), String::from_utf8_lossy(&tour.stderr));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line, summary] = lines.as_slice() else { panic!("not two lines but\n{out}\n{log}") };
    assert!(tour.status.success(), "{line}\n{log}");
    assert_eq!(line["scenario"], scenario);
    assert_eq!(line["passed"], true, "{line}\n{log}");
    assert_eq!((&summary["passed"], &summary["failed"]), (&1.into(), &0.into()), "{summary}");
    line.clone()
}
