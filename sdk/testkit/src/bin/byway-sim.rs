//! Runs the simulator over many seeds.
//!
//! `byway-sim --nodes 20 --minutes 5 --seeds 20 [--first-seed N] [--faults none|default|harsh] [--json]`
//!
//! Prints what the runs add up to; ends with 1 if anything was broken. `--fail-fast` ends with the first
//! seed that is broken, `--trace` prints every event to standard error.

use std::alloc::System;
use std::process::ExitCode;
use std::time::Instant;

use byway_testkit::sim::{Config, Faults, Outcome, Stats, TraceHash, run_watched};
use cap::Cap;

/// Counts what lives, so that a run can say what a node costs.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const USAGE: &str = "byway-sim [--nodes N] [--minutes N] [--seeds N] [--first-seed N] \
                     [--faults none|default|harsh] [--idle] [--anchors N] [--skew SECONDS] \
                     [--json] [--fail-fast] [--trace]";

struct Options {
    config: Config,
    first_seed: u64,
    seeds: u64,
    json: bool,
    fail_fast: bool,
}

fn number<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or(format!("{name} needs a number"))?;
    value.parse().map_err(|_| format!("{name}: {value:?} is not a number that fits"))
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut o = Options { config: Config::default(), first_seed: 1, seeds: 20, json: false, fail_fast: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--nodes" => o.config.nodes = number(&word, words.next())?,
            "--minutes" => o.config.minutes = number(&word, words.next())?,
            "--seeds" => o.seeds = number(&word, words.next())?,
            "--first-seed" => o.first_seed = number(&word, words.next())?,
            "--faults" => {
                o.config.faults = match words.next().as_deref() {
                    Some("none") => Faults::None,
                    Some("default") => Faults::Default,
                    Some("harsh") => Faults::Harsh,
                    other => return Err(format!("--faults is none, default or harsh; got {other:?}")),
                }
            }
            "--idle" => o.config.idle = true,
            "--anchors" => o.config.anchors = number(&word, words.next())?,
            "--skew" => o.config.skew_s = number(&word, words.next())?,
            "--json" => o.json = true,
            "--fail-fast" => o.fail_fast = true,
            "--trace" => o.config.trace = true,
            "--help" | "-h" => return Err(USAGE.to_owned()),
            other => return Err(format!("{other:?} is not known\n{USAGE}")),
        }
    }
    if !(2..=1_000).contains(&o.config.nodes) || o.config.minutes == 0 {
        return Err("--nodes is 2 to 1000, --minutes at least 1".to_owned());
    }
    Ok(o)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

struct Sum {
    nodes: usize,
    seeds: u64,
    stats: Stats,
    hash: TraceHash,
    violations: usize,
    failed: Vec<u64>,
    memory: Memory,
    began: Instant,
}

/// Live bytes, minute by minute.
#[derive(Default)]
struct Memory {
    /// Most at the end of a minute, in one run.
    most: usize,
    /// How much the last half of a run grew, in percent of its mean: the largest.
    growth: f64,
}

impl Memory {
    fn add(&mut self, minutes: &[usize]) {
        self.most = self.most.max(minutes.iter().copied().max().unwrap_or_default());
        let half = &minutes[minutes.len() / 2..];
        let (n, mean) = (half.len() as f64, half.iter().sum::<usize>() as f64 / half.len() as f64);
        if half.len() < 10 {
            return;
        }
        // least squares
        let middle = (n - 1.0) / 2.0;
        let (mut up, mut down) = (0.0, 0.0);
        for (i, bytes) in half.iter().enumerate() {
            let x = i as f64 - middle;
            up += x * (*bytes as f64 - mean);
            down += x * x;
        }
        self.growth = self.growth.max(up / down * n / mean * 100.0);
    }
}

