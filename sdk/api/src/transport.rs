use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{NetworkId, PeerId, Secret, SignalAddress, SignalPort, TransportError};

/// How a transport protects what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Encrypted, and nobody can alter it unnoticed; [`Connection::binding`] names the channel. Who is at
    /// the far end may be left to Hello, which signs the binding: an anonymous key agreement is enough
    /// (Noise NN, DTLS with self-signed certificates) if the binding comes out of it.
    Encrypted,
    /// Never leaves the process.
    InProcess,
    /// Plain bytes that leave the process: on a network, and also in a socket or pipe between two processes
    /// of one machine, where others may listen or take a place. The node refuses such a transport.
    Insecure,
}

/// What a transport can do. Suites and the node skip what it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportCaps {
    /// The longest frame it carries, in bytes; at least 65,536 to be of use to the node.
    pub max_frame: usize,
    /// It needs a [`SignalPort`] to make a connection, and dials `ws:` and `peer:` addresses.
    pub needs_signaling: bool,
    /// It can connect two devices that are both behind a NAT.
    pub traverses_nat: bool,
    /// How it protects what it carries.
    pub security: Security,
    /// It proves the device key itself, and so needs the secret of it: [`BindContext::identity`].
    pub proves_identity: bool,
}

impl TransportCaps {
    /// Capabilities from their parts, of a transport that leaves the proof of the device key to the node.
    pub const fn new(max_frame: usize, needs_signaling: bool, traverses_nat: bool, security: Security) -> Self {
        Self { max_frame, needs_signaling, traverses_nat, security, proves_identity: false }
    }

    /// The same transport, which proves the device key itself. The node lends it the device's seed: such a
    /// transport can act as the device, so it is trusted like the node.
    #[must_use]
    pub const fn proving_identity(self) -> Self {
        Self { proves_identity: true, ..self }
    }
}

/// What a node lends a transport for the life of one endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BindContext {
    /// The device the endpoint belongs to.
    pub me: PeerId,
    /// The network it joins.
    pub network: NetworkId,
    /// Carries signals; present if and only if [`TransportCaps::needs_signaling`].
    pub signals: Option<Arc<dyn SignalPort>>,
    /// The seed of the Ed25519 key of [`me`](Self::me); present if and only if
    /// [`TransportCaps::proves_identity`].
    pub identity: Option<Secret>,
}

impl BindContext {
    /// A context without signalling.
    pub fn new(me: PeerId, network: NetworkId) -> Self {
        Self { me, network, signals: None, identity: None }
    }

    /// Adds the seed of the device key.
    #[must_use]
    pub fn with_identity(mut self, seed: Secret) -> Self {
        self.identity = Some(seed);
        self
    }

    /// Adds the signal port.
    #[must_use]
    pub fn with_signals(mut self, signals: Arc<dyn SignalPort>) -> Self {
        self.signals = Some(signals);
        self
    }
}

/// Makes endpoints: a kind of channel between two devices.
///
/// # Behavior
/// * A transport is configuration until it is bound; binding it twice makes two independent endpoints.
/// * It delivers whole frames, in order, once each, for as long as a connection lives.
/// * It need not authenticate the peer's device key. The node does, with Hello, over
///   [`Connection::binding`]; what the transport itself knows it says in [`Connection::peer`]. One that
///   [proves the device key itself](TransportCaps::proves_identity) connects to nobody else than the
///   device that was asked for.
///
/// # Cancellation
/// Dropping `bind` releases whatever it had acquired.
///
/// # Shutdown
/// Everything belongs to the endpoint; see [`Endpoint::close`].
///
/// # Notes to implementers
/// Bound every queue, own your connect timeout, hold no handle to the node. Run
/// `byway_testkit::transport_conformance!` over it.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// A short constant name, also the scheme of its own addresses: `webrtc`, `mem`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn caps(&self) -> TransportCaps;

    /// Opens an endpoint.
    ///
    /// # Errors
    /// `Config` if the configuration does not work, `LocalFault` if this machine has no network.
    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError>;
}

/// What arrives at an endpoint unasked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// A peer connected to us.
    Connection(Arc<dyn Connection>),
    /// [`Endpoint::addresses`] has changed.
    AddressesChanged,
}

/// One bound transport: dials and accepts.
///
/// # Behavior
/// * `dial` answers with an open connection or an error inside the transport's own connect timeout.
/// * `next` yields accepted connections and address changes, and `None` for ever after `close`.
/// * While `next` is not awaited, accepted connections wait in a bounded queue; the surplus is refused.
/// * If both sides dial at once, at most one connection results; the loser's `dial` ends with
///   [`Superseded`](crate::TransportErrorKind::Superseded) and the connection comes out of `next`. A rule
///   that both know settles it: the dial of the smaller [`PeerId`] wins, and the other side, before it
///   accepts that one, waits for what has become of its own.
///
/// # Cancellation
/// Dropping `dial` aborts the attempt and leaves nothing behind. `next` is cancel-safe: nothing is
/// lost when it is dropped.
///
/// # Shutdown
/// After `close` returns there is no task, socket or table entry of the endpoint left, its connections
/// included, and no file of a socket either. A call that nobody polls any more, of an endpoint or of a
/// connection, must not hold it up for longer than a deadline of yours.
#[async_trait]
pub trait Endpoint: fmt::Debug + Send + Sync + 'static {
    /// Where others can dial it directly. Empty for a transport that needs signalling.
    fn addresses(&self) -> Vec<SignalAddress>;

    /// Connects to the device `peer` at `to`.
    ///
    /// # Errors
    /// `BadAddress`, `Timeout`, `Refused`, `Handshake`, `Superseded`, `Busy`, `Signaling`,
    /// `LocalFault` or `Closed`.
    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError>;

    /// The next connection or change; `None` after `close`. Awaited by one task.
    async fn next(&self) -> Option<Incoming>;

    /// Our network has changed: addresses, routes, or a wake-up from sleep. Refresh what depends on it.
    async fn network_changed(&self) {}

    /// Closes every connection and releases everything. Idempotent.
    async fn close(&self);
}

