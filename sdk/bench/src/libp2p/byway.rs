//! Our transport, without a node above it.

use std::sync::Arc;

use byway_api::{
    BindContext, Bytes, CloseCode, Connection, Endpoint, Incoming, NetworkId, Received, Secret, Transport,
};
use byway_transport_libp2p::{Config, Libp2p};
use byway_wire::DeviceKey;

use super::Cost;
use crate::Failure;

/// The messages are its beginning.
static BODY: [u8; 1 << 16] = [7; 1 << 16];

/// Over loopback only.
pub(crate) fn loopback() -> Libp2p {
    Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")
}

/// Two endpoints.
#[derive(Debug)]
pub(crate) struct Endpoints {
    near: Arc<dyn Endpoint>,
    far: Arc<dyn Endpoint>,
    peer: byway_api::PeerId,
}

impl Endpoints {
    /// With room for so many connections between them.
    pub(crate) async fn start(connections: usize) -> Result<Self, Failure> {
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
        Ok(Self { near, far, peer })
    }

    pub(crate) async fn connect(&self) -> Result<(Arc<dyn Connection>, Arc<dyn Connection>), Failure> {
        let to = self.far.addresses().into_iter().next().ok_or("no address")?;
        let accept = async {
            loop {
                match self.far.next().await {
                    Some(Incoming::Connection(connection)) => return Ok::<_, Failure>(connection),
                    Some(_) => {}
                    None => return Err("the endpoint has closed".into()),
                }
            }
        };
        let dial = async { Ok(self.near.dial(self.peer, &to).await?) };
        tokio::try_join!(dial, accept)
    }

    pub(crate) async fn close(&self) {
        tokio::join!(self.near.close(), self.far.close());
    }
}

/// Two ends of one connection.
#[derive(Debug)]
pub(crate) struct Pair {
    endpoints: Endpoints,
    near: Arc<dyn Connection>,
    far: Arc<dyn Connection>,
}

impl Pair {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let endpoints = Endpoints::start(1).await?;
        let (near, far) = endpoints.connect().await?;
        Ok(Self { endpoints, near, far })
    }

    /// So many messages from one end to the other, each its own frame.
    pub(crate) async fn flood(&self, size: usize, messages: usize) -> Result<Cost, Failure> {
        // What it costs a program to make a message is no part of this, here as there.
        let body = Bytes::from_static(&BODY[..size]);
        Cost::of(messages, self.carry(messages, move || body.clone())).await
    }

    /// So many frames from one end to the other.
    pub(crate) async fn carry(
        &self,
        frames: usize,
        mut next: impl FnMut() -> Bytes + Send + 'static,
    ) -> Result<(), Failure> {
        let (near, far) = (Arc::clone(&self.near), Arc::clone(&self.far));
        let sink = tokio::spawn(async move {
            for _ in 0..frames {
                let Received::Frame(frame) = far.recv().await? else { return Err("the connection has ended".into()) };
                std::hint::black_box(frame);
            }
            Ok::<_, Failure>(())
        });
        let source = tokio::spawn(async move {
            for _ in 0..frames {
                near.send(next()).await?;
            }
            Ok::<_, Failure>(())
        });
        source.await??;
        sink.await?
    }

    pub(crate) async fn close(self) {
        self.near.close(CloseCode::NORMAL).await;
        self.endpoints.close().await;
    }
}
