//! Endpoints on loopback, with signals inside the process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use byway::Builder;
use byway::discovery::{CarrierConfig, SocketCarrier};
use byway_api::{BindContext, Endpoint, NetworkId, PeerId, Transport};
use byway_testkit::signals::{Switchboard, switchboard};
use byway_transport_webrtc::{Config, WebRtc};

use crate::Failure;
use crate::pair::Endpoints;

/// Ours. Limits on OFFERs are per device, and here one device dials all the time.
pub(crate) fn transport() -> WebRtc {
    let mut config = Config::default();
    config.offer_burst = u32::MAX;
    WebRtc::new(config).bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// A node whose connections are ours, and whose signals pass its own listener.
pub(crate) fn of_node(node: Builder) -> Builder {
    node.transport(transport().loopback(true))
        .signaling(SocketCarrier::new(CarrierConfig::default(), Vec::new()))
        .listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// Two endpoints that can signal to each other.
pub(crate) async fn bind(near: &dyn Transport, far: &dyn Transport) -> Result<Endpoints, Failure> {
    let board = switchboard();
    let (near, _) = one(&board, near, 1).await?;
    let (far, peer) = one(&board, far, 2).await?;
    Ok(Endpoints::new(near, far, peer, Switchboard::address(peer)))
}

/// An endpoint of a device of its own.
pub(crate) async fn one(
    board: &Switchboard,
    transport: &dyn Transport,
    number: u32,
) -> Result<(Arc<dyn Endpoint>, PeerId), Failure> {
    let mut key = [1; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let peer = PeerId::from_bytes(key);
    let context = BindContext::new(peer, NetworkId::new("bench")?).with_signals(board.port(peer, transport.name()));
    Ok((transport.bind(context).await?, peer))
}
