use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{BindContext, Endpoint, Security, Transport, TransportCaps, TransportError, TransportErrorKind};

use crate::MemoryNetwork;
use crate::endpoint::MemoryEndpoint;

/// The name of the transport, and the scheme of its addresses: `mem:7`.
pub(crate) const NAME: &str = "mem";

/// Connects the devices of one [`MemoryNetwork`].
///
/// Cheap to clone; every clone is the same configuration.
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
}

impl MemoryTransport {
    pub(crate) const fn new(network: MemoryNetwork) -> Self {
        Self { network }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> TransportCaps {
        TransportCaps::new(self.network.config().max_frame, false, false, Security::InProcess)
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        Ok(Arc::new(MemoryEndpoint::join(self.network.clone(), cx.me)))
    }
}

pub(crate) fn error(kind: TransportErrorKind, detail: impl Into<String>) -> TransportError {
    TransportError::new(kind, NAME, detail)
}
