//! Which network a node joins, and who judges its members.

use std::sync::Arc;

use byway_api::Membership;

/// The network that a node joins: its name, and what proves that a device is a member's.
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) name: String,
    pub(crate) rule: Rule,
}

/// Who is a member.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Anyone who knows the name.
    Open,
    /// Whoever the app's own membership accepts.
    Own {
        /// Judges credentials.
        membership: Arc<dyn Membership>,
        /// Ours.
        credential: String,
    },
}

impl Network {
    /// An open network: anyone who knows the name may join as anyone. For quick starts and for groups
    /// that trust everybody who can reach them.
    ///
    /// The first device seen for a user is remembered as that user's; another one that claims the same
    /// name gets nothing until [`Node::trust`](crate::Node::trust) says so. Members are shown as
    /// [`Trust::Unverified`](byway_api::Trust::Unverified).
    ///
    /// The name has 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`; `spawn` reports another one.
    pub fn open(name: impl Into<String>) -> Self {
        Self { name: name.into(), rule: Rule::Open }
    }

    /// A network whose members are judged by `membership`; `credential` proves that this device is
    /// its user's. [`Node::renew_credential`](crate::Node::renew_credential) replaces it before it
    /// ends.
    pub fn with_membership(
        name: impl Into<String>,
        membership: impl Membership,
        credential: impl Into<String>,
    ) -> Self {
        let rule = Rule::Own { membership: Arc::new(membership), credential: credential.into() };
        Self { name: name.into(), rule }
    }
}
