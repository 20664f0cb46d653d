//! Where an outgoing message stands.

use byway_api::PeerId;

/// Where an outgoing message stands. Later is better; a message shows the best over the recipient's
/// devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Delivery {
    /// Durable here, on its way or waiting.
    Sending,
    /// A neighbour has passed it on towards a device of the recipient; the recipient has not answered.
    Relayed,
    /// Given up at its expiry.
    Expired,
    /// On a device of the recipient, durably.
    Delivered,
    /// Read by the recipient.
    Read,
}

/// One device's part in a message's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDelivery {
    /// The device; `None` while the recipient has no known one.
    pub peer: Option<PeerId>,
    /// Where it stands there.
    pub delivery: Delivery,
    /// The neighbour that has passed it on, if it came this way.
    pub via: Option<PeerId>,
}
