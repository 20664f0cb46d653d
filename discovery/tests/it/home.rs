//! What the registry client and its home socket tell each other.

use std::sync::Arc;

use crate::hub::{Server, Setup, context};
use crate::support::{Search, Tokens, dead_port, peer, within};
use byway_api::{DiscoveryStep, Signaling, StepErrorKind};
use byway_discovery::{CarrierConfig, RegistryClient, RegistryConfig, RegistryStep, SocketCarrier};

/// The first packet of a connection decides: the hub takes WebSockets and refuses plain calls, so here
/// calls fail, and what is seen is whether they are made.
#[tokio::test]
async fn an_open_socket_vouches_for_the_registry() {
    let address = dead_port().await;
    let client = RegistryClient::new(&format!("http://{address}"), RegistryConfig::default()).unwrap();
    let carrier = SocketCarrier::new(CarrierConfig::default(), vec![client.home()]);
    carrier.attach(context(peer(1), Tokens::new(100))).await.unwrap();
    let step = RegistryStep::new(Arc::clone(&client));

    // the socket could not be opened: the step knows without a call
    let search = Search::of("bob");
    let down = within(async {
        loop {
            let e = step.find(&search).await.unwrap_err();
            if e.kind() == StepErrorKind::KnownDown {
                return client.calls();
            }
        }
    })
    .await;
    assert!(!client.socket_is_up());
    assert_eq!(step.find(&search).await.unwrap_err().kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), down);

    let mut server = Server::start(Setup { at: Some(address), ..Setup::default() }).await;
    carrier.network_changed().await;
    server.attached(peer(1)).await;
    within(async {
        while !client.socket_is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = client.calls();
    let e = within(step.find(&search)).await.unwrap_err();
    assert_ne!(e.kind(), StepErrorKind::KnownDown);
    assert_eq!(client.calls(), before + 1);
    within(carrier.close()).await;
    assert!(!client.socket_is_up());
}
