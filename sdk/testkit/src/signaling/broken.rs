//! Carriers that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

#![expect(clippy::disallowed_methods, reason = "a task that nobody ends is what is broken here")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{
    Carried, Meter, PeerId, Sealed, SignalAddress, SignalContext, SignalError, SignalErrorKind, Signaling, StepError,
    async_trait,
};
use byway_wire::limits::ENVELOPE_MAX;

use super::world::{Limits, SignalFixture, SignalWorld};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Has two names.
    ChangesItsName,
    /// `attach` waits for a connection.
    WaitsToAttach,
    /// The 20th envelope arrives twice.
    Repeats,
    /// The way back leads to the receiver itself.
    AnswersItself,
    /// Its own addresses are those of another plugin.
    ForeignAddresses,
    /// Says that it serves every address.
    ServesAll,
    /// What it does not serve is `Unreachable`.
    MisnamesBadAddress,
    /// Says that an envelope was taken for a device that is not there.
    Swallows,
    /// Keeps what is for a device that is not there, and sends it later.
    Stores,
    /// `recv` loses an envelope if it is dropped in the wrong moment.
    LosesWhenCancelled,
    /// A dropped send blocks all later ones.
    SticksWhenDropped,
    /// Cuts long envelopes.
    CutsLong,
    /// Says that an envelope was taken that is too long.
    TakesTooLong,
    /// Keeps without bound what there is no room for.
    Hoards,
    /// Stays down after an outage.
    StaysDown,
    /// A change of network is the end.
    DiesOfAChange,
    /// Asks the meter for its first call only.
    PaysOnce,
    /// Asks the meter, and does not heed a refusal.
    IgnoresRefusals,
    /// A second close hangs.
    ClosesOnce,
    /// `close` leaves a waiting `recv` waiting.
    LeavesReadersWaiting,
    /// `recv` waits after `close`.
    WaitsAfterClose,
    /// Says after `close` that an envelope was taken.
    SendsAfterClose,
    /// `attach` starts a task that nobody ends.
    LeavesATask,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::ChangesItsName, &["the_name_is_constant"]),
        (Self::WaitsToAttach, &["attach_does_not_wait"]),
        (Self::Repeats, &["envelopes_arrive_whole_and_once"]),
        (Self::AnswersItself, &["the_way_back_leads_to_the_sender"]),
        (Self::ForeignAddresses, &["own_addresses_lead_here"]),
        (Self::ServesAll, &["serves_agrees_with_send"]),
        (Self::MisnamesBadAddress, &["serves_agrees_with_send"]),
        (Self::Swallows, &["a_device_that_is_not_there_is_no_such_peer"]),
        (Self::Stores, &["nothing_is_stored"]),
        (Self::LosesWhenCancelled, &["recv_is_cancel_safe"]),
        (Self::SticksWhenDropped, &["a_dropped_send_does_no_harm"]),
        (Self::CutsLong, &["the_longest_envelope_arrives"]),
        (Self::TakesTooLong, &["a_longer_envelope_is_refused"]),
        (Self::Hoards, &["a_flood_is_refused_with_busy"]),
        (Self::StaysDown, &["it_reconnects_by_itself"]),
        (Self::DiesOfAChange, &["a_network_change_does_no_harm"]),
        (Self::PaysOnce, &["every_call_is_paid_for"]),
        (Self::IgnoresRefusals, &["an_empty_meter_stops_every_call"]),
        (Self::ClosesOnce, &["close_is_idempotent"]),
        (Self::LeavesReadersWaiting, &["close_ends_a_waiting_recv"]),
        (Self::WaitsAfterClose, &["after_close_nothing_is_received"]),
        (Self::SendsAfterClose, &["after_close_nothing_is_sent"]),
        (Self::LeavesATask, &["close_leaves_nothing"]),
    ];
}

/// A fixture whose carriers have one [`Fault`].
#[derive(Debug)]
pub struct BrokenFixture<F> {
    inner: F,
    fault: Fault,
}

impl<F> BrokenFixture<F> {
    /// Breaks the carriers of a sound fixture.
    pub const fn new(inner: F, fault: Fault) -> Self {
        Self { inner, fault }
    }
}

