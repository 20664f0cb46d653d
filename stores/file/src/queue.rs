//! A bounded queue from async callers to one thread, in the order in which the callers came.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

/// The queue has ended.
#[derive(Debug)]
pub struct Ended;

/// Why [`Queue::take`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// At least one item.
    Some,
    /// None until the deadline.
    Timeout,
    /// None, and none will come.
    Ended,
}

/// A bounded queue with one consumer, which may block.
pub struct Queue<T> {
    /// Held while waiting for room. It is fair, so that a full queue keeps the order of the calls.
    order: tokio::sync::Mutex<()>,
    room: Semaphore,
    bound: usize,
    waiting: Mutex<Waiting<T>>,
    arrival: Condvar,
}

struct Waiting<T> {
    items: VecDeque<T>,
    weight: usize,
    ended: bool,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    /// A queue that holds items of `bound` weight in all; a heavier item fits alone.
    pub fn new(bound: usize) -> Self {
        let bound = bound.clamp(1, u32::MAX as usize >> 3);
        Self {
            order: tokio::sync::Mutex::new(()),
            room: Semaphore::new(bound),
            bound,
            waiting: Mutex::new(Waiting { items: VecDeque::new(), weight: 0, ended: false }),
            arrival: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, waiting for room. Dropping the future appends nothing.
    ///
    /// # Errors
    /// [`Ended`]; the item is dropped then.
    pub async fn push(&self, item: T, weight: usize) -> Result<(), Ended> {
        let weight = weight.min(self.bound);
        let turn = self.order.lock().await;
        let permits = u32::try_from(weight).unwrap_or(u32::MAX);
        self.room.acquire_many(permits).await.map_err(|_| Ended)?.forget();
        let mut waiting = self.lock();
        if waiting.ended {
            return Err(Ended);
        }
        waiting.items.push_back(item);
        waiting.weight += weight;
        drop(waiting);
        drop(turn);
        self.arrival.notify_one();
        Ok(())
    }

    /// Moves everything that waits to `into`, waiting for the first until `deadline`. Blocks.
    pub fn take(&self, into: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        let mut waiting = self.lock();
        while waiting.items.is_empty() {
            if waiting.ended {
                return Taken::Ended;
            }
            waiting = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => self.arrival.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Taken::Timeout,
                Some(left) => self.arrival.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        into.extend(waiting.items.drain(..));
        let weight = std::mem::take(&mut waiting.weight);
        drop(waiting);
        self.room.add_permits(weight);
        Taken::Some
    }

    /// Nothing is accepted any more; what waits is still taken.
    pub fn end(&self) {
        self.room.close();
        self.lock().ended = true;
        self.arrival.notify_one();
    }

    /// Ends the queue and drops what waits: its consumer is gone.
    pub fn abandon(&self) {
        self.end();
        let left = std::mem::take(&mut self.lock().items);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_queue_keeps_the_order_of_the_calls() {
        let queue = Queue::new(2);
        let mut taken = Vec::new();
        let (mut a, mut b, mut c) = (pin!(queue.push('a', 2)), pin!(queue.push('b', 2)), pin!(queue.push('c', 1)));
        assert!(poll(a.as_mut()).is_ready());
        assert!(poll(b.as_mut()).is_pending());
        assert!(poll(c.as_mut()).is_pending());
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert!(poll(c.as_mut()).is_pending(), "there is room for it, and it is not its turn");
        assert!(poll(b.as_mut()).is_ready());
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert!(poll(c.as_mut()).is_ready());
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert_eq!(taken, ['a', 'b', 'c']);
    }

    #[test]
    fn a_dropped_push_leaves_room_and_turn_to_the_others() {
        let queue = Queue::new(1);
        let mut taken = Vec::new();
        assert!(poll(pin!(queue.push(1, 1))).is_ready());
        {
            let mut waits = pin!(queue.push(2, 1));
            assert!(poll(waits.as_mut()).is_pending());
        }
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert!(poll(pin!(queue.push(3, 1))).is_ready());
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert_eq!(taken, [1, 3]);
    }

    #[test]
    fn an_ended_queue_gives_what_waits_and_takes_nothing() {
        let queue = Queue::new(1);
        let mut taken = Vec::new();
        assert!(poll(pin!(queue.push(1, 1))).is_ready());
        let mut waits = pin!(queue.push(2, 1));
        assert!(poll(waits.as_mut()).is_pending());
        queue.end();
        assert!(matches!(poll(waits.as_mut()), Poll::Ready(Err(Ended))));
        assert_eq!(queue.take(&mut taken, None), Taken::Some);
        assert_eq!(queue.take(&mut taken, None), Taken::Ended);
        assert_eq!(taken, [1]);
    }

    #[test]
    fn an_item_heavier_than_the_queue_fits_alone() {
        let queue = Queue::new(4);
        assert!(poll(pin!(queue.push(1, 100))).is_ready());
        assert!(poll(pin!(queue.push(2, 1))).is_pending());
        let deadline = Some(Instant::now());
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, deadline), Taken::Some);
        assert_eq!(queue.take(&mut taken, deadline), Taken::Timeout);
    }
}
