//! The app of every node: sends in bursts, takes its messages, reads them and is done with them.

use std::time::Duration;

use bytes::Bytes;
use byway_api::MessageId;
use byway_core::io::{In, InboxItem, InboxKey, SendCommand};

use super::ledger::Sent;
use super::node::Asked;
use super::world::{Do, World};

/// Devices beyond which the number of messages does not grow.
const CROWD: u64 = 50;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// What a message says: its number, again and again.
pub(super) fn body(number: usize, size: usize) -> Bytes {
    (number as u64).to_le_bytes().into_iter().cycle().take(size).collect::<Vec<_>>().into()
}

impl World {
    pub(super) fn app_send(&mut self, place: usize) {
        if self.healed.is_some() || self.nodes[place].quitting {
            return;
        }
        // in a crowd each one says less, so that what is large is the network and not its chat
        let crowd = (self.nodes.len() as u64 / CROWD).max(1);
        let next = self.random.between(2_000 * crowd, 30_000 * crowd);
        self.at_node(place, next, Do::AppSend);
        let to = self.random.index(self.nodes.len());
        if self.nodes[to].user == self.nodes[place].user {
            return;
        }
        let burst = match self.random.between(0, 99) {
            0..=69 => self.random.between(1, 3),
            70..=97 => self.random.between(4, 20),
            _ => self.random.between(100, 400),
        };
        for _ in 0..burst {
            self.send_one(place, to);
        }
    }

    fn send_one(&mut self, place: usize, to: usize) {
        let size = match self.random.between(0, 99) {
            0..=89 => self.random.between(8, 300),
            90..=98 => self.random.between(300, 8_000),
            _ => self.random.between(8_000, 50_000),
        };
        let life = match self.random.between(0, 99) {
            0..=4 => Some(self.random.between(1_000, 60_000)),
            _ => None,
        };
        let size = usize::try_from(size).unwrap_or(8);
        self.send_sized(place, to, size, life);
    }

    /// Sends a message of that size; its number.
    pub(super) fn send_sized(&mut self, place: usize, to: usize, size: usize, life: Option<u64>) -> usize {
        let message = MessageId::from_bytes(self.random.bytes());
        let wall = self.clock(place).wall;
        let expires_at = wall.plus(life.map_or(WEEK, Duration::from_millis));
        let user = self.nodes[to].user.clone();
        let number =
            self.ledger.sent(message, Sent::new(place, user.clone(), size, self.now, expires_at, life.is_some()));
        self.submit(place, message, user.clone(), number, size, expires_at);
        if self.random.chance(10) {
            // the same id again: the first one counts
            self.submit(place, message, user, number, size, expires_at);
        }
        number
    }

    fn submit(
        &mut self,
        place: usize,
        message: MessageId,
        to: byway_api::UserId,
        number: usize,
        size: usize,
        expires_at: byway_api::WallTime,
    ) {
        let op = self.ask_core(place, Asked::Send(message));
        let body = body(number, size);
        self.feed(place, In::Send(Box::new(SendCommand { op, to, message, body, reply_to: None, expires_at })));
    }

    /// The core shows a message.
    pub(super) fn shown(&mut self, place: usize, item: InboxItem) {
        self.check_shown(place, &item);
        let n = &mut self.nodes[place];
        n.inbox.push_back(item);
        if n.inbox.len() > 16 {
            self.violation(place, "showed a message for which the app had no room");
        }
        if !std::mem::replace(&mut self.nodes[place].taking, true) {
            let wait = self.app_wait();
            self.at_node(place, wait, Do::AppTake);
        }
    }

    fn app_wait(&mut self) -> u64 {
        if self.random.chance(20) { self.random.between(500, 3_000) } else { self.random.between(0, 30) }
    }

    pub(super) fn app_take(&mut self, place: usize) {
        let Some(item) = self.nodes[place].inbox.pop_front() else {
            self.nodes[place].taking = false;
            return;
        };
        self.feed(place, In::InboxRoom(1));
        let wait = self.app_wait();
        self.at_node(place, wait, Do::AppTake);
        if self.random.chance(500) {
            let op = self.ask_core(place, Asked::Done);
            self.feed(place, In::Read { op, key: item.key });
        }
        let wait =
            if self.random.chance(100) { self.random.between(1_000, 10_000) } else { self.random.between(0, 50) };
        self.at_node(place, wait, Do::AppDone(item.key));
    }

    pub(super) fn app_done(&mut self, place: usize, key: InboxKey) {
        let op = self.ask_core(place, Asked::Done);
        self.feed(place, In::Done { op, key });
    }
}
