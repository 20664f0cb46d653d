//! Tools for those who write Byway plugins: conformance suites, scripted surroundings and faults.
//!
//! | module | what it is for |
//! |---|---|
//! | [`transport`] | the suite for transports, endpoints and connections: [`transport_conformance!`] |
//! | [`step`] | the suite for discovery steps: [`step_conformance!`]; scripted lookups |
//! | [`store`] | the suite for stores: [`store_conformance!`] |
//! | [`store::durability`] | the suite for stores in files, about crashes: [`store_durability_conformance!`] |
//! | [`signaling`] | the suite for carriers of signals: [`signaling_conformance!`]; a carrier inside one process |
//! | [`membership`] | the suite for memberships: [`membership_conformance!`] |
//! | [`keys`] | the suite for key stores: [`key_store_conformance!`] |
//! | [`relay`] | the suite for relays: [`relay_conformance!`] |
//! | [`signals`] | an in-process [`SignalPort`](byway_api::SignalPort) that can lose, repeat and delay |
//! | [`faults`] | keeps pairs of devices apart over any transport |
//! | [`delay`] | latency for UDP on one machine |
//! | [`sim`] | a simulator: many real cores, virtual time, faults from one seed |
//! | [`promise`] | what a suite is made of |
//!
//! A suite is a list of promises. Each is a plain async function with a verdict, named for what it
//! promises; the macro makes a test of each. Each can be broken: a suite's `broken` module has plugins
//! that fail exactly one. `sdk/docs/writing-a-plugin.md` has an example of each.

pub mod delay;
pub mod faults;
pub mod keys;
pub mod membership;
pub mod promise;
pub mod relay;
pub mod signaling;
pub mod signals;
pub mod sim;
pub mod step;
pub mod store;
pub mod transport;

/// The page's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-a-plugin.md")]
#[derive(Debug)]
pub struct WritingAPlugin;
