//! The default backend: one SQLite file, the active peers in memory.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use byway_api::{NetworkId, PeerId, SignalAddress, UserId, WallTime};
use byway_socket::Device;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::backend::{Announce, Announced, BackendError, Cursor, Page, Peer, RegistryBackend, Standing, Swept};
use crate::config::Database;
use crate::live::Live;
use crate::sqlite::Sqlite;

/// The numbers of an [`EmbeddedBackend`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EmbeddedConfig {
    /// Without being seen for this long a device is not active any more.
    pub active: Duration,
    /// Without a heartbeat for this long a coordinator is none any more.
    pub coordinator: Duration,
    /// Devices in all.
    pub devices: usize,
    /// Devices of one user.
    pub devices_per_user: usize,
    /// How long one call may take.
    pub patience: Duration,
}

impl From<&crate::Config> for EmbeddedConfig {
    fn from(config: &crate::Config) -> Self {
        Self {
            active: config.times.active,
            coordinator: config.times.coordinator,
            devices: config.limits.devices,
            devices_per_user: config.limits.devices_per_user,
            patience: config.times.backend,
        }
    }
}

/// Records in one SQLite file (or in memory), active peers in memory besides.
///
/// Everything about active peers is answered from memory; SQL runs on a thread of its own, calls that
/// wait together in one transaction. One process at a time can have the file open.
pub struct EmbeddedBackend {
    config: EmbeddedConfig,
    sqlite: Sqlite,
    live: Mutex<Live>,
    /// Tells the revisions of one start from those of another.
    start: String,
    devices: Arc<AtomicUsize>,
}

impl fmt::Debug for EmbeddedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

const PEER: &str = "r.network_id, r.peer_id, r.user_id, r.signal_address, r.seq, r.record, r.expires_at, \
                    r.coordinators, r.capacity, r.last_seen, r.announced_at";

impl EmbeddedBackend {
    /// Opens the database and reads who is active.
    ///
    /// # Errors
    /// [`BackendError::Unusable`] if the file belongs to something else, to a newer version or to a
    /// registry that is running.
    pub async fn open(database: Database, config: EmbeddedConfig, now: WallTime) -> Result<Self, BackendError> {
        let patience = config.patience;
        let sqlite = tokio::task::spawn_blocking(move || Sqlite::open(&database, patience))
            .await
            .map_err(|e| BackendError::Failed(e.to_string()))??;
        let (mut live, mut devices) = (Live::default(), 0);
        let from = now.minus(config.active).as_millis();
        let (peers, coordinators, count) = sqlite
            .call(move |c| {
                let mut query = c.prepare(&format!(
                    "SELECT {PEER} FROM active_peers a JOIN records r USING (network_id, peer_id)
                     WHERE a.last_seen >= ?1 AND r.expires_at > ?2"
                ))?;
                let peers = read_peers(query.query(params![from, now.as_millis()])?)?;
                let mut query = c.prepare("SELECT network_id, peer_id, last_heartbeat FROM coordinators")?;
                let rows = query.query_map([], |row| Ok((read_device(row)?, row.get::<_, i64>(2)?)))?;
                let coordinators = rows.collect::<rusqlite::Result<Vec<_>>>()?;
                let count: i64 = c.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
                Ok((peers, coordinators, count))
            })
            .await?;
        devices += usize::try_from(count).unwrap_or(0);
        peers.into_iter().for_each(|peer| live.insert(peer));
        for (device, last_heartbeat) in coordinators {
            live.coordinate(&device, WallTime::from_millis(last_heartbeat).plus(config.coordinator));
        }
        let start = format!("{:x}", now.as_millis());
        let devices = Arc::new(AtomicUsize::new(devices));
        Ok(Self { config, sqlite, live: Mutex::new(live), start, devices })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn coordinate(&self, device: &Device, active_peers: u32, now: WallTime) -> Result<bool, BackendError> {
        let (of, patience) = (device.clone(), self.config.coordinator);
        let volunteered = self
            .sqlite
            .call(move |c| {
                let (network, peer) = key(&of);
                let find = "SELECT capacity FROM records WHERE network_id = ?1 AND peer_id = ?2 AND expires_at > ?3";
                let capacity: Option<Option<i64>> =
                    c.query_row(find, params![network, peer, now.as_millis()], |row| row.get(0)).optional()?;
                let Some(Some(capacity)) = capacity else { return Ok(false) };
                c.execute(
                    "INSERT OR REPLACE INTO coordinators (network_id, peer_id, capacity, last_heartbeat, active_peers)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![network, peer, capacity, now.as_millis(), active_peers],
                )?;
                let mark = "UPDATE active_peers SET is_coordinator = 1 WHERE network_id = ?1 AND peer_id = ?2";
                c.execute(mark, params![network, peer])?;
                Ok(true)
            })
            .await?;
        if volunteered {
            self.live().coordinate(device, now.plus(patience));
        }
        Ok(volunteered)
    }
}

#[async_trait]
impl RegistryBackend for EmbeddedBackend {
    async fn announce(&self, announce: Announce, now: WallTime) -> Result<Announced, BackendError> {
        let limits = self.config.clone();
        let devices = Arc::clone(&self.devices);
        let (outcome, active) = self.sqlite.call(move |c| take(c, &announce, &limits, &devices, now)).await?;
        let mut live = self.live();
        if let Some((peer, evicted)) = active {
            evicted.iter().for_each(|device| drop(live.remove(device)));
            live.insert(peer);
        }
        Ok(outcome)
    }

