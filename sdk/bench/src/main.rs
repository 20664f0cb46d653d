//! Byway's figures against its rivals, each measured in the same run as its rival.
//!
//! ```sh
//! cargo run --release --manifest-path sdk/bench/Cargo.toml --target-dir target           # every section
//! cargo run --release --manifest-path sdk/bench/Cargo.toml --target-dir target -- libp2p # one
//! ```
//!
//! | section | against | takes |
//! |---|---|---|
//! | `webrtc` | the stock `webrtc` crate; the sans-IO crate `rtc` alone, in memory; nodes against the bare transport | 70 s |
//! | `stores` | each durable store with one commit per call, on the disk of the working directory | 60 s |
//! | `libp2p` | libp2p's own stream; nodes against the bare transport | 70 s |
//!
//! `--json` prints JSON. This is a benchmark, no test: a figure that is not reached is printed as MISSED,
//! one without a target is there to be compared, and the exit code says only whether everything could be
//! measured. Only ratios mean anything on a machine that others use too.
//!
//! A section is a file: an entry in [`SECTIONS`], a function that gives rows. What has to be measured in a
//! process of its own (memory) is an entry in [`CHILDREN`], run with [`process::child`].

mod cost;
mod idle;
mod libp2p;
mod nodes;
mod pair;
mod process;
mod stats;
mod stores;
mod table;
mod webrtc;

use std::process::ExitCode;

use futures_util::future::BoxFuture;
use table::Row;

/// Why a figure could not be measured.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures a section.
type Section = fn() -> BoxFuture<'static, Result<Vec<Row>, Failure>>;

/// Measures one number in a process of its own.
type Child = fn() -> BoxFuture<'static, Result<f64, Failure>>;

const SECTIONS: &[(&str, Section)] = &[
    ("webrtc", || Box::pin(webrtc::measure())),
    ("stores", || Box::pin(stores::measure())),
    ("libp2p", || Box::pin(libp2p::measure())),
];

const CHILDREN: &[(&str, Child)] = &[
    ("libp2p-idle-raw", || Box::pin(libp2p::idle::raw())),
    ("libp2p-idle-byway", || Box::pin(libp2p::idle::byway())),
    ("webrtc-idle-raw", || Box::pin(webrtc::idle::raw())),
    ("webrtc-idle-byway", || Box::pin(webrtc::idle::byway())),
    // For a profiler.
    ("libp2p-flood-raw", || Box::pin(libp2p::flood_raw())),
    ("libp2p-flood-byway", || Box::pin(libp2p::flood_byway())),
    ("webrtc-flood-raw", || Box::pin(webrtc::flood_raw())),
    ("webrtc-flood-byway", || Box::pin(webrtc::flood_byway())),
];

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// True if everything could be measured.
async fn run(mut arguments: impl Iterator<Item = String>) -> Result<bool, Failure> {
    let (mut json, mut wanted) = (false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            process::CHILD => {
                let name = arguments.next().unwrap_or_default();
                let child = CHILDREN.iter().find(|(known, _)| *known == name).ok_or("no such child")?.1;
                println!("{}", tokio::spawn(child()).await??);
                return Ok(true);
            }
            name => match SECTIONS.iter().find(|(known, _)| *known == name) {
                Some(section) => wanted.push(section),
                None => {
                    let known: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
                    return Err(
                        format!("{name}: unknown; there are --json and the sections {}", known.join(", ")).into()
                    );
                }
            },
        }
    }
    if wanted.is_empty() {
        wanted.extend(SECTIONS);
    }
    let (mut rows, mut measured) = (Vec::new(), true);
    for (name, section) in wanted {
        eprintln!("measuring {name} ...");
        // In a task, as apps are: the thread of `main` is not one of those that connections run on.
        match tokio::spawn(section()).await.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(some) => rows.extend(some),
            Err(failure) => {
                eprintln!("{name} could not be measured: {failure}");
                measured = false;
            }
        }
    }
    if json {
        table::json(&rows)
    } else {
        table::table(&rows)
    }
    Ok(measured)
}
