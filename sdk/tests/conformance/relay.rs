//! The relay that comes with every node.

use std::sync::Arc;

use byway::PeerRelay;
use byway_api::{Bytes, PeerId, Relay, Sealed};
use byway_testkit::relay::RelayFixture;
use byway_testkit::relay_conformance;

const NEIGHBOUR: PeerId = PeerId::from_bytes([1; 32]);

struct Peers;

impl RelayFixture for Peers {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(PeerRelay::new())
    }

    fn refused(&self) -> Option<(PeerId, Sealed)> {
        Some((NEIGHBOUR, Sealed { to: PeerId::from_bytes([2; 32]), envelope: Bytes::new() }))
    }
}

relay_conformance!(peers, Peers);

struct ForNobody;

impl RelayFixture for ForNobody {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(PeerRelay::for_nobody())
    }

    fn admitted(&self) -> Option<(PeerId, Sealed)> {
        None
    }

    fn refused(&self) -> Option<(PeerId, Sealed)> {
        Some((NEIGHBOUR, Sealed { to: PeerId::from_bytes([2; 32]), envelope: Bytes::from_static(b"sealed") }))
    }
}

relay_conformance!(for_nobody, ForNobody);
