use std::fmt;

use async_trait::async_trait;

use crate::{EnvelopeId, PeerId, RelayError, RelayErrorKind, Sealed, WallTime};

/// How far an envelope came at a hop. It says nothing about the recipient: only the recipient's own,
/// signed receipt makes a message *delivered*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Handoff {
    /// The hop has written it to its live connection to the recipient.
    Forwarded,
    /// The hop keeps it, durably, until the recipient fetches it.
    Stored,
}

/// Until when a holder promises to keep an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredUntil(pub WallTime);

/// One envelope that is held for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Its place in the mailbox, from 1 on: rising, never used twice, also not after a restart with an empty
    /// box. The `after` of the next fetch.
    pub n: u64,
    /// Names it to [`Relay::release`]: a digest of the envelope, such as SHA-256 of its bytes. The holder
    /// chooses it; nobody else computes it.
    pub id: EnvelopeId,
    /// The envelope, as it was held.
    pub mail: Sealed,
}

impl Held {
    /// The envelope `mail` at place `n`.
    pub const fn new(n: u64, id: EnvelopeId, mail: Sealed) -> Self {
        Self { n, id, mail }
    }
}

/// Lent to a [`Relay`] for one call of [`Relay::forward`]: the node's own connections.
#[async_trait]
pub trait Carrier: fmt::Debug + Send + Sync {
    /// Hands `mail` to the neighbour `hop` and waits for its acknowledgement.
    ///
    /// It returns within the node's forward timeout (1 s unless tuned): a neighbour that says nothing
    /// is a `Timeout`. The envelope may then have been forwarded all the same; the recipient tells
    /// duplicates apart.
    ///
    /// # Errors
    /// `NotNeighbour` if we have no connection to `hop`, `Busy` if there is no room in it,
    /// `NotConnected` if `hop` has none to the recipient, `Quota`, `TooLarge`, `Timeout` or `Closed`.
    ///
    /// # Cancellation
    /// Dropping it may or may not have handed the envelope over.
    async fn hand_over(&self, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError>;
}

/// Carries sealed envelopes of members for whom no direct connection is at hand.
///
/// A node is on every side of it: it *sends* its own envelopes through a neighbour (`forward`), it
/// *forwards* those of others to its own neighbours if its policy admits them (`admit`), and it may
/// *hold* them for devices that are not there (`hold`, `fetch`, `release`). One relay serves one node.
///
/// # Behavior
/// * It sees only sealed envelopes. The node seals and opens; a relay can drop, delay or repeat an
///   envelope, and can neither read, alter nor make one.
/// * `admit` is policy alone. The quotas per sender, the size, the expiry, the one hop and whether
///   somebody is blocked are the node's and were checked before; what `admit` refuses is answered to
///   the sender as refused, never dropped silently, and the sender takes another way.
/// * `forward` hands the envelope over exactly as it got it, to `hop` and nobody else, and reports
///   what the hop said. It does not try again and does not choose another hop: the node does, because
///   it knows the other ways.
/// * `hold` has stored the envelope durably when it returns; holding the same envelope again answers
///   like the first time and keeps one copy. `fetch` yields in the order of [`Held::n`] and removes
///   nothing; only `release` does. A relay that holds nothing keeps the default bodies.
/// * The calls may run at the same time, `admit` within `forward` too.
///
/// # Cancellation
/// Dropping `forward` or `hold` may or may not have done it; `fetch` and `release` may be called
/// again. The node drops a call that outlives its deadline (5 s).
///
/// # Shutdown
/// The node drops every call before it closes; a relay owns no task and nothing to close. It may
/// outlive the node and serve another one later.
///
/// # Notes to implementers
/// `admit` runs on the node's loop for every envelope: decide from memory in under 50 microseconds,
/// never block. A panic in it refuses that envelope. Do not keep the [`Carrier`]: it is lent for the
/// call. Bound what you hold: a promise of [`StoredUntil`] is kept, so a full box answers `Quota`. Durable
/// is on a disk: a relay with its boxes in memory breaks its promise at the first restart. Run
/// `byway_testkit::relay_conformance!` over it.
#[async_trait]
pub trait Relay: fmt::Debug + Send + Sync + 'static {
    /// A short constant name.
    fn name(&self) -> &'static str;

    /// Whether `mail`, handed to us by our neighbour `from`, may go on to the device it is for.
    ///
    /// # Errors
    /// `Refused`, `Quota` or `TooLarge`.
    fn admit(&self, from: PeerId, mail: &Sealed) -> Result<(), RelayError>;

    /// Sends our own `mail` by way of the neighbour `hop`, with [`Carrier::hand_over`].
    ///
    /// # Errors
    /// What the carrier reports, or `Refused` if the policy does not let this go out.
    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError>;

    /// Keeps `mail` until the device it is for releases it, or it expires. The promise is for no longer than
    /// the envelope lives; when that is stands in it ([`Sealed::envelope`]).
    ///
    /// # Errors
    /// `NotHolding` unless the relay holds mail; `Quota`, `TooLarge`, `Expired`, `Refused` for whom or what
    /// it does not hold, `Store`.
    async fn hold(&self, mail: Sealed) -> Result<StoredUntil, RelayError> {
        let _ = mail;
        Err(not_holding(self.name()))
    }

    /// What is held for `device` behind place `after` (0 for all) and has not expired, in order, at most
    /// `max` bytes of envelopes but at least one if there is one.
    ///
    /// # Errors
    /// `NotHolding` unless the relay holds mail; `Store`.
    async fn fetch(&self, device: PeerId, after: u64, max: usize) -> Result<Vec<Held>, RelayError> {
        let _ = (device, after, max);
        Err(not_holding(self.name()))
    }

    /// Forgets envelopes that their device has taken; unknown ones are passed over.
    ///
    /// # Errors
    /// `NotHolding` unless the relay holds mail; `Store`.
    async fn release(&self, ids: &[EnvelopeId]) -> Result<(), RelayError> {
        let _ = ids;
        Err(not_holding(self.name()))
    }
}

fn not_holding(plugin: &'static str) -> RelayError {
    RelayError::new(RelayErrorKind::NotHolding, plugin, "this relay forwards to connected members only")
}
