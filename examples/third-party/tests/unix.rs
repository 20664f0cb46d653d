//! The transport over Unix domain sockets keeps the promises of `Transport`, `Endpoint` and `Connection`.

use std::sync::Arc;

use byway_api::{BindContext, Endpoint, Transport, TransportCaps, TransportError, async_trait};
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
