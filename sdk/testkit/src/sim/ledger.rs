//! What was promised about every message, and whether it was kept.

use std::collections::{BTreeMap, BTreeSet};

use byway_api::{MessageId, PeerId, UserId, WallTime};
use byway_core::io::{InboxItem, InboxKey, Refusal};
use byway_core::status::Delivery;

use super::stats::Stats;
use super::world::World;

/// One message of one app.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: usize,
    pub(super) to: UserId,
    size: usize,
    pub(super) sent_at: u64,
    expires_at: WallTime,
    /// It is meant to expire.
    pub(super) short: bool,
    pub(super) accepted_at: Option<u64>,
    refused: bool,
    /// When it first came to a node, read by its core or on its way there.
    pub(super) arrived: BTreeMap<usize, u64>,
    /// Nodes where it is durable.
    pub(super) stored: BTreeSet<usize>,
    /// Nodes whose app has seen it.
    pub(super) shown: BTreeSet<usize>,
    pub(super) delivered: bool,
    pub(super) expired: bool,
}

impl Sent {
    pub(super) const fn new(
        from: usize,
        to: UserId,
        size: usize,
        sent_at: u64,
        expires_at: WallTime,
        short: bool,
    ) -> Self {
        Self {
            from,
            to,
            size,
            sent_at,
            expires_at,
            short,
            accepted_at: None,
            refused: false,
            arrived: BTreeMap::new(),
            stored: BTreeSet::new(),
            shown: BTreeSet::new(),
            delivered: false,
            expired: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) messages: Vec<Sent>,
    numbers: BTreeMap<MessageId, usize>,
    pub(super) ids: Vec<MessageId>,
    /// Accepted, and neither delivered nor expired as far as the sender was told.
    pub(super) open: BTreeSet<usize>,
    /// Durable somewhere and not yet seen by that app.
    pub(super) unseen: BTreeSet<(usize, usize)>,
    /// The newest message of a sender that an app has seen in this process: receiver, sender.
    newest: BTreeMap<(usize, usize), usize>,
    /// What an app has seen in this process.
    seen: BTreeSet<(usize, InboxKey)>,
}

impl Ledger {
    /// A message that an app wants to send; its number.
    pub(super) fn sent(&mut self, id: MessageId, sent: Sent) -> usize {
        let number = self.messages.len();
        self.messages.push(sent);
        self.ids.push(id);
        self.numbers.insert(id, number);
        number
    }

    /// A process has ended.
    pub(super) fn forget_order(&mut self, place: usize) {
        self.newest.retain(|(to, _), _| *to != place);
        self.seen.retain(|(to, _)| *to != place);
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        stats.messages += self.messages.len() as u64;
        let accepted = || self.messages.iter().filter(|m| m.accepted_at.is_some());
        stats.accepted += accepted().count() as u64;
        stats.delivered += accepted().filter(|m| !m.stored.is_empty()).count() as u64;
        stats.expired += accepted().filter(|m| m.stored.is_empty() && m.expired).count() as u64;
    }
}

impl World {
    fn number(&mut self, place: usize, message: &MessageId) -> Option<usize> {
        let number = self.ledger.numbers.get(message).copied();
        if number.is_none() {
            self.violation(place, &format!("message {message:?} was never sent"));
        }
        number
    }

    pub(super) fn queued(&mut self, place: usize, message: &MessageId, existing: bool) {
        let Some(number) = self.number(place, message) else { return };
        let now = self.now;
        let sent = &mut self.ledger.messages[number];
        if existing && sent.accepted_at.is_none() {
            self.violation(place, &format!("message {number} exists already, and was not accepted before"));
        } else if !existing && sent.accepted_at.replace(now).is_some() {
            self.violation(place, &format!("message {number} is accepted twice"));
        } else if !existing && !sent.delivered && !sent.expired {
            self.ledger.open.insert(number);
        }
    }

    pub(super) fn refused(&mut self, place: usize, message: &MessageId, refusal: Refusal) {
        let Some(number) = self.number(place, message) else { return };
        self.ledger.messages[number].refused = true;
        let known = matches!(refusal, Refusal::Store(_) | Refusal::Stopping);
        if !known {
            self.violation(place, &format!("message {number} is refused: {refusal:?}"));
        }
    }

    /// A message has come to a node.
    pub(super) fn arrived_at(&mut self, place: usize, message: &MessageId) {
        let now = self.now;
        if let Some(number) = self.number(place, message) {
            self.ledger.messages[number].arrived.entry(place).or_insert(now);
        }
    }

    /// Whom a message is for.
    pub(super) fn addressee(&self, message: &MessageId) -> Option<UserId> {
        let number = self.ledger.numbers.get(message)?;
        self.ledger.messages.get(*number).map(|m| m.to.clone())
    }

    /// A message is durable at a node.
    pub(super) fn stored_at(&mut self, place: usize, message: &MessageId) {
        let Some(number) = self.number(place, message) else { return };
        let user = &self.nodes[place].user;
        let sent = &mut self.ledger.messages[number];
        if *user != sent.to {
            self.violation(place, &format!("message {number} is stored at somebody else's"));
        } else if !sent.stored.insert(place) {
            self.violation(place, &format!("message {number} is stored twice"));
        } else {
            self.ledger.unseen.insert((number, place));
        }
    }

    /// The sender is told where a message stands.
    pub(super) fn moved(&mut self, place: usize, message: &MessageId, peer: Option<PeerId>, delivery: Delivery) {
        let Some(number) = self.number(place, message) else { return };
        let wall = self.clock(place).wall;
        let at = peer.and_then(|p| self.places.get(&p).copied());
        let sent = &mut self.ledger.messages[number];
        match delivery {
            Delivery::Delivered | Delivery::Read => {
                if !at.is_some_and(|p| sent.stored.contains(&p)) {
                    self.violation(
                        place,
                        &format!("message {number} is shown as delivered to {at:?} and not stored there"),
                    );
                    return;
                }
                if delivery == Delivery::Read && !at.is_some_and(|p| sent.shown.contains(&p)) {
                    self.violation(place, &format!("message {number} is shown as read and was not"));
                    return;
                }
                sent.delivered = true;
                self.ledger.open.remove(&number);
            }
            Delivery::Expired => {
                if wall < sent.expires_at {
                    self.violation(place, &format!("message {number} expired before its time"));
                    return;
                }
                sent.expired = true;
                self.ledger.open.remove(&number);
            }
            _ => {}
        }
    }

    /// An app is shown a message.
    pub(super) fn check_shown(&mut self, place: usize, item: &InboxItem) {
        let Some(number) = self.number(place, &item.message) else { return };
        let sent = &mut self.ledger.messages[number];
        let from = sent.from;
        if item.body != super::app::body(number, sent.size) {
            self.violation(place, &format!("message {number} was altered"));
            return;
        }
        if !sent.stored.contains(&place) {
            self.violation(place, &format!("message {number} is shown and not stored"));
            return;
        }
        sent.shown.insert(place);
        self.ledger.unseen.remove(&(number, place));
        if !self.ledger.seen.insert((place, item.key)) {
            self.violation(place, &format!("message {number} is shown twice by one process"));
            return;
        }
        if item.late {
            return;
        }
        let newest = self.ledger.newest.insert((place, from), number);
        if let Some(newest) = newest.filter(|n| *n >= number) {
            self.violation(place, &format!("message {number} of n{from} is shown after {newest} and not marked late"));
        }
    }
}