    async fn touch(&self, devices: &[Device], now: WallTime) -> Result<(), BackendError> {
        let devices: Vec<(Device, bool)> = {
            let mut live = self.live();
            devices.iter().map(|device| (device.clone(), live.touch(device, now))).collect()
        };
        let back = self
            .sqlite
            .call(move |c| {
                let mut seen = c.prepare_cached(
                    "UPDATE records SET last_seen = max(last_seen, ?3) WHERE network_id = ?1 AND peer_id = ?2",
                )?;
                let mut back = Vec::new();
                for (device, active) in &devices {
                    let (network, peer) = key(device);
                    if seen.execute(params![network, peer, now.as_millis()])? == 0 {
                        continue;
                    }
                    match active {
                        true => mark_active(c, device)?,
                        false => back.extend(find(c, device)?.filter(|peer| peer.expires_at > now)),
                    }
                }
                back.iter().try_for_each(|peer| mark_active(c, &peer.device))?;
                Ok(back)
            })
            .await?;
        let mut live = self.live();
        back.into_iter().for_each(|peer| live.insert(peer));
        Ok(())
    }

    async fn forget(&self, device: &Device) -> Result<(), BackendError> {
        self.live().remove(device);
        let device = device.clone();
        self.sqlite
            .call(move |c| {
                let (network, peer) = key(&device);
                let left = "UPDATE records SET announced_at = 0 WHERE network_id = ?1 AND peer_id = ?2";
                c.execute(left, params![network, peer])?;
                c.execute("DELETE FROM active_peers WHERE network_id = ?1 AND peer_id = ?2", params![network, peer])?;
                Ok(())
            })
            .await
    }

    async fn lookup(&self, network: &NetworkId, user: &UserId, now: WallTime) -> Result<Vec<Peer>, BackendError> {
        let (network, user) = (network.clone(), user.clone());
        self.sqlite
            .call(move |c| {
                let mut query = c.prepare_cached(&format!(
                    "SELECT {PEER} FROM records r WHERE network_id = ?1 AND user_id = ?2 AND expires_at > ?3
                     ORDER BY last_seen DESC"
                ))?;
                read_peers(query.query(params![network.as_str(), user.as_str(), now.as_millis()])?)
            })
            .await
    }

    async fn active_page(
        &self,
        network: &NetworkId,
        after: Option<&Cursor>,
        limit: usize,
        now: WallTime,
    ) -> Result<Page, BackendError> {
        Ok(self.live().page(network, after, limit, now))
    }

    async fn revision(&self, network: &NetworkId) -> Result<String, BackendError> {
        Ok(format!("{}-{:x}", self.start, self.live().revision(network)))
    }

    async fn heartbeat(&self, device: &Device, active_peers: u32, now: WallTime) -> Result<bool, BackendError> {
        self.coordinate(device, active_peers, now).await
    }

    async fn appoint(&self, device: &Device, now: WallTime) -> Result<(), BackendError> {
        self.coordinate(device, 0, now).await.map(drop)
    }

    async fn coordinators(&self, network: &NetworkId, now: WallTime) -> Result<Vec<PeerId>, BackendError> {
        Ok(self.live().coordinators(network, now))
    }

    async fn standing(&self, network: &NetworkId, now: WallTime) -> Result<Standing, BackendError> {
        Ok(self.live().standing(network, now))
    }

