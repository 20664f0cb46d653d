//! The transport from outside: its contract, and what is its own.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // its tasks end with the test

mod closing;
mod conformance;
mod dialling;
mod hostile;
mod listening;
#[path = "../support/mod.rs"]
mod support;
