use byway_api::{IdError, MembershipError, MembershipErrorKind, PeerId};
use thiserror::Error;

/// Why bytes were refused. `what` names the object, such as `"record"`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// More than [`limits`](crate::limits) allow.
    #[error("{what}: {got} is more than {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        max: usize,
        /// What was there.
        got: usize,
    },
    /// Not of the expected form.
    #[error("{what} is malformed: {detail}")]
    Malformed {
        /// What is malformed.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// The signature is not valid.
    #[error("{what}: the signature is not valid")]
    BadSignature {
        /// What was signed.
        what: &'static str,
    },
    /// Its time has passed.
    #[error("{what} has expired")]
    Expired {
        /// What has expired.
        what: &'static str,
    },
    /// Its time is too far in the future: check the clocks.
    #[error("{what} is from the future; check the clocks")]
    NotYetValid {
        /// What it is.
        what: &'static str,
    },
    /// For another network.
    #[error("for another network")]
    WrongNetwork,
    /// For another device.
    #[error("for another device")]
    WrongRecipient,
    /// Two parts that must agree do not, such as a content's user and its sender's credential.
    #[error("{what} does not match")]
    Mismatch {
        /// What does not match.
        what: &'static str,
    },
    /// Sealed to a key that we do not have (any more).
    #[error("sealed to a key that we do not have")]
    UnknownKey,
    /// HPKE could not open it.
    #[error("could not be decrypted")]
    Undecryptable,
    /// Signed by a device whose record is neither inside nor known. With its record it can be opened.
    #[error("no record of the sender {peer:?}")]
    UnknownSender {
        /// The sender.
        peer: PeerId,
    },
    /// A version or suite of which we know nothing.
    #[error("{what}: version {got} is not supported")]
    Version {
        /// What has the version.
        what: &'static str,
        /// The version.
        got: u32,
    },
    /// The credential proves nothing.
    #[error("credential refused: {detail}")]
    Credential {
        /// Why.
        kind: MembershipErrorKind,
        /// Why, for people.
        detail: String,
    },
    /// A proof over another nonce than the server's: prove again with the right one.
    #[error("the proof is over another nonce")]
    WrongNonce,
    /// A proof for another method or target.
    #[error("the proof is for another request")]
    WrongTarget,
}

impl WireError {
    pub(crate) fn malformed(what: &'static str, detail: impl ToString) -> Self {
        Self::Malformed { what, detail: detail.to_string() }
    }

    pub(crate) fn id(what: &'static str) -> impl Fn(IdError) -> Self {
        move |e| Self::malformed(what, e)
    }
}

impl From<MembershipError> for WireError {
    fn from(e: MembershipError) -> Self {
        Self::Credential { kind: e.kind(), detail: e.to_string() }
    }
}

/// Refuses `got` above `max`.
pub(crate) const fn at_most(what: &'static str, max: usize, got: usize) -> Result<(), WireError> {
    if got > max { Err(WireError::TooLarge { what, max, got }) } else { Ok(()) }
}
