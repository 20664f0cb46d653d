//! Memory of connections at rest.

use std::time::Duration;

use crate::{Failure, process};

/// Connections before the first look: what is needed once is there by then.
const FIRST: usize = 50;

/// Until everything that connecting has set in motion has come to rest.
const REST: Duration = Duration::from_millis(300);

/// Growth of this process while connections are opened and kept.
#[derive(Debug)]
pub(crate) struct Growth {
    over: usize,
    opened: usize,
    before: f64,
}

impl Growth {
    /// Over so many connections, after the first ones.
    pub(crate) const fn over(connections: usize) -> Self {
        Self { over: connections, opened: 0, before: 0.0 }
    }

    /// How many have to be opened in all.
    pub(crate) const fn connections(&self) -> usize {
        FIRST + self.over
    }

    /// Asked before each one: whether there is to be another.
    pub(crate) async fn goes_on(&mut self) -> Result<bool, Failure> {
        if self.opened == FIRST {
            self.before = at_rest().await?;
        }
        self.opened += 1;
        Ok(self.opened <= self.connections())
    }

    /// KiB for each one, all of them still open.
    pub(crate) async fn each(self) -> Result<f64, Failure> {
        Ok((at_rest().await? - self.before) / self.over as f64)
    }
}

async fn at_rest() -> Result<f64, Failure> {
    tokio::time::sleep(REST).await;
    process::resident()
}
