//! The import rules of `sdk/docs/architecture.md`: arrows point one way, plugins never see the node.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Our crates that a crate may import, outside of its tests.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("byway-api", &[]),
    ("byway-wire", &["byway-api"]),
    ("byway-core", &["byway-api", "byway-wire"]),
    ("byway-socket", &["byway-api", "byway-wire"]),
    ("byway-testkit", &["byway-api", "byway-core", "byway-wire"]),
    ("byway-transport-memory", &["byway-api"]),
    ("byway-transport-webrtc", &["byway-api"]),
    ("byway-transport-libp2p", &["byway-api"]),
    ("byway-store-memory", &["byway-api"]),
    ("byway-store-redb", &["byway-api", "byway-store-file"]),
    ("byway-store-file", &["byway-api"]),
    ("byway-store-sqlite", &["byway-api", "byway-store-file"]),
    ("byway-discovery", &["byway-api", "byway-wire", "byway-socket"]),
    ("byway-registry", &["byway-api", "byway-wire", "byway-socket"]),
    (
        "byway",
        &[
            "byway-api",
            "byway-core",
            "byway-discovery",
            "byway-socket",
            "byway-store-memory",
            "byway-store-redb",
            "byway-store-sqlite",
            "byway-transport-libp2p",
            "byway-transport-memory",
            "byway-transport-webrtc",
            "byway-wire",
        ],
    ),
    ("byway-echo-bot", &["byway"]),
    ("byway-chat", &["byway"]),
    ("byway-custom-discovery", &["byway-api"]),
    ("byway-custom-store", &["byway-api"]),
    ("byway-tour", &["byway", "byway-echo-bot", "byway-registry", "byway-testkit"]),
];

/// Third-party crates that the pure crates must not bring in, directly or through others.
const IMPURE: &[&str] = &["tokio", "mio", "socket2", "ring", "getrandom"];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn arrows_point_one_way() {
    let rules: BTreeMap<_, BTreeSet<_>> = MAY_IMPORT.iter().map(|(n, l)| (*n, l.iter().copied().collect())).collect();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let allowed = rules.get(name).unwrap_or_else(|| panic!("{name} has no import rule: add one here"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            let of_tests = dependency["kind"] == "dev";
            assert!(
                !target.starts_with("byway") || of_tests || allowed.contains(target),
                "{name} imports {target}: see sdk/docs/architecture.md"
            );
        }
    }
}

#[test]
fn the_pure_crates_are_pure() {
    for name in ["byway-api", "byway-wire", "byway-core"] {
        let tree = cargo(&["tree", "-p", name, "-e", "normal", "--prefix", "none", "--offline"]);
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap();
            assert!(!IMPURE.contains(&dependency), "{name} brings in {dependency}");
        }
    }
}
