//! A TURN server in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

pub(crate) const PASSWORD: &str = "secret";

struct Password;

impl AuthHandler for Password {
    fn auth_handle(&self, user: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        Ok(generate_auth_key(user, realm, PASSWORD))
    }
}

/// The server and its address.
pub(crate) async fn start() -> (Server, String) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let relay_addr_generator = Box::new(RelayAddressGeneratorStatic {
        relay_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        address: "127.0.0.1".to_owned(),
        net: Arc::new(Net::new(None)),
    });
    let config = ServerConfig {
        conn_configs: vec![ConnConfig { conn: Arc::new(socket), relay_addr_generator }],
        realm: "byway".to_owned(),
        auth_handler: Arc::new(Password),
        channel_bind_timeout: Duration::ZERO,
        alloc_close_notify: None,
    };
    (Server::new(config).await.unwrap(), address)
}
