//! Memory of idle connections, in a process of its own.

use std::sync::Arc;

use byway_testkit::signals::{Switchboard, switchboard};

use super::{endpoints, raw};
use crate::Failure;
use crate::idle::Growth;
use crate::pair::Endpoints;

pub(crate) const CONNECTIONS: usize = 100;

/// KiB per connection of `rtc`.
pub(crate) async fn raw() -> Result<f64, Failure> {
    let mut growth = Growth::over(CONNECTIONS);
    let mut open = Vec::new();
    while growth.goes_on().await? {
        open.push(raw::Pair::connect()?);
    }
    growth.each().await
}

/// KiB per connection of ours: one endpoint, to which as many devices connect.
pub(crate) async fn byway() -> Result<f64, Failure> {
    let mut growth = Growth::over(CONNECTIONS);
    let (board, transport) = (switchboard(), endpoints::transport());
    let (center, peer) = endpoints::one(&board, &transport, 0).await?;
    // endpoints are no part of it
    let mut dialling = Vec::new();
    for number in 1..=growth.connections() {
        let (near, _) = endpoints::one(&board, &transport, u32::try_from(number)?).await?;
        dialling.push(Endpoints::new(near, Arc::clone(&center), peer, Switchboard::address(peer)));
    }
    let (mut open, mut next) = (Vec::new(), dialling.iter());
    while growth.goes_on().await? {
        open.push(next.next().ok_or("too few endpoints")?.connect().await?);
    }
    growth.each().await
}