impl Sum {
    fn numbers(&self) -> Vec<(&'static str, String)> {
        let s = &self.stats;
        let per_minute = |n: u64| format!("{:.1}", n as f64 * 60_000.0 / s.member_ms as f64);
        vec![
            ("seeds", self.seeds.to_string()),
            ("virtual_hours", format!("{:.2}", s.virtual_ms as f64 / 3_600_000.0)),
            ("events", s.events.to_string()),
            ("faults", s.faults.to_string()),
            ("broken_connections", s.breaks.to_string()),
            ("messages", s.messages.to_string()),
            ("accepted", s.accepted.to_string()),
            ("expired", s.expired.to_string()),
            ("delivered_percent", format!("{:.3}", percent(s.delivered, s.accepted))),
            ("delivered_or_expired_percent", format!("{:.3}", percent(s.delivered + s.expired, s.accepted))),
            ("acknowledged_within_5s_percent", format!("{:.1}", percent(s.acknowledged_within_5s, s.accepted))),
            ("connect_within_2s_percent", format!("{:.1}", percent(s.connected_within_2s, s.connected))),
            (
                "registry_calls_per_member_minute",
                format!("{:.3}", s.registry_calls as f64 * 60_000.0 / s.member_ms as f64),
            ),
            ("registry_most_calls_in_10_minutes", s.registry_most_in_10_min.to_string()),
            ("connections", s.connects.to_string()),
            ("envelopes_relayed", s.relayed.to_string()),
            ("messages_passed_on", s.sent_relayed.to_string()),
            ("messages_received_through_others", s.received_relayed.to_string()),
            ("upgrades", s.upgrades.to_string()),
            ("relay_failovers", s.failovers.to_string()),
            ("relay_failover_ms_at_most", s.failover_ms.to_string()),
            ("duplicates_recognised", s.duplicates.to_string()),
            ("wakes_per_member_minute", per_minute(s.wakes)),
            ("frames_per_member_minute", per_minute(s.frames)),
            ("packets_per_member_minute", per_minute(s.packets)),
            (
                "presence_bytes_per_member_hour",
                format!("{:.0}", s.presence_bytes as f64 * 3_600_000.0 / s.member_ms as f64),
            ),
            (
                "links_per_member",
                format!("{:.1}", s.links as f64 * (s.virtual_ms as f64 / self.seeds as f64) / s.member_ms as f64),
            ),
            ("presence_right_after_ms_at_most", s.presence_right_after_ms.to_string()),
            ("settled_after_ms_at_most", s.settled_after_ms.to_string()),
            ("violations", self.violations.to_string()),
            ("trace_hash", self.hash.to_string()),
        ]
    }

    /// What differs from process to process.
    fn cost(&self) {
        eprintln!(
            "{:.1} s, live bytes of a member at most {}, growing by {:.2} % in the last half of a run",
            self.began.elapsed().as_secs_f64(),
            self.memory.most / self.nodes,
            self.memory.growth,
        );
    }

    fn print(&self, o: &Options) {
        self.cost();
        let numbers = self.numbers();
        if o.json {
            let field = |(name, value): &(&str, String)| match *name {
                "trace_hash" => format!("\"{name}\":\"{value}\""),
                _ => format!("\"{name}\":{value}"),
            };
            println!("{{{}}}", numbers.iter().map(field).collect::<Vec<_>>().join(","));
        } else {
            for (name, value) in numbers {
                println!("{name:<36} {value}");
            }
        }
    }
}

fn report(config: &Config, outcome: &Outcome) {
    eprintln!("seed {} is broken", outcome.seed);
    for line in &outcome.violations {
        eprintln!("  VIOLATION {line}");
    }
    for line in &outcome.plan {
        eprintln!("  plan: {line}");
    }
    eprintln!("  repro: {}", config.repro(outcome.seed));
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let mut sum = Sum {
        nodes: options.config.nodes,
        seeds: 0,
        stats: Stats::default(),
        hash: TraceHash::EMPTY,
        violations: 0,
        failed: Vec::new(),
        memory: Memory::default(),
        began: Instant::now(),
    };
    for seed in options.first_seed..options.first_seed.saturating_add(options.seeds) {
        // with room for all, so that what measures does not grow itself
        let mut minutes = Vec::with_capacity(options.config.minutes as usize + 64);
        let idle = HEAP.allocated();
        let outcome = run_watched(&options.config, seed, &mut |_| minutes.push(HEAP.allocated().saturating_sub(idle)));
        sum.memory.add(&minutes);
        sum.seeds += 1;
        sum.stats += &outcome.stats;
        sum.hash = sum.hash.with(outcome.hash);
        if !outcome.violations.is_empty() {
            sum.violations += outcome.violations.len();
            sum.failed.push(seed);
            report(&options.config, &outcome);
            if options.fail_fast {
                break;
            }
        }
    }
    sum.print(&options);
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
