//! The figures of Byway: each with its target and what was measured, in the same run as its rival.
//!
//! ```sh
//! cargo run --release -p byway --example figures                      # all, about four minutes
//! cargo run --release -p byway --example figures -- --only throughput # one
//! ```
//!
//! `--json` prints JSON, `--seconds N` says for how long overload and idleness are watched (60). This
//! is a benchmark, no test: a figure that is not reached is printed as MISSED, and the exit code says
//! only whether everything could be measured.

#![allow(clippy::disallowed_methods)] // its tasks end with the process

mod acked;
mod commits;
mod connect;
mod delayed;
mod options;
mod overload;
mod raw;
mod registry;
mod report;
mod rss;
mod stats;
mod throughput;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use options::{Figure, Options};
use report::Row;

/// Why a figure could not be measured.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let mut rows = Vec::new();
    let mut measured = true;
    for figure in options.figures() {
        eprintln!("measuring {} ...", figure.name());
        // In a task, as apps are: the thread of `main` is not one of those that the nodes run on.
        match tokio::spawn(measure(figure, options.watched)).await.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(some) => rows.extend(some.into_iter().map(|row| (figure, row))),
            Err(failure) => {
                eprintln!("{} could not be measured: {failure}", figure.name());
                measured = false;
            }
        }
    }
    rows.sort_by_key(|(figure, _)| *figure);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if options.json {
        report::json(&rows)
    } else {
        report::table(&rows)
    }
    if measured { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(figure: Figure, watched: Duration) -> Result<Vec<Row>, Failure> {
    match figure {
        Figure::Connect => connect::measure().await,
        Figure::Delayed => delayed::measure().await,
        Figure::Acked => acked::measure().await,
        Figure::Throughput => throughput::measure().await,
        Figure::Overload => overload::measure(watched).await,
        Figure::Commits => commits::measure().await,
        Figure::Registry => registry::measure(watched).await,
    }
}
