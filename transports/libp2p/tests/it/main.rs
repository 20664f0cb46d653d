//! The transport from outside: its contract, and what is its own.

#![allow(clippy::unwrap_used)]

mod closing;
mod conformance;
mod dialling;
mod hostile;
mod listening;
#[path = "../support/mod.rs"]
mod support;
