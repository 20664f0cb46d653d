//! What goes wrong in a run, drawn from the seed before it begins.

use std::collections::BTreeSet;
use std::fmt;

use super::random::Random;
use super::{Config, Faults};

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies; what was not on disk is gone. It starts again after `down`.
    Crash { node: usize, down: u64 },
    /// The relay between two nodes that cannot connect dies under their conversation, if there is another.
    RelayCrash { down: u64 },
    /// Two sides that do not reach each other. The registry stands on the side of the others.
    Partition { apart: Vec<usize>, lasts: u64 },
    /// The registry does not answer.
    RegistryDown { lasts: u64 },
    /// The registry takes seconds to answer.
    RegistrySlow { lasts: u64 },
    /// Writes fail with `DiskFull`, so many in a thousand.
    DiskFull { node: usize, lasts: u64, in_thousand: u32 },
    /// Every answer of the store takes up to this long.
    SlowStore { node: usize, lasts: u64, up_to: u64 },
    /// The clock on the wall jumps, and back again later.
    Clock { node: usize, by: i64, lasts: u64 },
    /// The app suspends the node, and resumes it.
    Suspend { node: usize, lasts: u64 },
    /// The whole machine sleeps: nothing runs, nobody is told.
    Sleep { node: usize, lasts: u64 },
    /// New addresses, a new record.
    NetworkChange { node: usize },
    /// All connections of a node are lost at once.
    Break { node: usize },
    /// The user shuts the app down and starts it again.
    Quit { node: usize, down: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { node, down } => write!(f, "n{node} crashes, back after {down} ms"),
            Self::RelayCrash { down } => write!(f, "the relay of a conversation crashes, back after {down} ms"),
            Self::Partition { apart, lasts } => write!(f, "nodes {apart:?} cut off for {lasts} ms"),
            Self::RegistryDown { lasts } => write!(f, "registry down for {lasts} ms"),
            Self::RegistrySlow { lasts } => write!(f, "registry slow for {lasts} ms"),
            Self::DiskFull { node, lasts, in_thousand } => {
                write!(f, "n{node}: {in_thousand} of 1000 writes fail with DiskFull for {lasts} ms")
            }
            Self::SlowStore { node, lasts, up_to } => {
                write!(f, "n{node}: store answers take up to {up_to} ms for {lasts} ms")
            }
            Self::Clock { node, by, lasts } => write!(f, "n{node}: wall clock jumps by {by} ms for {lasts} ms"),
            Self::Suspend { node, lasts } => write!(f, "n{node} suspended for {lasts} ms"),
            Self::Sleep { node, lasts } => write!(f, "n{node} asleep for {lasts} ms"),
            Self::NetworkChange { node } => write!(f, "n{node}: its network changes"),
            Self::Break { node } => write!(f, "n{node} loses all its connections"),
            Self::Quit { node, down } => write!(f, "n{node} shuts down in order, back after {down} ms"),
        }
    }
}

/// How the network misbehaves all the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Signals lost, of 1,000.
    pub(super) signal_loss: u32,
    /// Signals that arrive twice, of 1,000.
    pub(super) signal_twice: u32,
    /// Dials that fail although the way is open, of 1,000.
    pub(super) dial_fails: u32,
    /// Simultaneous dials that lead to two connections, of 1,000; the others are settled by the transport.
    pub(super) glare: u32,
    /// Connections that break, of 1,000 in a second.
    pub(super) breaks: u32,
    /// Store answers that take long, of 1,000.
    pub(super) slow_store: u32,
    /// `Down`s that come seconds late, of 1,000.
    pub(super) late_down: u32,
    /// Ends of processes that their peers notice only after seconds, of 1,000.
    pub(super) late_end: u32,
}

impl Weather {
    /// A network without faults: latency and nothing else.
    pub(super) const CALM: Self = Self {
        signal_loss: 0,
        signal_twice: 0,
        dial_fails: 0,
        glare: 300,
        breaks: 0,
        slow_store: 0,
        late_down: 0,
        late_end: 100,
    };

    pub(super) fn of(faults: Faults, random: &mut Random) -> Self {
        let scale = match faults {
            Faults::None => return Self::CALM,
            Faults::Default => 1,
            Faults::Harsh => 3,
        };
        let mut up_to = |most: u64| u32::try_from(random.between(0, most) * scale).unwrap_or(0);
        Self {
            signal_loss: up_to(100),
            signal_twice: up_to(100),
            dial_fails: up_to(100),
            glare: 500,
            breaks: up_to(4),
            slow_store: up_to(30),
            late_down: up_to(150),
            late_end: 500,
        }
    }
}

/// Pairs that cannot connect directly, of 1,000: what is seen between homes and offices without a server
/// that forwards packets.
const APART: u32 = 320;
/// Nodes beyond which the faults that concern everybody do not become more.
const CROWD: usize = 50;

