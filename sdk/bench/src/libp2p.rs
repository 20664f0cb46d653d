//! The libp2p transport against libp2p itself, and nodes over it.

pub(crate) mod byway;
pub(crate) mod idle;
mod nodes;
mod raw;

use std::time::{Duration, Instant};

use crate::stats::median;
use crate::table::Row;
use crate::{Failure, process};

const ROUNDS: usize = 7;
const CHILDREN: usize = 3;
const PROFILED: usize = 10_000_000;
/// About what a node writes at once when it has much to say: it fills its frames itself.
const FULL: usize = 60_000;
const LEAST_SHARE: f64 = 0.80;
const MOST_CPU: f64 = 1.20;
const MOST_MEMORY: f64 = 1.30;

/// What one flood cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    messages: usize,
    time: Duration,
    cpu: Duration,
}

impl Cost {
    /// Of what happens in `work`.
    async fn of(messages: usize, work: impl Future<Output = Result<(), Failure>>) -> Result<Self, Failure> {
        let (cpu, start) = (process::cpu()?, Instant::now());
        work.await?;
        Ok(Self { messages, time: start.elapsed(), cpu: process::cpu()? - cpu })
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }

    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.messages as f64
    }
}

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (size, messages) in [(100, 3_000_000), (1_024, 600_000), (FULL, 10_000)] {
        rows.extend(flood(size, messages).await?);
    }
    rows.push(memory().await?);
    rows.push(nodes::measure().await?);
    Ok(rows)
}

/// Nanoseconds of processor time per message of 100 B.
pub(crate) async fn flood_raw() -> Result<f64, Failure> {
    Ok(raw::Pair::connect().await?.flood(100, PROFILED).await?.cpu_each())
}

/// The same of ours.
pub(crate) async fn flood_byway() -> Result<f64, Failure> {
    Ok(byway::Pair::connect().await?.flood(100, PROFILED).await?.cpu_each())
}

async fn flood(size: usize, messages: usize) -> Result<[Row; 2], Failure> {
    let mut rival = raw::Pair::connect().await?;
    let ours = byway::Pair::connect().await?;
    rival.flood(size, messages / 10).await?;
    ours.flood(size, messages / 10).await?;
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(rival.flood(size, messages).await?);
        own.push(ours.flood(size, messages).await?);
    }
    ours.close().await;
    let each = |of: fn(&Cost) -> f64, costs: &[Cost]| median(&costs.iter().map(of).collect::<Vec<_>>());
    let shares = |of: fn(&Cost) -> f64| {
        let pairs = own.iter().zip(&theirs);
        median(&pairs.map(|(own, theirs)| of(own) / of(theirs)).collect::<Vec<_>>())
    };
    let (share, cpu) = (shares(Cost::rate), shares(Cost::cpu_each));
    let how = format!(
        "medians of {ROUNDS} rounds in turn, {messages} messages one way, TCP on loopback, both ends in this process"
    );
    Ok([
        Row {
            figure: format!(
                "libp2p: messages/s of {size} B, `send` by `send`, against libp2p's stream with 64 KiB writes"
            ),
            target: format!("≥ {:.0} %", LEAST_SHARE * 100.0),
            value: format!(
                "{:.0} % ({:.0} k against {:.0} k)",
                share * 100.0,
                each(Cost::rate, &own) / 1e3,
                each(Cost::rate, &theirs) / 1e3
            ),
            met: share >= LEAST_SHARE,
            how: how.clone(),
        },
        Row {
            figure: format!("libp2p: processor time per message of {size} B, both ends, against the same"),
            target: format!("≤ {:.0} %", MOST_CPU * 100.0),
            value: format!(
                "{:.0} % ({:.0} ns against {:.0} ns)",
                cpu * 100.0,
                each(Cost::cpu_each, &own),
                each(Cost::cpu_each, &theirs)
            ),
            met: cpu <= MOST_CPU,
            how,
        },
    ])
}

async fn memory() -> Result<Row, Failure> {
    let (mut rival, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..CHILDREN {
        rival.push(process::child("libp2p-idle-raw").await?);
        ours.push(process::child("libp2p-idle-byway").await?);
    }
    let (rival, ours) = (median(&rival), median(&ours));
    Ok(Row {
        figure: "libp2p: memory of an idle connection, both ends, against libp2p with one open stream".to_owned(),
        target: format!("≤ {MOST_MEMORY:.1} ×"),
        value: format!("{:.2} × ({ours:.1} KiB against {rival:.1} KiB)", ours / rival),
        met: ours <= MOST_MEMORY * rival,
        how: format!("medians of {CHILDREN} processes each, growth of VmRSS over {} connections", idle::CONNECTIONS),
    })
}
