use std::time::Duration;

use byway_api::{CloseCode, MessageId, PeerId, StoreErrorKind, UserId};

use super::InboxItem;
use crate::status::Delivery;

/// What the app is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived. Uses one slot of [`In::InboxRoom`](crate::io::In::InboxRoom).
    Message(Box<InboxItem>),
    /// A message has moved on.
    Delivery {
        /// The message.
        message: MessageId,
        /// To whom.
        user: UserId,
        /// To which device, if bound.
        peer: Option<PeerId>,
        /// Where it stands.
        delivery: Delivery,
        /// Through whom it goes, if it is [`Delivery::Relayed`].
        via: Option<UserId>,
    },
    /// The roster has changed: read [`crate::NodeCore::roster`].
    RosterChanged,
    /// A device is connected.
    Connected {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// Over which transport.
        transport: &'static str,
    },
    /// A device is not connected any more.
    Disconnected {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// Why.
        code: CloseCode,
    },
    /// A conversation that went through neighbours has a connection of its own.
    Upgraded {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// Over which transport.
        transport: &'static str,
    },
    /// A conversation goes through neighbours, and a connection of its own could not be made now.
    UpgradeFailed {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// It is tried again after this, or at once on new evidence.
        next_try: Duration,
    },
    /// A lookup ended without a connection.
    Unreachable {
        /// The user.
        user: UserId,
    },
    /// Another device claims to be a user that is pinned to a different one. Nothing is sent to it.
    IdentityConflict {
        /// The user.
        user: UserId,
        /// The newcomer.
        newcomer: PeerId,
    },
    /// Another process runs with our own or a peer's key.
    IdentityInUse {
        /// The device.
        peer: PeerId,
    },
    /// Our own network is down; the roster is frozen.
    LocalFault,
    /// The store failed; messages stay where they are.
    StoreFailed(StoreErrorKind),
}
