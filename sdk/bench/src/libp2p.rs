//! The libp2p transport against libp2p itself, and nodes over it.

pub(crate) mod byway;
pub(crate) mod idle;
mod raw;

use crate::cost::{Cost, Rounds};

use crate::pair::Pair;
use crate::stats::median;
use crate::table::Row;
use crate::{Failure, nodes, process};

const ROUNDS: usize = 7;
const CHILDREN: usize = 3;
const PROFILED: usize = 10_000_000;
const LEAST_SHARE: f64 = 0.80;
const MOST_CPU: f64 = 1.20;
const MOST_MEMORY: f64 = 1.30;

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (size, messages) in [(100, 3_000_000), (1_024, 600_000)] {
        for sending in [Sending::Packed, Sending::Single] {
            rows.extend(flood(size, messages, sending).await?);
        }
    }
    rows.push(memory().await?);
    let endpoints = byway::endpoints(1).await?;
    let bare = endpoints.connect().await?;
    rows.push(nodes::measure("libp2p", &bare, |node| node.transport(byway::loopback())).await?);
    bare.hang_up().await;
    endpoints.close().await;
    Ok(rows)
}

/// Nanoseconds of processor time per message of 100 B.
pub(crate) async fn flood_raw() -> Result<f64, Failure> {
    Ok(raw::Pair::connect().await?.flood(100, PROFILED).await?.cpu_each())
}

/// The same of ours.
pub(crate) async fn flood_byway() -> Result<f64, Failure> {
    let endpoints = byway::endpoints(1).await?;
    Ok(endpoints.connect().await?.flood(100, PROFILED).await?.cpu_each())
}

/// How our messages become frames. The rival packs 64 KiB writes always.
#[derive(Clone, Copy, Debug)]
enum Sending {
    /// As a node does it: many to a frame.
    Packed,
    /// Each its own frame and its own call: what the trait costs.
    Single,
}

impl Sending {
    async fn flood(self, pair: &Pair, size: usize, messages: usize) -> Result<Cost, Failure> {
        match self {
            Self::Packed => pair.packed(size, messages).await,
            Self::Single => pair.flood(size, messages).await,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed into frames as a node packs them",
            Self::Single => "each its own frame and call",
        }
    }
}

async fn flood(size: usize, messages: usize, sending: Sending) -> Result<[Row; 2], Failure> {
    let mut rival = raw::Pair::connect().await?;
    let endpoints = byway::endpoints(1).await?;
    let ours = endpoints.connect().await?;
    rival.flood(size, messages / 10).await?;
    sending.flood(&ours, size, messages / 10).await?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let theirs = rival.flood(size, messages).await?;
        rounds.add(sending.flood(&ours, size, messages).await?, theirs);
    }
    ours.hang_up().await;
    endpoints.close().await;
    let (rate, cpu) = (rounds.medians(Cost::rate), rounds.medians(Cost::cpu_each));
    let how = format!(
        "medians of {ROUNDS} rounds in turn, {messages} messages one way, TCP on loopback, both ends in this process"
    );
    Ok([
        Row {
            figure: format!(
                "libp2p: messages/s of {size} B, {}, against libp2p's stream with 64 KiB writes",
                sending.name()
            ),
            target: format!("≥ {:.0} %", LEAST_SHARE * 100.0),
            value: format!("{:.0} % ({:.0} k against {:.0} k)", rate.share * 100.0, rate.own / 1e3, rate.theirs / 1e3),
            met: rate.share >= LEAST_SHARE,
            how: how.clone(),
        },
        Row {
            figure: format!(
                "libp2p: processor time per message of {size} B, {}, both ends, against the same",
                sending.name()
            ),
            target: format!("≤ {:.0} %", MOST_CPU * 100.0),
            value: format!("{:.0} % ({:.0} ns against {:.0} ns)", cpu.share * 100.0, cpu.own, cpu.theirs),
            met: cpu.share <= MOST_CPU,
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
