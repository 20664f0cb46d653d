//! The crate against real servers: one HTTP server that answers from a script, and signalling servers
//! made of byway-socket's hub.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

#[cfg(feature = "carrier")]
mod carrier;
#[cfg(feature = "carrier")]
mod carriers;
mod conformance;
#[cfg(feature = "registry")]
mod home;
#[cfg(feature = "carrier")]
mod hub;
#[cfg(feature = "mdns")]
mod mdns;
#[cfg(feature = "registry")]
mod registry;
mod steps;
mod support;
#[cfg(feature = "registry")]
mod tls;
