//! What happens, as hints.

use std::time::Duration;

use byway_api::{CloseCode, MessageId, PeerId, StoreErrorKind, UserId};
use byway_core::io;
use byway_core::status::Delivery;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::engine::Lifeline;

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An outgoing message has moved on.
    Delivery {
        /// The message.
        message: MessageId,
        /// To whom.
        user: UserId,
        /// To which device, if that is decided.
        peer: Option<PeerId>,
        /// Where it stands there.
        delivery: Delivery,
        /// The member that has passed it on, if it is [`Delivery::Relayed`].
        via: Option<UserId>,
    },
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
    /// A conversation that went through other members has a connection of its own now.
    Upgraded {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// Over which transport.
        transport: &'static str,
    },
    /// A conversation goes through other members; a connection of its own could not be made now.
    UpgradeFailed {
        /// The device.
        peer: PeerId,
        /// Its user.
        user: UserId,
        /// It is tried again after this, or sooner if something new is learnt of the device.
        next_try: Duration,
    },
    /// A search ended without a connection; `explain` tells why.
    Unreachable {
        /// The user.
        user: UserId,
    },
    /// Another device claims to be a user that is known by a different one, and gets nothing. If the
    /// user has reinstalled, [`Node::trust`](crate::Node::trust) admits it.
    IdentityConflict {
        /// The user.
        user: UserId,
        /// The newcomer.
        newcomer: PeerId,
    },
    /// Another process runs with the key of this device: somebody has copied the key file.
    IdentityInUse {
        /// The device.
        peer: PeerId,
    },
    /// Our own network is down; the roster is frozen.
    LocalFault,
    /// The store failed; messages stay where they are.
    StoreFailed(StoreErrorKind),
    /// This listener was too slow and has missed events: read [`Node::members`](crate::Node::members).
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// Listens to events. They are hints and may be missed; the truth is in the member list and in the
/// status of each message.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<io::Event>,
    lifeline: Lifeline,
}

impl Events {
    pub(crate) const fn new(receiver: Receiver<io::Event>, lifeline: Lifeline) -> Self {
        Self { receiver, lifeline }
    }

    /// The next event; `None` once the node has stopped.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.lifeline.ended() => return None,
            };
            let event = match received {
                Ok(event) => event,
                Err(RecvError::Lagged(missed)) => return Some(Event::Lagged { missed }),
                Err(RecvError::Closed) => return None,
            };
            return Some(match event {
                io::Event::Delivery { message, user, peer, delivery, via } => {
                    Event::Delivery { message, user, peer, delivery, via }
                }
                io::Event::Upgraded { peer, user, transport } => Event::Upgraded { peer, user, transport },
                io::Event::UpgradeFailed { peer, user, next_try } => Event::UpgradeFailed { peer, user, next_try },
                io::Event::Connected { peer, user, transport } => Event::Connected { peer, user, transport },
                io::Event::Disconnected { peer, user, code } => Event::Disconnected { peer, user, code },
                io::Event::Unreachable { user } => Event::Unreachable { user },
                io::Event::IdentityConflict { user, newcomer } => Event::IdentityConflict { user, newcomer },
                io::Event::IdentityInUse { peer } => Event::IdentityInUse { peer },
                io::Event::LocalFault => Event::LocalFault,
                io::Event::StoreFailed(kind) => Event::StoreFailed(kind),
                // The inbox and the member list tell of these.
                _ => continue,
            });
        }
    }
}