#[async_trait]
impl<F: SignalFixture> SignalFixture for BrokenFixture<F> {
    async fn world(&self) -> Box<dyn SignalWorld> {
        Box::new(BrokenWorld { inner: self.inner.world().await, fault: self.fault })
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

struct BrokenWorld {
    inner: Box<dyn SignalWorld>,
    fault: Fault,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SignalWorld for BrokenWorld {
    async fn carrier(&self, n: usize) -> Arc<dyn Signaling> {
        Arc::new(BrokenCarrier::new(self.inner.carrier(n).await, self.fault))
    }

    fn address(&self, peer: PeerId) -> SignalAddress {
        self.inner.address(peer)
    }

    fn attached(&self, peer: PeerId) -> Option<bool> {
        self.inner.attached(peer)
    }

    fn calls(&self) -> Option<u64> {
        self.inner.calls()
    }

    async fn cut(&self) -> bool {
        self.inner.cut().await
    }

    async fn restore(&self) {
        self.inner.restore().await;
    }
}

/// A carrier with one [`Fault`].
#[derive(Debug)]
pub struct BrokenCarrier {
    inner: Arc<dyn Signaling>,
    fault: Fault,
    me: Mutex<Option<PeerId>>,
    named: AtomicU64,
    received: AtomicU64,
    kept: Mutex<VecDeque<(SignalAddress, Sealed)>>,
    again: Mutex<Option<Carried>>,
    worked: AtomicBool,
    dead: AtomicBool,
    stuck: AtomicBool,
    closed: AtomicBool,
}

impl BrokenCarrier {
    /// Breaks a sound carrier.
    pub fn new(inner: Arc<dyn Signaling>, fault: Fault) -> Self {
        Self {
            inner,
            fault,
            me: Mutex::default(),
            named: AtomicU64::new(0),
            received: AtomicU64::new(0),
            kept: Mutex::default(),
            again: Mutex::default(),
            worked: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    async fn deliver(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        let waiting = std::mem::take(&mut *lock(&self.kept));
        for (at, mail) in waiting {
            if let Err(e) = self.inner.send(&at, mail.clone()).await
                && e.kind() == SignalErrorKind::NoSuchPeer
            {
                lock(&self.kept).push_back((at, mail));
            }
        }
        self.inner.send(at, mail).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Signaling for BrokenCarrier {
    fn name(&self) -> &'static str {
        match self.fault {
            Fault::ChangesItsName if self.named.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => "another",
            _ => self.inner.name(),
        }
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        /// Longer than anything that is prompt; the other promises have the patience.
        const CONNECTING: Duration = Duration::from_secs(5);
        *lock(&self.me) = Some(cx.me);
        let free: Arc<dyn Meter> = match self.fault {
            Fault::PaysOnce => Arc::new(Once { inner: Arc::clone(&cx.meter), paid: AtomicBool::new(false) }),
            Fault::IgnoresRefusals => Arc::new(Heedless(Arc::clone(&cx.meter))),
            _ => Arc::clone(&cx.meter),
        };
        let cx = SignalContext::new(cx.me, cx.network, cx.prover, free);
        match self.fault {
            Fault::WaitsToAttach => tokio::time::sleep(CONNECTING).await,
            Fault::LeavesATask => drop(tokio::spawn(std::future::pending::<()>())),
            _ => {}
        }
        self.inner.attach(cx).await
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        self.fault == Fault::ServesAll || self.inner.serves(at)
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        match (self.fault, *lock(&self.me)) {
            (Fault::ForeignAddresses, Some(me)) => vec![SignalAddress::through(me)],
            _ => self.inner.addresses(),
        }
    }

    async fn send(&self, at: &SignalAddress, mut mail: Sealed) -> Result<(), SignalError> {
        use SignalErrorKind::{BadAddress, Busy, NoSuchPeer, Unreachable};
        let down = || SignalError::new(Unreachable, "broken", "and for good");
        if self.dead.load(Ordering::Relaxed) {
            return Err(down());
        }
        if self.fault == Fault::SendsAfterClose && self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.fault == Fault::TakesTooLong && mail.envelope.len() > ENVELOPE_MAX {
            return Ok(());
        }
        if self.fault == Fault::CutsLong && mail.envelope.len() == ENVELOPE_MAX {
            mail.envelope.truncate(ENVELOPE_MAX - 1);
        }
        if self.fault == Fault::SticksWhenDropped {
            if self.stuck.swap(true, Ordering::Relaxed) {
                return Err(SignalError::new(Busy, "broken", "a send is under way"));
            }
            tokio::task::yield_now().await;
            self.stuck.store(false, Ordering::Relaxed);
        }
        let copy = mail.clone();
        let sent = match self.fault {
            Fault::Stores => self.deliver(at, mail).await,
            _ => self.inner.send(at, mail).await,
        };
        let failure = sent.as_ref().err().map(SignalError::kind);
        match (self.fault, failure) {
            (Fault::MisnamesBadAddress, Some(BadAddress)) => Err(down()),
            (Fault::Swallows, Some(NoSuchPeer)) => Ok(()),
            (Fault::Stores, Some(NoSuchPeer)) => {
                lock(&self.kept).push_back((at.clone(), copy));
                sent
            }
            (Fault::Hoards, Some(Busy)) => {
                lock(&self.kept).push_back((at.clone(), copy));
                Ok(())
            }
            (Fault::StaysDown, None) => {
                self.worked.store(true, Ordering::Relaxed);
                sent
            }
            (Fault::StaysDown, Some(Unreachable)) if self.worked.load(Ordering::Relaxed) => {
                self.dead.store(true, Ordering::Relaxed);
                sent
            }
            _ => sent,
        }
    }

    async fn recv(&self) -> Option<Carried> {
        if let Some(again) = lock(&self.again).take() {
            return Some(again);
        }
        if self.fault == Fault::WaitsAfterClose && self.closed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let carried = self.inner.recv().await;
        if self.fault == Fault::LeavesReadersWaiting && carried.is_none() && !self.closed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut carried = carried?;
        let number = self.received.fetch_add(1, Ordering::Relaxed) + 1;
        match self.fault {
            Fault::Repeats if number == 20 => *lock(&self.again) = Some(carried.clone()),
            Fault::AnswersItself => carried.back = SignalAddress::through(carried.mail.to),
            Fault::LosesWhenCancelled => tokio::task::yield_now().await,
            _ => {}
        }
        Some(carried)
    }

    async fn network_changed(&self) {
        if self.fault == Fault::DiesOfAChange {
            self.dead.store(true, Ordering::Relaxed);
        }
        self.inner.network_changed().await;
    }

    async fn close(&self) {
        if self.fault == Fault::ClosesOnce && self.closed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.close().await;
        // a reader that waited has seen the end before
        tokio::task::yield_now().await;
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Asks only once.
#[derive(Debug)]
struct Once {
    inner: Arc<dyn Meter>,
    paid: AtomicBool,
}

impl Meter for Once {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        if self.paid.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.spend(what)?;
        self.paid.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Asks, and goes on whatever the answer.
#[derive(Debug)]
struct Heedless(Arc<dyn Meter>);

impl Meter for Heedless {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        let _refusal = self.0.spend(what);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
