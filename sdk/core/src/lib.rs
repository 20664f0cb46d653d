//! Every decision of Byway, as pure state machines.
//!
//! No runtime, no clock, no randomness of its own, no hash maps: the same inputs give the same
//! outputs, in two processes too. The driver in `byway` feeds [`NodeCore`] with [`In`] and carries
//! out each [`Out`]; the simulator in `byway-testkit` does the same with a simulated world.
//!
//! [`NodeCore`] only routes inputs to small machines that each own their state:
//!
//! | machine | decides |
//! |---|---|
//! | [`link`] | the state towards one peer, and which of two connections lives |
//! | [`ladder`] | which discovery step runs when |
//! | [`outbox`] | what is sent, again, and given up |
//! | [`inbox`] | what was seen before, and in which order the app sees it |
//! | [`roster`] | who is online, on whose word |
//! | [`presence`] | what neighbours are told |
//! | [`pool`] | how many connections there are, and which go |
//! | [`liveness`] | when a silent link is dead |
//! | [`query`] | questions of and to neighbours |
//! | [`relay`] | envelopes of others, and those that are handed over |
//! | [`courier`] | what of ours goes through neighbours |
//! | [`upgrade`] | when a way through a neighbour is replaced by a connection |
//! | [`score`], [`limiter`] | success rates, budgets |

pub mod courier;
pub mod inbox;
pub mod io;
pub mod ladder;
pub mod limiter;
pub mod link;
pub mod liveness;
pub mod machine;
mod node;
pub mod outbox;
pub mod pool;
pub mod presence;
pub mod query;
pub mod relay;
mod rng;
pub mod roster;
pub mod score;
pub mod status;
mod tuning;
pub mod upgrade;
pub mod view;

pub use io::{In, Out};
pub use ladder::StepSpec;
pub use machine::{ConnId, Machine, Now, OpId, Tick};
pub use node::{Myself, NodeCore};
pub use tuning::Tuning;

/// Named values in the store whose name begins like this belong to the core.
pub const META_PREFIX: &str = "core/";
