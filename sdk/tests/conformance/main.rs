//! The suites of the testkit over the plugins that come with this crate.

#![allow(clippy::unwrap_used, reason = "tests")]

mod keys;
#[cfg(feature = "listener")]
mod listener;
mod membership;
mod relay;
