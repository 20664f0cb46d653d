//! What `byway-wire` promises, from outside.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod frames;
mod hello;
mod hostile;
mod limits;
mod record;
mod seal;
mod socket;
mod tamper;
mod token;