/// What a channel is bound to, equal on both sides and different for every channel.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelBinding {
    /// How the bytes were derived.
    pub kind: BindingKind,
    /// At most 64 bytes.
    pub bytes: Vec<u8>,
}

impl ChannelBinding {
    /// A binding.
    pub const fn new(kind: BindingKind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes }
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.bytes.len())
    }
}

/// How a [`ChannelBinding`] was derived. [`InProcess`](Self::InProcess) goes with
/// [`Security::InProcess`], any other with [`Security::Encrypted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindingKind {
    /// Never leaves the process.
    InProcess,
    /// SHA-256 of the dialer's DTLS certificate, then of the answerer's, as the DTLS layer saw them.
    DtlsCertificates,
    /// The peer ids of a libp2p channel.
    Libp2pPeers,
    /// A Noise handshake hash, of any pattern and over anything.
    NoiseHash,
}

/// How a connection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathKind {
    /// From device to device.
    Direct,
    /// Through a server that forwards packets (TURN).
    Turn,
    /// Inside one process.
    InProcess,
}

/// Where a connection runs, for people and for preferring one over another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathInfo {
    /// Our end.
    pub local: String,
    /// The far end.
    pub remote: String,
    /// The transport's own estimate of the round trip.
    pub rtt: Option<Duration>,
    /// How it runs.
    pub kind: PathKind,
}

impl PathInfo {
    /// A path.
    pub fn new(kind: PathKind, local: impl Into<String>, remote: impl Into<String>) -> Self {
        Self { local: local.into(), remote: remote.into(), rtt: None, kind }
    }
}

/// Why a connection was closed. The code reaches the far side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// No reason was given: the channel just ended.
    pub const LOST: Self = Self(0);
    /// Not needed any more.
    pub const NORMAL: Self = Self(1);
    /// Another connection to the same device took over. Not a failure.
    pub const SUPERSEDED: Self = Self(2);
    /// The device shuts down or leaves the network.
    pub const LEAVING: Self = Self(3);
    /// No room for another connection.
    pub const FULL: Self = Self(4);
    /// Hello was refused.
    pub const REFUSED: Self = Self(5);
    /// The far side broke the protocol.
    pub const PROTOCOL: Self = Self(6);
    /// The far side did not answer.
    pub const TIMEOUT: Self = Self(7);
    /// The user is blocked.
    pub const BLOCKED: Self = Self(8);
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::LOST => "LOST",
            Self::NORMAL => "NORMAL",
            Self::SUPERSEDED => "SUPERSEDED",
            Self::LEAVING => "LEAVING",
            Self::FULL => "FULL",
            Self::REFUSED => "REFUSED",
            Self::PROTOCOL => "PROTOCOL",
            Self::TIMEOUT => "TIMEOUT",
            Self::BLOCKED => "BLOCKED",
            Self(other) => return write!(f, "CloseCode({other})"),
        };
        f.write_str(name)
    }
}

/// What [`Connection::recv`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// One whole frame, as it was sent.
    Frame(Bytes),
    /// The far side closed, or the channel is lost ([`CloseCode::LOST`]). Nothing follows.
    Closed(CloseCode),
}

/// One open channel to one device.
///
/// # Behavior
/// * Frames arrive whole, in order, once each. An empty frame is a frame.
/// * `send` waits for room and never buffers without bound; a frame longer than
///   [`TransportCaps::max_frame`] is refused with `TooLarge` and the connection lives on.
/// * What was sent before `close` is delivered if the path allows it; then the far side's `recv`
///   yields `Closed(code)`.
/// * After `close`, or after `recv` yielded `Closed`, `send` fails with `Closed`, and `recv` keeps
///   yielding `Closed`.
/// * `binding` is equal on both sides, and different on every connection of the transport.
///
/// # Cancellation
/// Exactly one writer task and one reader task use a connection. A dropped `send` or `recv` may
/// leave it unusable; the node drops them only to close.
///
/// # Shutdown
/// `close` is idempotent. Dropping the last handle closes with [`CloseCode::LOST`].
#[async_trait]
pub trait Connection: fmt::Debug + Send + Sync + 'static {
    /// The device at the far end, if the transport itself proves it. The node compares it with Hello.
    fn peer(&self) -> Option<PeerId>;

    /// What the channel is bound to.
    fn binding(&self) -> ChannelBinding;

    /// Where the connection runs now.
    fn path(&self) -> PathInfo;

    /// Sends one frame; waits for room.
    ///
    /// # Errors
    /// `TooLarge`, or `Closed` once the connection has ended.
    async fn send(&self, frame: Bytes) -> Result<(), TransportError>;

    /// The next frame, or the end.
    ///
    /// # Errors
    /// Only for a fault of our own; the end of the connection is a value.
    async fn recv(&self) -> Result<Received, TransportError>;

    /// Ends the connection and tells the far side why.
    async fn close(&self, code: CloseCode);
}
