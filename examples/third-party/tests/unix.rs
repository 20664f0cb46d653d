//! The transport over Unix domain sockets keeps the promises of `Transport`, `Endpoint` and `Connection`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use byway_api::{
    BindContext, Endpoint, NetworkId, PeerId, Transport, TransportCaps, TransportError, TransportErrorKind, async_trait,
};
use byway_testkit::transport::TransportFixture;
use byway_third_party::unix::{Unix, UnixConfig};
use tempfile::TempDir;

/// The transport and the directory that it works in.
#[derive(Debug)]
struct Kept(Unix, #[expect(dead_code, reason = "kept until the end")] TempDir);

#[async_trait]
impl Transport for Kept {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn caps(&self) -> TransportCaps {
        self.0.caps()
    }
    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        self.0.bind(cx).await
    }
}

fn fixture() -> TransportFixture {
    let directory = tempfile::tempdir().unwrap();
    TransportFixture::new(Arc::new(Kept(Unix::new(directory.path(), UnixConfig::default()), directory)))
}

byway_testkit::transport_conformance!(unix, fixture());

#[tokio::test]
async fn another_device_than_the_one_that_was_asked_for_completes_no_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let unix = Unix::new(directory.path(), UnixConfig::default());
    let network = NetworkId::new("team-blue").unwrap();
    let [ann, bob, carol] = [1, 2, 3].map(|n| PeerId::from_bytes([n; 32]));
    let anns = unix.bind(BindContext::new(ann, network.clone())).await.unwrap();
    let bobs = unix.bind(BindContext::new(bob, network)).await.unwrap();
    let wrong = anns.dial(carol, &bobs.addresses()[0]).await.unwrap_err();
    assert_eq!(wrong.kind(), TransportErrorKind::Handshake);
    anns.dial(bob, &bobs.addresses()[0]).await.unwrap();
    anns.close().await;
    bobs.close().await;
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "sockets are left");
}
