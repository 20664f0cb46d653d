//! What the command line says.

use std::time::Duration;

/// What can be measured, in the order in which it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Connect,
    Delayed,
    Acked,
    Throughput,
    Overload,
    Commits,
    Registry,
}

impl Figure {
    /// In the order in which they are measured: memory first, in a process that has done nothing yet.
    const ALL: [Self; 7] =
        [Self::Overload, Self::Connect, Self::Delayed, Self::Acked, Self::Throughput, Self::Commits, Self::Registry];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Delayed => "delayed",
            Self::Acked => "acked",
            Self::Throughput => "throughput",
            Self::Overload => "overload",
            Self::Commits => "commits",
            Self::Registry => "registry",
        }
    }
}

/// The command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    only: Vec<Figure>,
    pub(crate) json: bool,
    /// For how long overload and idleness are watched.
    pub(crate) watched: Duration,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { only: Vec::new(), json: false, watched: Duration::from_secs(60) };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--only" => {
                    let name = arguments.next().unwrap_or_default();
                    let names = || Figure::ALL.map(Figure::name).join(", ");
                    let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name);
                    options.only.push(figure.ok_or_else(|| format!("--only takes one of: {}", names()))?);
                }
                "--seconds" => {
                    let seconds = arguments.next().and_then(|n| n.parse().ok()).filter(|n| *n >= 2);
                    options.watched = Duration::from_secs(seconds.ok_or("--seconds takes a number from 2 on")?);
                }
                other => return Err(format!("{other}: unknown; there are --only NAME, --json, --seconds N")),
            }
        }
        Ok(options)
    }

    /// What to measure, in order.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        Figure::ALL.into_iter().filter(|figure| self.only.is_empty() || self.only.contains(figure)).collect()
    }
}
