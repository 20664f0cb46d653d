use std::fmt;

use bytes::Bytes;
use byway_api::{Member, Membership, NetworkId, PeerId, Proof, WallTime, async_trait};

/// A device in its network: what an attached socket is known as. Envelopes never cross networks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The network.
    pub network: NetworkId,
    /// The device.
    pub peer: PeerId,
}

impl Device {
    /// A device of a network.
    pub const fn new(network: NetworkId, peer: PeerId) -> Self {
        Self { network, peer }
    }
}

/// What a client has to answer before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The server's nonce.
    pub nonce: String,
    /// What the proof is good for: the registry's socket URL, or a listener's PeerId.
    pub target: String,
}

/// Why a gate does not let a socket in. The text is sent to the client: it says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl Challenge {
    /// What the answer proves: first whose key signed it for this challenge, then what the credential
    /// says about that device. What most gates do.
    ///
    /// # Errors
    /// [`Refusal`] with a text for the client.
    pub fn check(&self, proof: &Proof, membership: &dyn Membership, now: WallTime) -> Result<Member, Refusal> {
        let peer = byway_wire::check_proof(proof, "WS", &self.target, &self.nonce, now)
            .map_err(|e| Refusal(format!("the proof does not hold: {e}")))?;
        membership
            .verify(&proof.credential, &peer, now)
            .map_err(|e| Refusal(format!("the credential does not hold: {e}")))
    }
}

/// Decides who may attach to a [`Hub`](crate::Hub).
///
/// # Behavior
/// Both methods are called once per socket, answer at once and do no IO.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// The challenge for a socket that says it is `claimed`. `host` is what the client called the
    /// server, if it said so.
    fn challenge(&self, claimed: PeerId, host: Option<&str>) -> Challenge;

    /// Checks the answer. The hub itself compares the device with the claimed one.
    ///
    /// # Errors
    /// [`Refusal`] with a text for the client.
    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal>;
}

/// What became of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routed {
    /// It is in the queue of the device's socket at this server.
    Delivered,
    /// Another server has taken it for a device attached there.
    Forwarded,
    /// The device is not attached.
    NoSuchPeer,
    /// The device's queue, or the way to it, is full.
    Busy,
    /// It is no envelope for that device.
    Refused,
}

/// Joins several hubs into one: where a device is attached, and how an envelope gets there.
///
/// One hub alone needs none.
///
/// # Behavior
/// * `attached` and `detached` carry the socket's generation, which rises with every socket of one
///   hub; a `detached` of an older generation than the last `attached` says nothing. Both only note
///   the fact and return.
/// * `route` is asked only for a device that is not attached here. It hands the envelope to one other
///   hub, which calls [`Hub::deliver`](crate::Hub::deliver), and stores nothing.
///
/// # Cancellation
/// Dropping `route` may or may not have forwarded. The hub drops it after
/// [`HubConfig::route_timeout`](crate::HubConfig::route_timeout) and answers `Busy`.
#[async_trait]
pub trait SignalBus: fmt::Debug + Send + Sync + 'static {
    /// A device has attached here.
    fn attached(&self, device: &Device, generation: u64);

    /// It is gone.
    fn detached(&self, device: &Device, generation: u64);

    /// Hands an envelope to the hub where `to` is attached.
    async fn route(&self, to: &Device, from: PeerId, envelope: Bytes) -> Routed;
}
