//! A bot that answers every message with itself.

use byway_echo_bot::{Options, run};
use clap::Parser as _;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    if let Err(error) = run(Options::parse(), stop).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
