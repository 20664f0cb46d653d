//! Step 5: the registry, the last resort.

mod answer;
mod client;
mod config;
mod step;
mod url;

pub use client::RegistryClient;
pub use config::RegistryConfig;
pub use step::RegistryStep;
