//! The tour: `cargo run --release -p byway-tour`.

use std::process::ExitCode;

fn main() -> ExitCode {
    byway_tour::cli::main()
}
