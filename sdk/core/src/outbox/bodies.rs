//! Bodies that are not in memory and have to be read from the store.

use bytes::Bytes;
use byway_api::{MessageId, PeerId};

use super::Outbox;
use crate::machine::Tick;

impl Outbox {
    /// Of the next `n` messages for a device, those whose bodies are not in memory.
    pub fn missing(&self, peer: &PeerId, n: usize) -> Vec<MessageId> {
        let open = self.lanes.get(peer).into_iter().flat_map(|l| l.open.range(l.cursor..)).take(n).map(|(_, id)| *id);
        open.filter(|id| self.messages.get(id).is_some_and(|m| m.body.is_none())).collect()
    }

    /// A body that was asked for by [`Next::Fetch`](super::Next::Fetch). Without one the message cannot be sent.
    pub fn fetched(&mut self, id: &MessageId, body: Option<Bytes>) {
        if let Some(message) = self.messages.get_mut(id)
            && let Some(body) = body
        {
            self.held += body.len();
            message.body = Some(body);
        }
    }

    /// A body could not be read now: the lanes that wait for it start over like one that is not answered.
    pub fn unread(&mut self, id: &MessageId, now: Tick) {
        let peers = self.messages.get(id).into_iter().flat_map(|m| m.rows.iter().filter_map(|r| r.peer));
        for peer in peers {
            if let Some(lane) = self.lanes.get_mut(&peer) {
                lane.written_at.get_or_insert(now);
            }
        }
    }
}