/// Everything that goes wrong in one run, in order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) weather: Weather,
    pub(super) faults: Vec<(u64, Fault)>,
    /// Pairs that never connect directly, the smaller one first. Each has others through whom they reach
    /// each other.
    pub(super) apart: BTreeSet<(usize, usize)>,
    /// The registry stays down for the rest of the run, although everything else heals.
    pub(super) registry_dies: bool,
}

impl Plan {
    pub(super) fn draw(config: &Config, random: &mut Random) -> Self {
        let weather = Weather::of(config.faults, random);
        let rate = match config.faults {
            Faults::None => return Self { weather, faults: Vec::new(), apart: BTreeSet::new(), registry_dies: false },
            Faults::Default => 1,
            Faults::Harsh => 3,
        };
        // time for everybody to meet before the first fault
        let (begin, end) = (10_000, config.chaos_ms());
        let n = rate * (u64::from(config.minutes) * config.nodes as u64 / 4 + 4);
        let mut faults: Vec<_> =
            (0..n).map(|_| (random.between(begin, end.max(begin + 1)), Self::fault(config.nodes, random))).collect();
        faults.sort_by_key(|(at, _)| *at);
        let registry_dies = random.chance(250);
        let apart = if random.chance(250) { BTreeSet::new() } else { Self::keep_apart(config.nodes, random) };
        Self { weather, faults, apart, registry_dies }
    }

    /// Every pair with a probability, unless fewer than two others would be left that both can connect to.
    fn keep_apart(nodes: usize, random: &mut Random) -> BTreeSet<(usize, usize)> {
        let mut apart = BTreeSet::new();
        for a in 0..nodes {
            for b in a + 1..nodes {
                if random.chance(APART) {
                    apart.insert((a, b));
                }
            }
        }
        let between = |apart: &BTreeSet<(usize, usize)>, a: usize, b: usize| {
            let open = |x: usize, y: usize| !apart.contains(&(x.min(y), x.max(y)));
            (0..nodes).filter(|n| *n != a && *n != b && open(a, *n) && open(*n, b)).count()
        };
        while let Some(lonely) = apart.iter().copied().find(|(a, b)| between(&apart, *a, *b) < 2) {
            apart.remove(&lonely);
        }
        apart
    }

    fn fault(nodes: usize, random: &mut Random) -> Fault {
        let node = random.index(nodes);
        // faults are drawn for each node, and those that concern everybody are no more frequent in a crowd
        let everybody = nodes <= CROWD || random.index(nodes) < CROWD;
        match random.between(0, 99) {
            30..=39 | 45..=52 if !everybody => {
                Fault::Partition { apart: vec![node], lasts: random.between(1_000, 40_000) }
            }
            0..=9 => Fault::Crash { node, down: random.between(50, 1_500) },
            10..=14 => Fault::RelayCrash { down: random.between(1_500, 20_000) },
            15..=24 => Fault::Crash { node, down: random.between(1_500, 20_000) },
            25..=29 => Fault::Quit { node, down: random.between(500, 20_000) },
            30..=39 => {
                let mut apart: Vec<_> = (0..nodes).filter(|_| random.chance(400)).collect();
                if apart.len() == nodes {
                    apart.pop();
                }
                Fault::Partition { apart, lasts: random.between(2_000, 60_000) }
            }
            40..=44 => Fault::Partition { apart: vec![node], lasts: random.between(1_000, 40_000) },
            45..=49 => Fault::RegistryDown { lasts: random.between(5_000, 120_000) },
            50..=52 => Fault::RegistrySlow { lasts: random.between(5_000, 60_000) },
            53..=60 => Fault::DiskFull {
                node,
                lasts: random.between(1_000, 20_000),
                in_thousand: u32::try_from(random.between(100, 1_000)).unwrap_or(500),
            },
            61..=66 => {
                Fault::SlowStore { node, lasts: random.between(1_000, 20_000), up_to: random.between(100, 3_000) }
            }
            67..=73 => {
                let by = if random.chance(500) { 3_600_000 } else { -3_600_000 };
                Fault::Clock { node, by, lasts: random.between(1_000, 120_000) }
            }
            74..=79 => Fault::Suspend { node, lasts: random.between(500, 40_000) },
            80..=85 => Fault::Sleep { node, lasts: random.between(500, 40_000) },
            86..=91 => Fault::NetworkChange { node },
            _ => Fault::Break { node },
        }
    }

    /// The plan, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("weather: {:?}", self.weather)];
        lines.extend(self.faults.iter().map(|(at, fault)| format!("{at:>8} ms  {fault}")));
        if !self.apart.is_empty() {
            lines.push(format!("never connect directly: {:?}", self.apart));
        }
        if self.registry_dies {
            lines.push("the registry is down for the rest of the run when everything else heals".into());
        }
        lines
    }
}
