//! Devices to connect.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use byway_api::{
    BindContext, Connection, Endpoint, Incoming, NetworkId, PeerId, Secret, SignalAddress, Transport, TransportError,
};
use byway_transport_libp2p::{Config, Libp2p};
use byway_wire::DeviceKey;

/// Longer than anything that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn seed(number: u8) -> Secret {
    Secret::new([number; 32])
}

pub fn peer(number: u8) -> PeerId {
    DeviceKey::from_seed(&seed(number)).peer()
}

pub fn context(number: u8) -> BindContext {
    BindContext::new(peer(number), NetworkId::new("test").unwrap()).with_identity(seed(number))
}

/// On loopback only.
pub fn loopback() -> Libp2p {
    Libp2p::default().listen("/ip4/127.0.0.1/tcp/0")
}

/// On loopback only, with other settings.
pub fn with(change: impl FnOnce(&mut Config)) -> Libp2p {
    let mut config = loopback().config().clone();
    change(&mut config);
    Libp2p::new(config)
}

pub async fn bind(transport: &Libp2p, number: u8) -> Device {
    let endpoint = transport.bind(context(number)).await.unwrap();
    let address = endpoint.addresses().remove(0);
    Device { peer: peer(number), endpoint, address }
}

/// A bound device.
#[derive(Debug)]
pub struct Device {
    pub peer: PeerId,
    pub endpoint: Arc<dyn Endpoint>,
    pub address: SignalAddress,
}

impl Device {
    pub async fn dial(&self, to: &Self) -> Result<Arc<dyn Connection>, TransportError> {
        soon("the end of a dial", self.endpoint.dial(to.peer, &to.address)).await
    }

    pub async fn accept(&self) -> Arc<dyn Connection> {
        soon("a connection", async {
            loop {
                match self.endpoint.next().await {
                    Some(Incoming::Connection(connection)) => return connection,
                    Some(_) => {}
                    None => panic!("the endpoint is closed"),
                }
            }
        })
        .await
    }

    pub async fn connect(&self, to: &Self) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
        let (near, far) = tokio::join!(self.dial(to), to.accept());
        (near.unwrap(), far)
    }

    /// `127.0.0.1:4001`
    pub fn socket(&self) -> String {
        let parts: Vec<_> = self.address.rest().split('/').collect();
        format!("{}:{}", parts[2], parts[4])
    }

    pub async fn close(&self) {
        soon("the end of an endpoint", self.endpoint.close()).await;
    }
}

/// What comes within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until there are no more tasks than that.
pub async fn tasks_fall_to(most: usize) {
    let fall = async {
        while tasks() > most {
            tokio::task::yield_now().await;
        }
    };
    soon(&format!("all but {most} tasks to end"), fall).await;
}
