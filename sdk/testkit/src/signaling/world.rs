use std::sync::Arc;
use std::time::Duration;

use byway_api::{PeerId, SignalAddress, Signaling, async_trait};

/// What the suite grants a carrier.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 60 s.
    pub deadline: Duration,
    /// A call ends, with whatever result, and what is owed comes. Default 15 s.
    pub patience: Duration,
    /// What must not wait takes no longer. Default 1 s.
    pub prompt: Duration,
    /// After this long without an event the suite takes it that none will come. Default 200 ms.
    pub quiet: Duration,
    /// Wait before an envelope is sent again that could not be sent. Default 20 ms.
    pub pause: Duration,
    /// Envelopes of the longest size that may wait for a device that does not read. Default 1,024.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            patience: Duration::from_secs(15),
            prompt: Duration::from_secs(1),
            quiet: Duration::from_millis(200),
            pause: Duration::from_millis(20),
            waiting: 1_024,
        }
    }
}

/// Prepares worlds for a carrier.
#[async_trait]
pub trait SignalFixture: Send + Sync + 'static {
    /// A fresh world with nobody in it.
    async fn world(&self) -> Box<dyn SignalWorld>;

    /// What the suite grants this carrier.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// A place where carriers meet: a server, or what takes its part.
///
/// The network is `conformance`. Devices have self-signed credentials of it
/// ([`OpenMembership`](byway_wire::OpenMembership)) and prove with
/// [`make_proof`](byway_wire::make_proof) that they hold them.
#[async_trait]
pub trait SignalWorld: Send + Sync + 'static {
    /// The carrier number `n`, counted from 0, not attached yet. All carriers of a world can reach each
    /// other. A world of two implementations gives one as 0 and the other as 1.
    async fn carrier(&self, n: usize) -> Arc<dyn Signaling>;

    /// By which the devices of this world reach `peer`. In a node it has to be a `ws:` or `wss:` address
    /// ([`Signaling`]); the suite takes any.
    fn address(&self, peer: PeerId) -> SignalAddress;

    /// Whether the device is attached now; `None` if this world cannot see that.
    fn attached(&self, peer: PeerId) -> Option<bool> {
        let _ = peer;
        None
    }

    /// How many calls that a meter must allow the world has seen so far: connects to a server of all.
    /// `None` if it does not count them; promises about calls are skipped then.
    fn calls(&self) -> Option<u64> {
        None
    }

    /// Ends every socket, and lets nobody in until [`restore`](Self::restore). False if this world has
    /// no such outage; promises about it are skipped then. It may be called before anybody has attached,
    /// and carriers may attach while it lasts.
    async fn cut(&self) -> bool {
        false
    }

    /// Ends an outage.
    async fn restore(&self) {}
}
