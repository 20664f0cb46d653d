//! What a flood of messages cost.

use std::time::{Duration, Instant};

use crate::stats::median;
use crate::{Failure, process};

/// What one flood cost, all ends together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    messages: usize,
    time: Duration,
    cpu: Duration,
}

impl Cost {
    /// Of what happens in `work`.
    pub(crate) async fn of(messages: usize, work: impl Future<Output = Result<(), Failure>>) -> Result<Self, Failure> {
        let (cpu, start) = (process::cpu()?, Instant::now());
        work.await?;
        Ok(Self { messages, time: start.elapsed(), cpu: process::cpu()? - cpu })
    }

    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }

    /// Nanoseconds of processor time per message.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.messages as f64
    }
}

/// Ours and the rival's, in rounds in turn.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    own: Vec<Cost>,
    theirs: Vec<Cost>,
}

/// Medians over all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Medians {
    /// Ours as part of the rival's in the same round.
    pub(crate) share: f64,
    pub(crate) own: f64,
    pub(crate) theirs: f64,
}

impl Rounds {
    pub(crate) fn add(&mut self, own: Cost, theirs: Cost) {
        self.own.push(own);
        self.theirs.push(theirs);
    }

    pub(crate) fn medians(&self, of: fn(&Cost) -> f64) -> Medians {
        let [own, theirs] = [&self.own, &self.theirs].map(|costs| costs.iter().map(of).collect::<Vec<_>>());
        let shares: Vec<_> = own.iter().zip(&theirs).map(|(own, theirs)| own / theirs).collect();
        Medians { share: median(&shares), own: median(&own), theirs: median(&theirs) }
    }
}
