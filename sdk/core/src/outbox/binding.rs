//! Messages to a user without a known device, and the first devices that become known.

use byway_api::{MessageId, OutboxRow, OutboxState, PeerId, UserId, Write};

use super::Outbox;
use super::rows::Row;
use crate::machine::Now;
use crate::rng::Rng;
use crate::tuning::Tuning;

impl Outbox {
    /// Whether a user has messages without a device.
    pub fn is_unbound(&self, user: &UserId) -> bool {
        self.unbound.contains_key(user)
    }

    /// Binds what waits for a user to its devices: the batches to store, one per message.
    pub(crate) fn bind(
        &mut self,
        now: Now,
        rng: &mut Rng,
        tuning: &Tuning,
        user: &UserId,
        devices: &[PeerId],
    ) -> Vec<(MessageId, Vec<Write>)> {
        if devices.is_empty() {
            return Vec::new();
        }
        let waiting = self.unbound.remove(user).unwrap_or_default();
        let mut batches = Vec::new();
        for (_, id) in waiting {
            let Some(message) = self.messages.get_mut(&id) else { continue };
            let mut batch = Vec::new();
            let mut rows = Vec::new();
            message.rows.clear();
            for peer in devices {
                let numbered = Self::number(&mut self.lanes, rng, *peer, &mut batch);
                rows.push(OutboxRow {
                    message: id,
                    to_user: user.clone(),
                    to_peer: Some(*peer),
                    epoch: numbered.epoch,
                    seq: numbered.seq,
                    content: None,
                    size: message.size,
                    reply_to: message.reply_to,
                    queued_at: message.queued_at,
                    expires_at: message.expires_at,
                    retry_count: 0,
                    next_try: now.wall.plus(tuning.retry),
                    state: OutboxState::Queued,
                });
                message.rows.push(numbered);
            }
            batch.push(Write::Bind { message: id, rows });
            batches.push((id, batch));
        }
        batches
    }

    /// A binding is durable: the devices whose lanes the message entered.
    pub fn bound(&mut self, id: &MessageId) -> Vec<PeerId> {
        let Some(message) = self.messages.get(id) else { return Vec::new() };
        let mut peers = Vec::new();
        for row in message.rows.iter().filter(|r| r.state == OutboxState::Queued) {
            if let Some(peer) = row.peer {
                self.lanes.entry(peer).or_default().enter(row, *id);
                peers.push(peer);
            }
        }
        peers
    }

    /// A binding could not be stored: the message waits without a device again.
    pub fn not_bound(&mut self, id: &MessageId) {
        if let Some(message) = self.messages.get_mut(id) {
            message.rows.clear();
            message.rows.push(Row::UNBOUND);
            self.unbound.entry(message.user.clone()).or_default().insert((message.queued_at, *id));
        }
    }
}
