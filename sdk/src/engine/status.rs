//! Where one message stands, shared between the driver and whoever sent it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use byway_api::MessageId;
use byway_core::io::Refusal;
use byway_core::status::Delivery;
use tokio::sync::Notify;

use super::CommandError;

/// Where a message stands, live. One allocation per message: it answers `send` and tells of every
/// later change.
#[derive(Clone)]
pub(crate) struct MessageStatus(Arc<Cell>);

struct Cell {
    state: Mutex<State>,
    changed: Notify,
    /// A copy of the delivery for reading without the lock.
    delivery: AtomicU8,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The answer to `send`.
    queued: Option<Result<bool, Refusal>>,
    delivery: Delivery,
    stopped: bool,
}

impl fmt::Debug for MessageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

const ALL: [Delivery; 5] =
    [Delivery::Sending, Delivery::Relayed, Delivery::Expired, Delivery::Delivered, Delivery::Read];

impl MessageStatus {
    /// A message that is not queued yet.
    pub(super) fn new() -> Self {
        let state = State { queued: None, delivery: Delivery::Sending, stopped: false };
        Self(Arc::new(Cell { state: Mutex::new(state), changed: Notify::new(), delivery: AtomicU8::new(0) }))
    }

    fn state(&self) -> State {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let place = ALL.iter().position(|d| *d == state.delivery).unwrap_or_default();
        self.0.delivery.store(u8::try_from(place).unwrap_or_default(), Ordering::Release);
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Answers `send`.
    pub(super) fn answer(&self, queued: Result<bool, Refusal>) {
        self.change(|state| state.queued = Some(queued));
    }

    /// Moves on; never back.
    pub(super) fn advance(&self, delivery: Delivery) {
        self.change(|state| state.delivery = state.delivery.max(delivery));
    }

    /// The node stops: nothing will change any more.
    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// True if nobody but the caller looks at it.
    pub(super) fn unwatched(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    async fn when<T>(&self, ready: impl Fn(State) -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = ready(self.state()) {
                return found;
            }
            changed.await;
        }
    }

    /// Waits until the message is durable: whether it was there before.
    pub(super) async fn queued(&self) -> Result<bool, CommandError> {
        self.when(|state| match state.queued {
            Some(answer) => Some(answer.map_err(CommandError::Refused)),
            None if state.stopped => Some(Err(CommandError::Stopped)),
            None => None,
        })
        .await
    }

    /// Where it stands now: the best over the recipient's devices.
    pub(crate) fn now(&self) -> Delivery {
        ALL.get(usize::from(self.0.delivery.load(Ordering::Acquire))).copied().unwrap_or(Delivery::Sending)
    }

    /// Waits until it stands elsewhere than at `seen`. Cancel-safe.
    ///
    /// # Errors
    /// [`CommandError::Stopped`] once the node has stopped and nothing has changed since `seen`.
    pub(crate) async fn changed(&self, seen: Delivery) -> Result<Delivery, CommandError> {
        self.when(|state| match () {
            () if state.delivery != seen => Some(Ok(state.delivery)),
            () if state.stopped => Some(Err(CommandError::Stopped)),
            () => None,
        })
        .await
    }
}

/// The messages that somebody outside watches. A message is forgotten once nothing more can come of it,
/// or nobody looks any more. Who has stopped to look does not say so: they are found when the messages
/// have become twice as many as were left the last time, so that looking for them costs little.
#[derive(Debug, Default)]
pub(super) struct Watched {
    messages: HashMap<MessageId, Watchers>,
    sweep_at: usize,
}

/// So few messages are not worth a sweep.
const FEW: usize = 1_024;

/// Usually there is one.
#[derive(Debug)]
struct Watchers {
    first: MessageStatus,
    more: Vec<MessageStatus>,
}

impl Watchers {
    fn each(&self) -> impl Iterator<Item = &MessageStatus> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Watched {
    pub(super) fn add(&mut self, message: MessageId, status: MessageStatus) {
        if self.messages.len() >= self.sweep_at.max(FEW) {
            self.messages.retain(|_, watchers| !watchers.each().all(MessageStatus::unwatched));
            self.sweep_at = 2 * self.messages.len();
        }
        match self.messages.entry(message) {
            Entry::Occupied(watchers) => {
                let more = &mut watchers.into_mut().more;
                more.retain(|status| !status.unwatched());
                more.push(status);
            }
            Entry::Vacant(place) => {
                place.insert(Watchers { first: status, more: Vec::new() });
            }
        }
    }

    /// A message has moved on.
    pub(super) fn moved(&mut self, message: &MessageId, delivery: Delivery) {
        let Some(watchers) = self.messages.get(message) else { return };
        for status in watchers.each() {
            status.advance(delivery);
        }
        let last = matches!(delivery, Delivery::Read | Delivery::Expired);
        if last || watchers.each().all(MessageStatus::unwatched) {
            self.messages.remove(message);
        }
    }

    /// Nothing more will come.
    pub(super) fn stop(&self) {
        for status in self.messages.values().flat_map(Watchers::each) {
            status.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_status_never_goes_back() {
        let status = MessageStatus::new();
        status.advance(Delivery::Read);
        status.advance(Delivery::Delivered);
        assert_eq!(status.now(), Delivery::Read);
    }

    #[tokio::test]
    async fn a_stopped_node_ends_every_wait() {
        let status = MessageStatus::new();
        let other = status.clone();
        let (queued, ()) = tokio::join!(other.queued(), async { status.stop() });
        assert_eq!(queued, Err(CommandError::Stopped));
        assert_eq!(other.changed(Delivery::Sending).await, Err(CommandError::Stopped));
    }

    #[test]
    fn a_message_is_watched_as_long_as_somebody_looks_and_something_may_come() {
        let (mut watched, id) = (Watched::default(), MessageId::from_bytes([1; 16]));
        let (one, two) = (MessageStatus::new(), MessageStatus::new());
        watched.add(id, one.clone());
        watched.add(id, two.clone());
        drop(one);
        watched.moved(&id, Delivery::Delivered);
        assert_eq!((two.now(), watched.messages.len()), (Delivery::Delivered, 1));
        watched.moved(&id, Delivery::Read);
        assert_eq!((two.now(), watched.messages.len()), (Delivery::Read, 0));
        watched.add(id, MessageStatus::new());
        watched.moved(&id, Delivery::Delivered);
        assert!(watched.messages.is_empty());
    }

    /// Whoever waited for a delivery and then looked away was remembered until the message was read: for
    /// ever, where the recipient's app does not say so.
    #[test]
    fn those_who_have_looked_away_are_not_kept() {
        let mut watched = Watched::default();
        let looking = MessageStatus::new();
        watched.add(MessageId::from_bytes([255; 16]), looking.clone());
        for n in 0..10 * FEW as u128 {
            let (id, status) = (MessageId::from_bytes(n.to_be_bytes()), MessageStatus::new());
            watched.add(id, status.clone());
            watched.moved(&id, Delivery::Delivered);
            drop(status);
        }
        assert!(watched.messages.len() <= FEW, "{} are kept", watched.messages.len());
        watched.moved(&MessageId::from_bytes([255; 16]), Delivery::Delivered);
        assert_eq!(looking.now(), Delivery::Delivered);
    }

    #[tokio::test]
    async fn a_waiter_sees_the_change() {
        let status = MessageStatus::new();
        let other = status.clone();
        let (seen, ()) = tokio::join!(other.changed(Delivery::Sending), async { status.advance(Delivery::Delivered) });
        assert_eq!(seen, Ok(Delivery::Delivered));
    }
}