    async fn networks(&self) -> Result<Vec<(NetworkId, usize)>, BackendError> {
        Ok(self.live().networks())
    }

    async fn try_lead(&self, _: WallTime) -> Result<bool, BackendError> {
        Ok(true)
    }

    async fn sweep(&self, now: WallTime) -> Result<Swept, BackendError> {
        let silent_since = now.minus(self.config.active);
        self.live().sweep(silent_since, now);
        let (active, coordinator) = (silent_since.as_millis(), now.minus(self.config.coordinator).as_millis());
        let swept = self
            .sqlite
            .call(move |c| {
                let now = now.as_millis();
                let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
                let gone = "DELETE FROM active_peers WHERE last_seen < ?1 OR expires_at <= ?2";
                let inactive = c.execute(gone, params![active, now])?;
                let records = c.execute("DELETE FROM records WHERE expires_at <= ?1", [now])?;
                let coordinators = c.execute("DELETE FROM coordinators WHERE last_heartbeat <= ?1", [coordinator])?;
                c.execute(
                    "UPDATE active_peers SET is_coordinator = 0 WHERE is_coordinator = 1 AND NOT EXISTS (SELECT 1 FROM
                     coordinators c WHERE c.network_id = active_peers.network_id AND c.peer_id = active_peers.peer_id)",
                    [],
                )?;
                Ok(Swept { inactive: count(inactive), records: count(records), coordinators: count(coordinators) })
            })
            .await?;
        let ended = usize::try_from(swept.records).unwrap_or(0);
        let _ = self.devices.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(ended)));
        Ok(swept)
    }

    async fn health(&self) -> Result<(), BackendError> {
        self.sqlite.call(|c| c.query_row("SELECT count(*) FROM (SELECT 1 FROM records LIMIT 1)", [], |_| Ok(()))).await
    }

    async fn close(&self) {
        self.sqlite.close().await;
    }
}

/// What is to be done in memory after the commit: the device as it now is, and who had to go for it.
type Change = Option<(Peer, Vec<Device>)>;

fn take(
    c: &Connection,
    a: &Announce,
    limits: &EmbeddedConfig,
    devices: &AtomicUsize,
    now: WallTime,
) -> rusqlite::Result<(Announced, Change)> {
    let known = find(c, &a.device)?.filter(|known| known.expires_at > now);
    let mut evicted = Vec::new();
    let outcome = match &known {
        Some(known) if known.seq > a.seq => return Ok((Announced::Older { known: known.seq }, None)),
        Some(known) if known.seq == a.seq && known.record != a.record => return Ok((Announced::Conflict, None)),
        Some(known) if known.seq == a.seq => Announced::Known,
        _ => Announced::Stored,
    };
    let same_user = known.as_ref().is_some_and(|known| known.user == a.user);
    if !same_user {
        let all = users_devices(c, &a.device.network, &a.user, now)?;
        if all.len() >= limits.devices_per_user {
            match all.last().filter(|oldest| oldest.last_seen < now.minus(limits.active)) {
                Some(oldest) => evicted.push(oldest.device.clone()),
                None => return Ok((Announced::UserFull, None)),
            }
        }
    }
    if known.is_none() && evicted.is_empty() && devices.load(Ordering::Relaxed) >= limits.devices {
        return Ok((Announced::Full, None));
    }
    let seen_at = a.seen_at.min(now);
    let peer = Peer {
        device: a.device.clone(),
        user: a.user.clone(),
        signal_address: a.signal_address.clone(),
        seq: a.seq,
        record: a.record.clone(),
        expires_at: a.expires_at,
        coordinators: a.coordinators.clone(),
        capacity: a.capacity,
        last_seen: known.as_ref().map_or(seen_at, |k| k.last_seen.max(seen_at)),
        announced_at: known.as_ref().map_or(seen_at, |k| k.announced_at.max(seen_at)),
    };
    for device in &evicted {
        let (network, key) = key(device);
        c.execute("DELETE FROM records WHERE network_id = ?1 AND peer_id = ?2", params![network, key])?;
        c.execute("DELETE FROM active_peers WHERE network_id = ?1 AND peer_id = ?2", params![network, key])?;
    }
    let replaced = store(c, &peer)?;
    if !replaced && evicted.is_empty() {
        devices.fetch_add(1, Ordering::Relaxed);
    }
    if peer.last_seen < now.minus(limits.active) {
        return Ok((outcome, None));
    }
    mark_active(c, &peer.device)?;
    Ok((outcome, Some((peer, evicted))))
}

