use std::sync::Arc;

use byway_discovery::standard_steps;
use byway_store_memory::MemoryStore;
use byway_transport_memory::MemoryNetwork;

use super::Preset;
use super::directory::Directory;
use crate::builder::Builder;
use crate::keys_file::MemoryKeys;

/// Everything in one process: for tests and examples of apps.
///
/// Nodes made from clones of one `InMemory` are on one network and find each other by a shared
/// directory, without invites. Nothing survives the node: each begins as a new device, unless
/// [`Builder::store`] and [`Builder::keys`] say otherwise. There are no timers but tokio's, and wall
/// time follows them, so it works under paused time.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    network: MemoryNetwork,
    directory: Directory,
}

impl InMemory {
    /// A world of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A world over this network, with a directory of its own: its nodes can be dialled by those of
    /// other worlds over the same network, and are found by them only through invites and neighbours.
    pub fn on(network: MemoryNetwork) -> Self {
        Self { network, directory: Directory::default() }
    }

    /// The network below, which can be cut on demand.
    pub const fn network(&self) -> &MemoryNetwork {
        &self.network
    }
}

impl Preset for InMemory {
    fn configure(self, builder: Builder) -> Builder {
        builder
            .transport(self.network.transport())
            .store(MemoryStore::new())
            .keys(MemoryKeys::new())
            .discovery(|_| standard_steps(Some(Arc::new(self.directory))).into())
            .runtime_clock()
    }
}
