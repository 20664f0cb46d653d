//! Memory of idle connections, in a process of its own.

use super::byway::endpoints;
use super::raw::Swarms;
use crate::Failure;
use crate::idle::Growth;

pub(crate) const CONNECTIONS: usize = 200;

/// KiB per connection of libp2p.
pub(crate) async fn raw() -> Result<f64, Failure> {
    let mut growth = Growth::over(CONNECTIONS);
    let (mut swarms, mut open) = (Swarms::start().await?, Vec::new());
    while growth.goes_on().await? {
        open.push(swarms.connect().await?);
    }
    growth.each().await
}

/// KiB per connection of ours.
pub(crate) async fn byway() -> Result<f64, Failure> {
    let mut growth = Growth::over(CONNECTIONS);
    let (endpoints, mut open) = (endpoints(growth.connections()).await?, Vec::new());
    while growth.goes_on().await? {
        open.push(endpoints.connect().await?);
    }
    growth.each().await
}
