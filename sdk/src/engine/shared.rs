//! What the driver, the tasks and the handles share.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use byway_api::{Neighbour, PeerId, Relay, RouteStore, Sealed, SignalAddress, StoreError};
use byway_core::OpId;
use byway_core::io::{AskError, Event, FoundRoute, OpenedLetter, RouteSource};
use byway_wire::RelayStatus;
use byway_wire::VerifiedRecord;
use byway_wire::WireError;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use super::handshake::Established;
use super::identity::Identity;
use super::ids::MessageIds;
use super::meter::CallMeter;
use super::records::RecordCache;
use super::runtime::Runtime;
use super::settings::Settings;
use crate::members::Roster;

/// Shared state of one node.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) identity: Arc<Identity>,
    pub(super) runtime: Runtime,
    pub(super) settings: Settings,
    pub(super) store: Arc<dyn RouteStore>,
    pub(super) relay: Arc<dyn Relay>,
    pub(super) meter: Arc<CallMeter>,
    pub(super) ids: MessageIds,
    pub(super) records: RecordCache,
    pub(super) roster: watch::Sender<Arc<Roster>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) neighbours: Neighbours,
    pub(super) counters: Counters,
    /// Into the driver, for everything that is no app command and no frame.
    pub(super) notices: mpsc::Sender<Notice>,
}

impl Shared {
    /// Verifies a record, or finds that it was verified before.
    pub(super) fn verify(&self, bytes: &Bytes) -> Result<VerifiedRecord, WireError> {
        let now = self.runtime.now().wall;
        if let Some(known) = self.records.get(bytes, now) {
            return Ok(known);
        }
        let record = VerifiedRecord::verify(bytes, self.identity.network(), self.identity.membership(), now)?;
        self.records.put(&record);
        Ok(record)
    }

    /// Turns a plugin's claim into a route for the core: its record must be valid and of its device.
    pub(super) fn route(&self, claim: byway_api::Route, source: RouteSource) -> Result<FoundRoute, WireError> {
        let record = match &claim.record {
            Some(bytes) => Some(self.verify(bytes)?),
            None => None,
        };
        if record.as_ref().is_some_and(|record| record.peer() != claim.peer) {
            return Err(WireError::Mismatch { what: "the device of a route and of its record" });
        }
        let now = self.runtime.now().wall;
        let last_seen = claim.last_seen.map(|at| byway_wire::limits::clamp_time(at, now));
        Ok(FoundRoute { peer: claim.peer, address: claim.address, record, last_seen, source })
    }

    /// Tells the driver; waits for room. Nothing happens once the driver has ended.
    pub(super) async fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice).await;
    }

    /// Asks the driver; `None` when it has ended or does not answer in time.
    pub(super) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Notice) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.notify(make(reply)).await;
        super::runtime::timeout(self.settings.answer_wait, answer).await?.ok()
    }
}

/// What plugins' tasks tell or ask the driver.
#[derive(Debug)]
pub(super) enum Notice {
    /// A running step found a route.
    Found { op: OpId, route: FoundRoute },
    /// A member was seen.
    Sighting(FoundRoute),
    /// The answer of a dial was seen.
    Answering { op: OpId },
    /// A peer's connection passed Hello.
    Accepted(Box<Established>),
    /// A device that tried to connect to us did not.
    Withdrawn(PeerId),
    /// Our own record has changed.
    Me(VerifiedRecord),
    /// The app ends the node.
    Shutdown { reply: oneshot::Sender<Result<(), StoreError>> },
    /// Asks a neighbour for routes.
    Ask { neighbour: PeerId, user: byway_api::UserId, reply: oneshot::Sender<Result<Vec<FoundRoute>, AskError>> },
    /// Hands an envelope to a neighbour.
    Forward { hop: PeerId, mail: Sealed, reply: oneshot::Sender<Result<RelayStatus, AskError>> },
    /// An envelope that a neighbour handed over was opened, or not.
    Opened { op: OpId, letter: Option<Box<OpenedLetter>> },
    /// What is needed to send something to a device that is not connected.
    Ways { to: PeerId, reply: oneshot::Sender<Ways> },
    /// May a signal of this device reach our transports? If so its record and way are remembered.
    Admit { sender: VerifiedRecord, back: SignalAddress, offer: bool, reply: oneshot::Sender<bool> },
}

/// How to send something to a device that is not connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    /// The device's newest record.
    pub(super) record: Option<VerifiedRecord>,
    /// Neighbours that are connected to it, best first.
    pub(super) neighbours: Vec<PeerId>,
}

/// Who is connected to us, for steps that look while they run.
#[derive(Default)]
pub(super) struct Neighbours(RwLock<Arc<[Neighbour]>>);

impl Neighbours {
    pub(super) fn now(&self) -> Arc<[Neighbour]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, list: Vec<Neighbour>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list.into();
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

/// What the engine counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) registry_signals: Count,
    pub(super) neighbour_signals: Count,
    pub(super) listener_signals: Count,
    pub(super) signals_received: Count,
    pub(super) signals_dropped: Count,
    pub(super) handshakes_failed: Count,
    pub(super) half_open_refused: Count,
}

/// One number.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many messages the app has taken out of its queue since the driver last looked.
#[derive(Debug)]
pub(crate) struct InboxRoom {
    taken: AtomicU32,
    wake: Arc<Notify>,
}

impl InboxRoom {
    pub(super) const fn new(wake: Arc<Notify>) -> Self {
        Self { taken: AtomicU32::new(0), wake }
    }

    pub(super) fn taken(&self) {
        if self.taken.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake.notify_one();
        }
    }

    pub(super) fn collect(&self) -> u32 {
        self.taken.swap(0, Ordering::AcqRel)
    }
}

/// The first page of the past: where our own records' numbers are kept.
pub(super) const RECORD_SEQ: &str = "engine/record_seq";

/// Reads [`RECORD_SEQ`].
pub(super) fn seq_from(value: &Bytes) -> Option<u64> {
    Some(u64::from_be_bytes(value.as_ref().try_into().ok()?))
}

/// Writes [`RECORD_SEQ`].
pub(super) fn seq_write(record: &VerifiedRecord) -> byway_api::Write {
    byway_api::Write::Meta {
        key: RECORD_SEQ.to_owned(),
        value: Some(Bytes::copy_from_slice(&record.seq().to_be_bytes())),
        durability: byway_api::Durability::Relaxed,
    }
}
