use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Meter, NetworkId, PeerId, SignalAddress, SignalError};

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignalKind {
    /// Opens a session.
    Offer,
    /// Accepts it.
    Answer,
    /// A late candidate.
    Candidate,
    /// Ends the session before it became a connection.
    Bye,
}

/// One handshake blob of a transport. Its body means something only to that transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What it is for.
    pub kind: SignalKind,
    /// Which attempt it belongs to; chosen by the offerer, 1 to 16 bytes.
    pub session: Bytes,
    /// At most 16 KiB.
    pub body: Bytes,
    /// [`Transport::name`](crate::Transport::name).
    pub transport: String,
}

/// A signal that arrived, opened and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignalIn {
    /// The device that signed it.
    pub from: PeerId,
    /// Where an answer goes: the way this signal came.
    pub back: SignalAddress,
    /// The signal.
    pub signal: Signal,
}

impl SignalIn {
    /// A signal from `from` that is answered through `back`.
    pub const fn new(from: PeerId, back: SignalAddress, signal: Signal) -> Self {
        Self { from, back, signal }
    }
}

/// Lent to a transport that needs signalling: sends and receives its own signals.
///
/// The node seals, opens, checks the sender and picks the carrier: neighbours first, then member
/// listeners, the registry last.
///
/// # Behavior
/// * `send` returns when a carrier has taken the signal (a neighbour forwarded it, a socket delivered
///   it), not when it was read.
/// * `next` yields signals for this transport only.
/// * Signals may be lost, and arrive late or twice after being sent again; each arrives at most once
///   per `send`. None is older than 60 s.
///
/// # Cancellation
/// Both methods are cancel-safe.
///
/// # Shutdown
/// `next` yields `None` once the node stops.
#[async_trait]
pub trait SignalPort: fmt::Debug + Send + Sync + 'static {
    /// Sends `signal` to the device `to`; `at` is tried before other ways that the node knows.
    ///
    /// # Errors
    /// [`SignalError`] when no carrier took it.
    async fn send(&self, to: PeerId, at: &SignalAddress, signal: Signal) -> Result<(), SignalError>;

    /// The next signal for this transport.
    async fn next(&self) -> Option<SignalIn>;
}

/// An envelope that only its recipient can open. A carrier sees the recipient and the size.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The device that can open it.
    pub to: PeerId,
    /// The bytes of a `SealedEnvelope` (`sdk/docs/protocol.md`, section 3), at most 60 KiB. The one thing in
    /// it that a holder needs is when it expires: field 5, a varint, Unix milliseconds.
    pub envelope: Bytes,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(to {:?}, {} bytes)", self.to, self.envelope.len())
    }
}

/// An envelope that a carrier received for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The envelope.
    pub mail: Sealed,
    /// The same way back to the sender's device.
    pub back: SignalAddress,
}

/// A credential and a signed proof that we hold its key (in the manner of RFC 9449).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The credential.
    pub credential: String,
    /// The proof over the server's nonce.
    pub proof: String,
}

/// Lent to a carrier: proves to a server which device this is. It signs nothing else.
pub trait Prover: fmt::Debug + Send + Sync + 'static {
    /// A proof for one request.
    ///
    /// `method` is `GET`, `POST` or `WS`; `target` names what the proof is good for (a URL without
    /// query, or a listener's PeerId); `nonce` is the server's.
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof;
}

/// What a node lends a carrier for its life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignalContext {
    /// Our device.
    pub me: PeerId,
    /// Our network.
    pub network: NetworkId,
    /// Proves who we are.
    pub prover: Arc<dyn Prover>,
    /// Asked before every metered call, such as connecting to a registry.
    pub meter: Arc<dyn Meter>,
}

impl SignalContext {
    /// A context.
    pub fn new(me: PeerId, network: NetworkId, prover: Arc<dyn Prover>, meter: Arc<dyn Meter>) -> Self {
        Self { me, network, prover, meter }
    }
}

/// Carries sealed envelopes to devices that are not connected to us.
///
/// # Behavior
/// * `send` returns `Ok` when the far end of the carrier has taken the envelope for a device that is
///   attached there now; it never stores one.
/// * A carrier sees only sealed envelopes; it can drop, delay or repeat them, and cannot read, alter
///   or make them.
/// * It keeps itself connected: it reconnects with growing, jittered waits.
/// * Every queue is bounded; the surplus is refused with `Busy`. A device that does not read must not
///   stand in the way of what is for others.
/// * One that calls no server needs no [`Meter`].
///
/// # Addresses
/// Of any scheme that is no transport's name: what `addresses` says is published, and for another
/// device's address every carrier whose `serves` says yes is asked, in the order in which they were
/// given to the node, until one has taken the signal. `ws:` and `wss:` addresses are those of
/// signalling sockets ([`SignalAddress::socket`]).
///
/// # Cancellation
/// Dropping `send` may or may not have sent. `recv` is cancel-safe.
///
/// # Shutdown
/// After `close` returns no task or socket is left, and `recv` yields `None` for ever. It ends a `recv`
/// that waits; for one that nobody polls any more it must not wait without end.
#[async_trait]
pub trait Signaling: fmt::Debug + Send + Sync + 'static {
    /// A short constant name.
    fn name(&self) -> &'static str;

    /// Called once, before anything else. Returns without waiting for a connection.
    ///
    /// # Errors
    /// [`SignalError`] if the configuration cannot work.
    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError>;

    /// Whether `send` understands the address.
    fn serves(&self, at: &SignalAddress) -> bool;

    /// Our own addresses through this carrier, for our record.
    fn addresses(&self) -> Vec<SignalAddress> {
        Vec::new()
    }

    /// Hands `mail` over to the device at `at`, which is the one that the mail is for.
    ///
    /// # Errors
    /// `NoSuchPeer` if it is not attached there, `Busy`, `Unreachable`, `Refused` also for an envelope of
    /// more than 60 KiB, `BadAddress`, `Closed` after `close`, `LocalFault`.
    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError>;

    /// The next envelope for us. Awaited by one task.
    async fn recv(&self) -> Option<Carried>;

    /// Our network has changed: reconnect now instead of at the end of a wait.
    async fn network_changed(&self) {}

    /// Stops. Idempotent.
    async fn close(&self);
}
