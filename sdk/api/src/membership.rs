use std::fmt;

use crate::{MembershipError, PeerId, UserId, WallTime};

/// How sure we are that a device belongs to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trust {
    /// Vouched for by the network's issuer.
    Issued,
    /// Self-signed; the first device seen for a user is pinned.
    Unverified,
}

/// What a credential proves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// The device the credential is bound to.
    pub peer: PeerId,
    /// How sure that is.
    pub trust: Trust,
    /// What the member may do: `member`, `relay`, `coordinator`, `admin`.
    pub roles: Vec<String>,
    /// In open networks: the device of the same user that signed this credential, if not `peer` itself.
    pub authorized_by: Option<PeerId>,
    /// When the credential ends.
    pub expires_at: WallTime,
}

impl Member {
    /// A member with the default roles, member and relay.
    pub fn new(user: UserId, peer: PeerId, trust: Trust, expires_at: WallTime) -> Self {
        let roles = vec!["member".to_owned(), "relay".to_owned()];
        Self { user, peer, trust, roles, authorized_by: None, expires_at }
    }
}

/// Says what a credential proves about a device.
///
/// # Behavior
/// * `verify` answers only from its arguments and configuration: the same input, the same answer.
/// * It accepts a credential only for the device `key`, for its own network, inside its validity, give or
///   take what two clocks may differ: 300 s on both ends (`sdk/docs/protocol.md`, section 1).
/// * One credential has one text: with any bit flipped, or with anything before or behind it, it is refused.
///   Base64 with spare bits or padding, or hexadecimal in both cases, has several.
/// * A refusal is short, whatever it was given.
/// * It never blocks and does no IO; it runs on every Hello and every record.
///
/// # Cancellation
/// The method is synchronous.
///
/// # Shutdown
/// Nothing to release.
///
/// # Notes to implementers
/// Whether a self-signed user already belongs to another device (first use pins) is the node's
/// decision, not yours: report `authorized_by` and let the node compare.
pub trait Membership: fmt::Debug + Send + Sync + 'static {
    /// What `credential` proves about the device `key` at `now`.
    ///
    /// # Errors
    /// [`MembershipError`] with the reason why it proves nothing.
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError>;
}
