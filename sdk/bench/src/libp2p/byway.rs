//! Our transport, without a node above it.

use byway_api::{BindContext, NetworkId, Secret, Transport};
use byway_transport_libp2p::{Config, Libp2p};
use byway_wire::DeviceKey;

use crate::Failure;
use crate::pair::Endpoints;

/// Over loopback only.
pub(crate) fn loopback() -> Libp2p {
    Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")
}

/// Two endpoints with room for so many connections between them.
pub(crate) async fn endpoints(connections: usize) -> Result<Endpoints, Failure> {
    let mut config: Config = loopback().config().clone();
    config.connections_per_peer = connections;
    let transport = Libp2p::new(config);
    let bind = async |number: u8| {
        let seed = Secret::new([number; 32]);
        let peer = DeviceKey::from_seed(&seed).peer();
        let context = BindContext::new(peer, NetworkId::new("bench")?).with_identity(seed);
        Ok::<_, Failure>((transport.bind(context).await?, peer))
    };
    let ((near, _), (far, peer)) = (bind(1).await?, bind(2).await?);
    let at = far.addresses().into_iter().next().ok_or("no address")?;
    Ok(Endpoints::new(near, far, peer, at))
}
