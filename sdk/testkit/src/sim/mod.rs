//! A simulator: many real cores in one thread, in virtual time, from one seed.
//!
//! Every node is a [`byway_core::NodeCore`], the same code that the driver of `byway` runs, under the
//! same contract. Everything around it is a model: the network, the registry, the store, the app and
//! the clock. One seed is one run: equal seeds give equal [`Outcome::hash`]es, in two processes too.
//!
//! A run has two phases. First things go wrong, as a plan drawn from the seed says, and what must never
//! happen is watched at every event. Then everything heals, and what must happen in the end has to
//! happen within three times the longest timer of the core.
//!
//! ```
//! use byway_testkit::sim::{Config, Faults, run};
//!
//! let config = Config { nodes: 3, minutes: 1, faults: Faults::None, ..Config::default() };
//! let outcome = run(&config, 7);
//! assert_eq!(outcome.violations, Vec::<String>::new());
//! assert_eq!(outcome.stats.delivered, outcome.stats.accepted);
//! ```
//!
//! The binary `byway-sim` runs many seeds and prints what they add up to.

mod app;
mod chaos;
mod dials;
mod effects;
mod failover;
mod ledger;
mod letters;
mod node;
mod pipes;
mod plan;
mod random;
mod registry;
mod rest;
mod stats;
mod steps;
mod store;
mod trace;
mod world;

pub use stats::Stats;
pub use trace::TraceHash;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// Nothing: latency and reordering between connections only.
    None,
    /// What a bad day has.
    #[default]
    Default,
    /// Three times that.
    Harsh,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Devices; at least 2.
    pub nodes: usize,
    /// Virtual minutes of the first phase.
    pub minutes: u32,
    /// How much goes wrong in it.
    pub faults: Faults,
    /// Print every event to standard error.
    pub trace: bool,
    /// The apps send nothing.
    pub idle: bool,
    /// Neighbours that a node tries to have; 0 leaves it at the core's default.
    pub anchors: usize,
    /// Every clock on the wall is off by up to so many seconds, all the time.
    pub skew_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { nodes: 20, minutes: 5, faults: Faults::Default, trace: false, idle: false, anchors: 0, skew_s: 0 }
    }
}

impl Config {
    const fn chaos_ms(&self) -> u64 {
        self.minutes as u64 * 60_000
    }

    /// The command that repeats one run.
    pub fn repro(&self, seed: u64) -> String {
        let faults = match self.faults {
            Faults::None => " --faults none",
            Faults::Default => "",
            Faults::Harsh => " --faults harsh",
        };
        let idle = if self.idle { " --idle" } else { "" };
        let anchors = if self.anchors > 0 { format!(" --anchors {}", self.anchors) } else { String::new() };
        let skew = if self.skew_s > 0 { format!(" --skew {}", self.skew_s) } else { String::new() };
        let faults = format!("{faults}{idle}{anchors}{skew}");
        format!(
            "cargo run --release -p byway-testkit --bin byway-sim -- --first-seed {seed} --seeds 1 --nodes {} --minutes {}{faults}",
            self.nodes, self.minutes
        )
    }
}

/// What became of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was broken; empty if all is well. A run ends soon after the first violation.
    pub violations: Vec<String>,
    /// What went wrong on purpose.
    pub plan: Vec<String>,
    /// Over every event: time, node, kind and ids.
    pub hash: u64,
    /// What was counted.
    pub stats: Stats,
}

/// Runs one seed.
pub fn run(config: &Config, seed: u64) -> Outcome {
    run_watched(config, seed, &mut |_| ())
}

/// Runs one seed, and says every virtual minute how many have passed.
pub fn run_watched(config: &Config, seed: u64, minute: &mut dyn FnMut(u64)) -> Outcome {
    world::World::new(*config, seed).run(minute)
}
