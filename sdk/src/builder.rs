//! How a node is configured.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use byway_api::{KeyStore, Membership, Relay, RouteStore, Signaling, Transport};
use byway_core::Tuning;

use crate::engine::Clock;
use crate::error::{BuildError, Problem};
use crate::inbox::Inbox;
use crate::ladder::Ladder;
use crate::network::{Network, Rule};
use crate::node::Node;
use crate::profile::Profile;
use crate::relay::PeerRelay;

/// Configures a node. Begun by [`Node::builder`], ended by [`spawn`](Self::spawn), which reports every
/// problem at once; until then nothing is opened, bound or sent.
#[must_use = "nothing happens before .spawn()"]
pub struct Builder {
    pub(crate) profile: Option<Profile>,
    pub(crate) join: Option<(Network, String)>,
    pub(crate) rule: Option<Rule>,
    pub(crate) device_token: Option<String>,
    pub(crate) transports: Vec<Arc<dyn Transport>>,
    pub(crate) store: Option<Arc<dyn RouteStore>>,
    pub(crate) keys: Option<Arc<dyn KeyStore>>,
    pub(crate) ladder: Ladder,
    pub(crate) carriers: Vec<Arc<dyn Signaling>>,
    pub(crate) relay: Arc<dyn Relay>,
    pub(crate) listener: Option<String>,
    pub(crate) advertise: Vec<String>,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) tuning: Tuning,
    pub(crate) clock: Clock,
    pub(crate) problems: Vec<Problem>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            profile: None,
            join: None,
            rule: None,
            device_token: None,
            transports: Vec::new(),
            store: None,
            keys: None,
            ladder: Ladder::new(),
            carriers: Vec::new(),
            relay: Arc::new(PeerRelay::new()),
            listener: None,
            advertise: Vec::new(),
            bootstrap: Vec::new(),
            tuning: Tuning::default(),
            clock: Clock::System,
            problems: Vec::new(),
        }
    }

    /// The directory of this device: its key file and, unless [`store`](Self::store) says otherwise,
    /// its database. It is made if it is not there. One node at a time can use it.
    pub fn profile(mut self, directory: impl Into<PathBuf>) -> Self {
        self.profile = Some(Profile::new(directory.into()));
        self
    }

    /// The network to join, and as whom.
    pub fn join(mut self, network: Network, user: impl AsRef<str>) -> Self {
        self.join = Some((network, user.as_ref().to_owned()));
        self
    }

    /// Judges the members of the network in place of what [`Network`] says; `credential` proves that
    /// this device is its user's.
    pub fn membership(mut self, membership: impl Membership, credential: impl Into<String>) -> Self {
        self.rule = Some(Rule::Own { membership: Arc::new(membership), credential: credential.into() });
        self
    }

    /// Makes this a further device of a user of an open network: the text from
    /// [`Node::authorize`] on a device that the user has already.
    pub fn device_token(mut self, token: impl Into<String>) -> Self {
        self.device_token = Some(token.into());
        self
    }

    /// Adds a transport. The order is the preference; one with the name of an earlier one takes its
    /// place.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(transport);
        match self.transports.iter_mut().find(|earlier| earlier.name() == transport.name()) {
            Some(earlier) => *earlier = transport,
            None => self.transports.push(transport),
        }
        self
    }

    /// Where routes and messages are kept. Without it they are kept in the profile.
    pub fn store(mut self, store: impl RouteStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Where the device's secrets are kept. Without it they are kept in the profile.
    pub fn keys(mut self, keys: impl KeyStore) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// Rearranges the discovery steps:
    /// `.discovery(|ladder| ladder.before("registry", MyStep).without("coordinators"))`.
    pub fn discovery(mut self, arrange: impl FnOnce(Ladder) -> Ladder) -> Self {
        self.ladder = arrange(std::mem::take(&mut self.ladder));
        self
    }

    /// Adds a carrier of signals of your own. Neighbours are tried before any carrier.
    pub fn signaling(mut self, carrier: impl Signaling) -> Self {
        self.carriers.push(Arc::new(carrier));
        self
    }

    /// Carries sealed messages of members that cannot connect to each other, in place of
    /// [`PeerRelay`]: your own policy of what this device forwards for others, or
    /// `PeerRelay::for_nobody()`.
    pub fn relay(mut self, relay: impl Relay) -> Self {
        self.relay = Arc::new(relay);
        self
    }

    /// Serves a signalling socket on this TCP address, so that members can reach this device without
    /// any server: `"0.0.0.0:0"`, `"[::]:7777"`. With port 0 the port is chosen once and kept over
    /// restarts. Signals are sealed, so no TLS is needed.
    pub fn listener(mut self, address: impl fmt::Display) -> Self {
        self.listener = Some(address.to_string());
        self
    }

    /// Serves no signalling socket, where a preset would.
    pub fn without_listener(mut self) -> Self {
        self.listener = None;
        self
    }

    /// Says at which URL others reach the [`listener`](Self::listener), where it cannot be seen from
    /// here: `"ws://203.0.113.7:7777"` behind a forwarded port. Takes the place of the addresses found
    /// on this machine.
    pub fn advertise(mut self, url: impl fmt::Display) -> Self {
        self.advertise.push(url.to_string());
        self
    }

    /// Begins with a member who gave us an [`Invite`](crate::Invite), or its text. May be called for
    /// several; it is remembered, so it is needed only once.
    pub fn bootstrap(mut self, invite: impl AsRef<str>) -> Self {
        self.bootstrap.push(invite.as_ref().to_owned());
        self
    }

    /// Changes numbers: `.tuning(|t| t.read_receipts = false)`.
    pub fn tuning(mut self, change: impl FnOnce(&mut Tuning)) -> Self {
        change(&mut self.tuning);
        self
    }

    /// Reads the wall time once, at the start, and lets it follow tokio's clock from then on: for tests
    /// under paused time.
    pub fn runtime_clock(mut self) -> Self {
        self.clock = Clock::Ticks;
        self
    }

    /// Starts the node. When it returns, messages can be sent, and members can connect.
    ///
    /// Must be called on a tokio runtime with time and IO enabled.
    ///
    /// Dropping the future releases everything.
    ///
    /// # Errors
    /// [`BuildError`] with every problem that was found. Nothing is left open then.
    pub async fn spawn(self) -> Result<(Node, Inbox), BuildError> {
        // Large, and awaited once: not a part of every future around it.
        Box::pin(crate::spawn::spawn(self)).await
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("profile", &self.profile)
            .field("join", &self.join)
            .field("transports", &self.transports)
            .field("store", &self.store)
            .field("ladder", &self.ladder)
            .field("carriers", &self.carriers)
            .field("relay", &self.relay)
            .field("listener", &self.listener)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}
