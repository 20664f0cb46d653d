//! The registry and the echo bot as processes, through the entry points of their own binaries.

use std::ffi::OsString;
use std::process::ExitCode;

use byway_echo_bot::Options;
use clap::Parser as _;

use crate::child::until_stdin_closes;

/// What `byway-registry` does. `args` begins with the program's name.
pub async fn registry(args: Vec<OsString>) -> ExitCode {
    match byway_registry::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What `byway-echo-bot` does, until stdin is closed. `args` begins with the program's name.
pub async fn echo_bot(args: Vec<OsString>) -> ExitCode {
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(usage) => usage.exit(),
    };
    match byway_echo_bot::run(options, until_stdin_closes()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo-bot: {error}");
            ExitCode::FAILURE
        }
    }
}