/// Writes a record; true if the device had one (an ended one counts: it was not swept yet).
fn store(c: &Connection, peer: &Peer) -> rusqlite::Result<bool> {
    let (network, id) = key(&peer.device);
    let had = "SELECT 1 FROM records WHERE network_id = ?1 AND peer_id = ?2";
    let had = c.query_row(had, params![network, id], |_| Ok(())).optional()?.is_some();
    let coordinators: Vec<u8> = peer.coordinators.iter().flat_map(|peer| *peer.as_bytes()).collect();
    c.prepare_cached(
        "INSERT OR REPLACE INTO records (network_id, peer_id, user_id, signal_address, seq, record, expires_at,
         coordinators, capacity, last_seen, announced_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        network,
        id,
        peer.user.as_str(),
        peer.signal_address.as_str(),
        peer.seq.cast_signed(),
        &peer.record[..],
        peer.expires_at.as_millis(),
        coordinators,
        peer.capacity,
        peer.last_seen.as_millis(),
        peer.announced_at.as_millis(),
    ])?;
    Ok(had)
}

/// Makes or refreshes the device's row in the seed's table, from its record.
fn mark_active(c: &Connection, device: &Device) -> rusqlite::Result<()> {
    let (network, peer) = key(device);
    c.prepare_cached(
        "INSERT OR REPLACE INTO active_peers
           (network_id, user_id, peer_id, signal_address, last_seen, is_coordinator, expires_at)
         SELECT r.network_id, r.user_id, r.peer_id, r.signal_address, r.last_seen,
           EXISTS (SELECT 1 FROM coordinators c WHERE c.network_id = r.network_id AND c.peer_id = r.peer_id), r.expires_at
         FROM records r WHERE r.network_id = ?1 AND r.peer_id = ?2",
    )?
    .execute(params![network, peer])
    .map(drop)
}

fn find(c: &Connection, device: &Device) -> rusqlite::Result<Option<Peer>> {
    let (network, peer) = key(device);
    let mut query =
        c.prepare_cached(&format!("SELECT {PEER} FROM records r WHERE network_id = ?1 AND peer_id = ?2"))?;
    Ok(read_peers(query.query(params![network, peer])?)?.pop())
}

fn users_devices(c: &Connection, network: &NetworkId, user: &UserId, now: WallTime) -> rusqlite::Result<Vec<Peer>> {
    let mut query = c.prepare_cached(&format!(
        "SELECT {PEER} FROM records r WHERE network_id = ?1 AND user_id = ?2 AND expires_at > ?3 ORDER BY last_seen DESC"
    ))?;
    read_peers(query.query(params![network.as_str(), user.as_str(), now.as_millis()])?)
}

fn key(device: &Device) -> (&str, String) {
    (device.network.as_str(), device.peer.to_string())
}

fn read_peers(mut rows: rusqlite::Rows<'_>) -> rusqlite::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    while let Some(row) = rows.next()? {
        peers.push(read_peer(row)?);
    }
    Ok(peers)
}

fn read_peer(row: &Row<'_>) -> rusqlite::Result<Peer> {
    let coordinators: Vec<u8> = row.get(7)?;
    Ok(Peer {
        device: read_device(row)?,
        user: UserId::new(&row.get::<_, String>(2)?).map_err(|e| damaged(2, e))?,
        signal_address: SignalAddress::new(&row.get::<_, String>(3)?).map_err(|e| damaged(3, e))?,
        seq: row.get::<_, i64>(4)?.cast_unsigned(),
        record: Bytes::from(row.get::<_, Vec<u8>>(5)?),
        expires_at: WallTime::from_millis(row.get(6)?),
        coordinators: coordinators.chunks_exact(32).filter_map(|key| PeerId::from_slice(key).ok()).collect(),
        capacity: row.get(8)?,
        last_seen: WallTime::from_millis(row.get(9)?),
        announced_at: WallTime::from_millis(row.get(10)?),
    })
}

fn read_device(row: &Row<'_>) -> rusqlite::Result<Device> {
    let network = NetworkId::new(&row.get::<_, String>(0)?).map_err(|e| damaged(0, e))?;
    let peer: PeerId = row.get::<_, String>(1)?.parse().map_err(|e| damaged(1, e))?;
    Ok(Device::new(network, peer))
}

fn damaged(column: usize, e: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
}
