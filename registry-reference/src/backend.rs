use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{NetworkId, PeerId, SignalAddress, UserId, WallTime};
use byway_socket::Device;
use thiserror::Error;

/// What a backend could not do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Too much waits already.
    #[error("the database is busy")]
    Busy,
    /// No answer in time.
    #[error("the database did not answer in time")]
    Timeout,
    /// It failed.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The file is not one of ours, or of a newer version.
    #[error("{0}")]
    Unusable(String),
    /// It is closed.
    #[error("the database is closed")]
    Closed,
}

/// An announcement whose record was found good.
#[derive(Clone, Debug)]
pub struct Announce {
    /// The device.
    pub device: Device,
    /// Its user, from the record.
    pub user: UserId,
    /// Where it is reached first.
    pub signal_address: SignalAddress,
    /// The record's number.
    pub seq: u64,
    /// The signed record.
    pub record: Bytes,
    /// When the record ends.
    pub expires_at: WallTime,
    /// Who keeps its mail.
    pub coordinators: Vec<PeerId>,
    /// How many links it would serve as a coordinator, if it volunteers.
    pub capacity: Option<u32>,
    /// When the device was certainly there: now with a proof, else when it signed the record.
    pub seen_at: WallTime,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The record is new.
    Stored,
    /// The same record was there.
    Known,
    /// A record with a higher number is there.
    Older {
        /// Its number.
        known: u64,
    },
    /// Another record with the same number is there.
    Conflict,
    /// The user has as many devices as one may have, all of them seen lately.
    UserFull,
    /// The registry has as many devices as it takes.
    Full,
}

/// A device with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The device.
    pub device: Device,
    /// Its user.
    pub user: UserId,
    /// Where it is reached first.
    pub signal_address: SignalAddress,
    /// The record's number.
    pub seq: u64,
    /// The signed record.
    pub record: Bytes,
    /// When the record ends.
    pub expires_at: WallTime,
    /// Who keeps its mail.
    pub coordinators: Vec<PeerId>,
    /// As in [`Announce::capacity`].
    pub capacity: Option<u32>,
    /// When it was last seen, by announcement or socket.
    pub last_seen: WallTime,
    /// When it last announced itself.
    pub announced_at: WallTime,
}

/// Where the next page begins: behind this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The user.
    pub user: UserId,
    /// The device.
    pub peer: PeerId,
}

/// Some active peers, ordered by user and device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The peers and whether each is a coordinator.
    pub peers: Vec<(Peer, bool)>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Who could and who does coordinate a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Active devices.
    pub members: usize,
    /// Coordinators alive.
    pub coordinators: Vec<PeerId>,
    /// Active devices that would be one, and for how many links.
    pub volunteers: Vec<(PeerId, u32)>,
}

/// What a cleanup removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Devices that left the list of active peers.
    pub inactive: u64,
    /// Records that ended.
    pub records: u64,
    /// Coordinators without a heartbeat.
    pub coordinators: u64,
}

/// Keeps who announced themselves. Never a message.
///
/// # Behavior
/// * A device is *active* after an announcement or `touch` until `sweep` finds it silent; its record stays
///   until it ends. What has ended is never answered, whether it was swept or not.
/// * Of two records of a device the one with the higher number holds.
/// * `now` is the caller's clock; the backend has none.
/// * Several registries may share one backend: then `try_lead` is true for one of them at a time.
///
/// # Cancellation
/// Dropping a call may or may not have done it.
///
/// # Shutdown
/// After `close` everything acknowledged is in the database.
#[async_trait]
pub trait RegistryBackend: fmt::Debug + Send + Sync + 'static {
    /// Takes an announcement.
    async fn announce(&self, announce: Announce, now: WallTime) -> Result<Announced, BackendError>;

    /// These devices are there now; those without a record are passed over.
    async fn touch(&self, devices: &[Device], now: WallTime) -> Result<(), BackendError>;

    /// The device says that it leaves: not active, not announced. Its record stays.
    async fn forget(&self, device: &Device) -> Result<(), BackendError>;

    /// The devices of a user, last seen first.
    async fn lookup(&self, network: &NetworkId, user: &UserId, now: WallTime) -> Result<Vec<Peer>, BackendError>;

    /// At most `limit` active peers behind `after`.
    async fn active_page(
        &self,
        network: &NetworkId,
        after: Option<&Cursor>,
        limit: usize,
        now: WallTime,
    ) -> Result<Page, BackendError>;

    /// Changes whenever a page of the network does; printable, without quotes.
    async fn revision(&self, network: &NetworkId) -> Result<String, BackendError>;

    /// A coordinator is alive and has `active_peers` links. False if the device has not volunteered.
    async fn heartbeat(&self, device: &Device, active_peers: u32, now: WallTime) -> Result<bool, BackendError>;

    /// Makes a volunteer a coordinator until its next heartbeat is due.
    async fn appoint(&self, device: &Device, now: WallTime) -> Result<(), BackendError>;

    /// Which of these are coordinators alive.
    async fn coordinators(&self, network: &NetworkId, now: WallTime) -> Result<Vec<PeerId>, BackendError>;

    /// Who could and who does coordinate.
    async fn standing(&self, network: &NetworkId, now: WallTime) -> Result<Standing, BackendError>;

    /// Networks with active devices, and how many.
    async fn networks(&self) -> Result<Vec<(NetworkId, usize)>, BackendError>;

    /// Whether this registry cleans up and appoints at the moment.
    async fn try_lead(&self, now: WallTime) -> Result<bool, BackendError>;

    /// Removes what is silent and what has ended.
    async fn sweep(&self, now: WallTime) -> Result<Swept, BackendError>;

    /// Whether it works.
    async fn health(&self) -> Result<(), BackendError>;

    /// Stops. Idempotent.
    async fn close(&self);
}
