//! A relay for people who pay for their traffic: it forwards for friends only, so many bytes a day, and
//! keeps mail for them in a directory.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_api::{
    Carrier, EnvelopeId, Handoff, Held, PeerId, Relay, RelayError, RelayErrorKind, Sealed, StoredUntil, WallTime,
    async_trait,
};

use crate::mailboxes::Mailboxes;

pub(crate) const NAME: &str = "volunteer";
const DAY: i64 = 86_400_000;

/// What a [`Volunteer`] gives. The defaults are for a computer at home.
#[derive(Clone, Debug)]
pub struct VolunteerConfig {
    /// Bytes that it forwards for others from midnight to midnight (UTC). Default 64 MiB.
    pub daily_bytes: u64,
    /// How long mail is kept, if it does not expire before. Default 7 days.
    pub keep: Duration,
    /// Bytes of mail that one device may have waiting. Default 4 MiB.
    pub box_bytes: u64,
    /// Devices that may have mail waiting. Default 64.
    pub boxes: usize,
}

impl Default for VolunteerConfig {
    fn default() -> Self {
        Self { daily_bytes: 64 << 20, keep: Duration::from_secs(7 * 86_400), box_bytes: 4 << 20, boxes: 64 }
    }
}

/// Forwards and keeps mail for a list of devices.
///
/// Mail is forwarded *from* a friend, and kept *for* a friend. Needs a tokio runtime for the disk.
pub struct Volunteer {
    config: VolunteerConfig,
    friends: BTreeSet<PeerId>,
    now: Box<dyn Fn() -> WallTime + Send + Sync>,
    spent: Mutex<Spent>,
    mailboxes: Arc<Mailboxes>,
}

#[derive(Default)]
struct Spent {
    day: i64,
    bytes: u64,
}

impl Volunteer {
    /// Helps `friends`, with mail in `directory`, which one process may use at a time.
    pub fn new(
        directory: impl Into<PathBuf>,
        friends: impl IntoIterator<Item = PeerId>,
        config: VolunteerConfig,
    ) -> Self {
        let mailboxes = Arc::new(Mailboxes::new(directory.into(), config.box_bytes, config.boxes));
        let friends = friends.into_iter().collect();
        Self { config, friends, now: Box::new(system_time), spent: Mutex::default(), mailboxes }
    }

    /// Goes by another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        self.now = Box::new(now);
        self
    }

    /// Disks are slow; the node's loop is not to wait for one.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mailboxes) -> Result<T, RelayError> + Send + 'static,
    ) -> Result<T, RelayError> {
        let mailboxes = Arc::clone(&self.mailboxes);
        let done = tokio::task::spawn_blocking(move || work(&mailboxes)).await;
        done.unwrap_or_else(|e| Err(error(RelayErrorKind::Store, "the disk's thread ended").with_source(e)))
    }
}

#[async_trait]
impl Relay for Volunteer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, from: PeerId, mail: &Sealed) -> Result<(), RelayError> {
        if !self.friends.contains(&from) {
            return Err(error(RelayErrorKind::Refused, "this device forwards for its friends only"));
        }
        let today = (self.now)().as_millis().div_euclid(DAY);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.day != today {
            *spent = Spent { day: today, bytes: 0 };
        }
        let bytes = spent.bytes.saturating_add(mail.envelope.len() as u64);
        if bytes > self.config.daily_bytes {
            return Err(error(RelayErrorKind::Quota, "what this device forwards in a day is used up"));
        }
        spent.bytes = bytes;
        Ok(())
    }

    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        by.hand_over(hop, mail).await
    }

    async fn hold(&self, mail: Sealed) -> Result<StoredUntil, RelayError> {
        if !self.friends.contains(&mail.to) {
            return Err(error(RelayErrorKind::Refused, "this device keeps mail for its friends only"));
        }
        let now = (self.now)();
        let latest = now.plus(self.config.keep);
        self.on_disk(move |mailboxes| mailboxes.hold(&mail, now, latest)).await
    }

    async fn fetch(&self, device: PeerId, after: u64, max: usize) -> Result<Vec<Held>, RelayError> {
        let now = (self.now)();
        self.on_disk(move |mailboxes| mailboxes.fetch(device, after, max, now)).await
    }

    async fn release(&self, ids: &[EnvelopeId]) -> Result<(), RelayError> {
        let ids: BTreeSet<EnvelopeId> = ids.iter().copied().collect();
        self.on_disk(move |mailboxes| mailboxes.release(&ids)).await
    }
}

impl fmt::Debug for Volunteer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volunteer")
            .field("config", &self.config)
            .field("friends", &self.friends.len())
            .finish_non_exhaustive()
    }
}

fn system_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn error(kind: RelayErrorKind, detail: impl Into<String>) -> RelayError {
    RelayError::new(kind, NAME, detail)
}
