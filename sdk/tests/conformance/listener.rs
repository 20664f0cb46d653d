//! A member's listener, which is a carrier too, and the socket carriers that call it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use byway::discovery::{CarrierConfig, SocketCarrier};
use byway::{Listener, ListenerConfig};
use byway_api::{NetworkId, PeerId, SignalAddress, Signaling, async_trait};
use byway_testkit::promise::Outcome;
use byway_testkit::signaling::{PROMISES, SignalFixture, SignalWorld, boxed, deadline};
use byway_wire::OpenMembership;

struct Member;

struct Called(Arc<Listener>);

#[async_trait]
impl SignalFixture for Member {
    async fn world(&self) -> Box<dyn SignalWorld> {
        let mut config = ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        // the bound of the queue is to be seen, not that of the pace
        (config.hub.frames_per_second, config.hub.burst) = (1_000_000, 1_000_000);
        let membership = OpenMembership::new(NetworkId::new("conformance").unwrap());
        Box::new(Called(Arc::new(Listener::bind(config, Arc::new(membership)).await.unwrap())))
    }
}

#[async_trait]
impl SignalWorld for Called {
    async fn carrier(&self, n: usize) -> Arc<dyn Signaling> {
        let mut config = CarrierConfig::default();
        config.inbox = 8;
        match n {
            0 => Arc::<Listener>::clone(&self.0),
            _ => Arc::new(SocketCarrier::new(config, Vec::new())),
        }
    }

    fn address(&self, peer: PeerId) -> SignalAddress {
        SignalAddress::socket(&format!("ws://{}", self.0.local_addr()), peer).unwrap()
    }
}

/// All but one: a caller proves only to the member whose listener it calls, so that two callers, which
/// `nothing_is_stored` needs, do not open a socket by sending to each other.
#[test]
fn a_listener_and_its_callers_keep_their_promises_to_each_other() {
    for promise in PROMISES.iter().filter(|promise| promise.name() != "nothing_is_stored") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fixture = boxed(Member);
        match runtime.block_on(promise.test(&*fixture, deadline(&*fixture))) {
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Skipped(why)) => println!("skipped: {}: {why}", promise.name()),
            Err(broken) => panic!("{}: {broken}", promise.name()),
        }
    }
}
