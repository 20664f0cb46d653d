//! Messages that a neighbour passes on.

use byway_api::{MessageId, OutboxState, PeerId, UserId};

use super::Outbox;

impl Outbox {
    /// A neighbour has passed a message on: its user, if that is news.
    pub fn relayed(&mut self, peer: &PeerId, id: &MessageId, via: PeerId) -> Option<UserId> {
        let message = self.messages.get_mut(id)?;
        let row = message.rows.iter_mut().find(|r| r.peer.as_ref() == Some(peer))?;
        if row.state != OutboxState::Queued || row.via.replace(via) == Some(via) {
            return None;
        }
        Some(message.user.clone())
    }

    /// Whether a message is durable and not acknowledged by a device.
    pub fn is_open(&self, peer: &PeerId, id: &MessageId) -> bool {
        let rows = self.messages.get(id).map_or(&[][..], |m| &m.rows);
        rows.iter().any(|r| r.peer.as_ref() == Some(peer) && r.state == OutboxState::Queued)
    }
}
