//! The carrier over datagram sockets keeps the promises of `Signaling`.

#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{PeerId, SignalAddress, Signaling, async_trait};
use byway_testkit::signaling::{SignalFixture, SignalWorld};
use byway_third_party::datagrams::Datagrams;
use tempfile::TempDir;

/// A directory that is moved away in an outage.
struct Directory(TempDir);

impl Directory {
    fn here(&self) -> PathBuf {
        self.0.path().join("here")
    }
    fn away(&self) -> PathBuf {
        self.0.path().join("away")
    }
}

#[async_trait]
impl SignalWorld for Directory {
    async fn carrier(&self, _: usize) -> Arc<dyn Signaling> {
        Arc::new(Datagrams::new(self.here()))
    }
    fn address(&self, peer: PeerId) -> SignalAddress {
        Datagrams::address_of(peer)
    }
    fn attached(&self, peer: PeerId) -> Option<bool> {
        Some(UnixDatagram::unbound().unwrap().connect(self.here().join(peer.to_string())).is_ok())
    }
    async fn cut(&self) -> bool {
        std::fs::rename(self.here(), self.away()).is_ok()
    }
    async fn restore(&self) {
        std::fs::rename(self.away(), self.here()).unwrap();
    }
}

struct Fresh;

#[async_trait]
impl SignalFixture for Fresh {
    async fn world(&self) -> Box<dyn SignalWorld> {
        Box::new(Directory(tempfile::tempdir().unwrap()))
    }
}

byway_testkit::signaling_conformance!(datagrams, Fresh);
