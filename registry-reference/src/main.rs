//! The registry's binary: `byway-registry --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match byway_registry::run(std::env::args_os()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(byway_registry::RunError::Usage(usage)) => usage.exit(),
        Err(error) => {
            eprintln!("byway-registry: {error}");
            ExitCode::FAILURE
        }
    }
}
