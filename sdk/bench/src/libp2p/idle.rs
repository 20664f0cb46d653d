//! Memory of idle connections, in a process of its own.

use std::time::Duration;

use super::byway::Endpoints;
use super::raw::Swarms;
use crate::{Failure, process};

pub(crate) const CONNECTIONS: usize = 200;

/// Connections before the first look: what is needed once is there by then.
const FIRST: usize = 50;

/// Until everything that connecting has set in motion has come to rest.
const REST: Duration = Duration::from_millis(300);

/// KiB per connection of libp2p.
pub(crate) async fn raw() -> Result<f64, Failure> {
    let mut swarms = Swarms::start().await?;
    let mut open = Vec::new();
    let mut before = 0.0;
    for number in 0..FIRST + CONNECTIONS {
        if number == FIRST {
            before = at_rest().await?;
        }
        open.push(swarms.connect().await?);
    }
    growth(before).await
}

/// KiB per connection of ours.
pub(crate) async fn byway() -> Result<f64, Failure> {
    let endpoints = Endpoints::start(FIRST + CONNECTIONS).await?;
    let mut open = Vec::new();
    let mut before = 0.0;
    for number in 0..FIRST + CONNECTIONS {
        if number == FIRST {
            before = at_rest().await?;
        }
        open.push(endpoints.connect().await?);
    }
    growth(before).await
}

async fn growth(before: f64) -> Result<f64, Failure> {
    Ok((at_rest().await? - before) / CONNECTIONS as f64)
}

async fn at_rest() -> Result<f64, Failure> {
    tokio::time::sleep(REST).await;
    process::resident()
}
