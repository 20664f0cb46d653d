//! Members on the same LAN, found by multicast DNS: no server, nothing to configure.
//!
//! [`Mdns`] is the step, [`MdnsConfig`] its numbers.
//!
//! # What is said on the LAN
//!
//! A device registers a DNS-SD service instance (RFC 6762, RFC 6763) of the type `_byway._udp.local.`,
//! whose TXT record carries its signed record. Instance and host are named by a hash of network and
//! device, and the record is encrypted with a key that follows from the network's name: whoever does not
//! know that name learns that some Byway device is there, its IP addresses and its listener's port, and
//! nothing about network and user. The hash is the same every time, so a device can be recognised.
//!
//! A record that does not fit into one packet is announced in pieces of 1,000 bytes, each with an
//! instance of its own: none of them is broken up by the network. The record of a device of an open
//! network is in one or two pieces, the largest possible one in five.
//!
//! # What is believed
//!
//! Nothing that is not encrypted for this network, signed by the device that it is about, and newer than
//! what the device said before. Whether the device is its user's is for the node to judge, as with every
//! step. What is heard takes a bounded amount of memory, however much is shouted.

mod config;
mod cover;
mod daemon;
mod piece;
mod table;

use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use byway_api::{Announcement, DiscoveryStep, Lookup, Meter, NetworkId, Sightings, StepError, StepErrorKind};
use mdns_sd::{Receiver, ServiceEvent, ServiceInfo};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

pub use config::{Interfaces, MdnsConfig};

use cover::{Cover, Tag};
use daemon::{Daemon, error};
use piece::Piece;
use table::Table;

/// Finds the members on the same LAN by multicast DNS.
///
/// * `browse` reports members as they are heard of, for as long as it runs.
/// * `find` answers from what was heard. If that is nothing it asks the LAN, and waits at most
///   [`MdnsConfig::wait`] for an answer.
/// * `announce` says where this device is; with `leaving` it says goodbye.
///
/// One step serves one node, and so one network: that of its first call.
///
/// # Shutdown
/// Announcing `leaving` ends the daemon's thread and closes its sockets, and waits for that; a later
/// `announce` begins anew. Dropping the step does the same without waiting.
pub struct Mdns {
    config: MdnsConfig,
    state: Mutex<State>,
    /// Whoever holds it reads the daemon's events, for all; no task is needed.
    reader: tokio::sync::Mutex<Reader>,
    /// The number of the table's newest change.
    changed: watch::Sender<u64>,
    /// Somebody wants the LAN to be asked.
    ask: Notify,
}

#[derive(Debug)]
struct State {
    cover: Option<Arc<Cover>>,
    /// Our own name on the LAN.
    me: Option<Tag>,
    daemon: Option<Daemon>,
    announced: Vec<ServiceInfo>,
    table: Table,
    left: bool,
}

struct Reader {
    events: Option<Receiver<ServiceEvent>>,
    /// When the LAN may be asked again.
    ask_at: Instant,
    inspect_at: Instant,
}

impl fmt::Debug for Mdns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mdns").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Default for Mdns {
    fn default() -> Self {
        Self::new(MdnsConfig::default())
    }
}

impl Mdns {
    /// Its name in the ladder.
    pub const NAME: &'static str = "mdns";

    /// A step with these numbers. Nothing is opened before its first call.
    pub fn new(config: MdnsConfig) -> Self {
        let state = State {
            cover: None,
            me: None,
            daemon: None,
            announced: Vec::new(),
            table: Table::new(config.members),
            left: false,
        };
        let now = Instant::now();
        Self {
            state: Mutex::new(state),
            reader: tokio::sync::Mutex::new(Reader { events: None, ask_at: now, inspect_at: now }),
            changed: watch::Sender::new(0),
            ask: Notify::new(),
            config,
        }
    }

    /// How many DNS records are held in memory, those of other services on the LAN included; `None` while
    /// nothing is open.
    pub async fn remembered(&self) -> Option<u64> {
        let observer = self.state().daemon.as_ref()?.observer();
        observer.remembered().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cover(&self, network: &NetworkId) -> Result<Arc<Cover>, StepError> {
        let mut state = self.state();
        let cover = state.cover.get_or_insert_with(|| Arc::new(Cover::of(network)));
        if cover.network() == network {
            return Ok(Arc::clone(cover));
        }
        let detail = format!("this step serves the network {}; {network} needs one of its own", cover.network());
        Err(error(StepErrorKind::Refused, detail))
    }

    /// Reads the daemon's events into the table, for as long as it is polled. All callers wait for the
    /// same changes; one of them does the work. Ends when this device has left.
    async fn listen(&self, cover: &Cover) -> Result<Infallible, StepError> {
        let mut reader = self.reader.lock().await;
        let reader = &mut *reader;
        loop {
            tokio::task::coop::consume_budget().await;
            if self.state().left {
                return Err(error(StepErrorKind::Other, "this device has left the LAN"));
            }
            let Some(events) = &reader.events else {
                // events may have been lost because there were too many: no haste
                sleep_until(reader.ask_at).await;
                self.subscribe(cover, reader)?;
                continue;
            };
            tokio::select! {
                biased;
                () = sleep_until(reader.inspect_at) => {
                    reader.inspect_at = Instant::now() + self.config.inspect_every;
                    if self.inspect().await.is_break() {
                        reader.events = None;
                    }
                }
                () = self.ask.notified() => if reader.ask_at <= Instant::now() {
                    self.subscribe(cover, reader)?;
                },
                event = events.recv_async() => match event {
                    Ok(event) => self.hear(cover, event),
                    Err(_) => reader.events = None,
                },
            }
        }
    }

    /// Asks the LAN for everybody. What is known already is told again, so who is not is gone.
    fn subscribe(&self, cover: &Cover, reader: &mut Reader) -> Result<(), StepError> {
        self.drain(cover, reader);
        let now = Instant::now();
        let mut state = self.state();
        state.table.doubt(now + self.config.ttl);
        reader.ask_at = now + self.config.ask_every;
        let events = match state.daemon(&self.config)?.browse(&self.config.service) {
            Ok(events) => events,
            Err(_) => {
                // it has died, or the type is no service's: a new one knows
                state.daemon = None;
                state.daemon(&self.config)?.browse(&self.config.service)?
            }
        };
        reader.events = Some(events);
        Ok(())
    }

    /// Reads what is there already.
    fn drain(&self, cover: &Cover, reader: &Reader) {
        if let Some(events) = &reader.events {
            // what comes meanwhile waits
            for _ in 0..events.len() {
                let Ok(event) = events.try_recv() else { break };
                self.hear(cover, event);
            }
        }
    }

    fn hear(&self, cover: &Cover, event: ServiceEvent) {
        let name = |fullname: &str| {
            let (name, service) = fullname.split_once('.')?;
            service.eq_ignore_ascii_case(&self.config.service).then(|| name.to_owned())
        };
        let mut state = self.state();
        match event {
            ServiceEvent::ServiceResolved(found) => {
                let piece = name(&found.fullname).and_then(|name| Piece::read(&name, &found.txt_properties));
                let Some(piece) = piece.filter(|piece| state.me.as_ref() != Some(&piece.tag)) else { return };
                if state.table.hear(cover, piece) {
                    self.changed.send_replace(state.table.stamp());
                }
            }
            ServiceEvent::ServiceRemoved(_, fullname) => {
                // pieces come and go with the length of a record; the first one is always there
                if let Some((tag, 0)) = name(&fullname).as_deref().and_then(piece::parse_name) {
                    state.table.forget(&tag);
                }
            }
            _ => {}
        }
    }

    /// Ends the daemon if it remembers too much, or does not answer. It is started anew when it is needed.
    async fn inspect(&self) -> ControlFlow<()> {
        self.state().table.expire(Instant::now());
        let most = u64::try_from(self.config.records).unwrap_or(u64::MAX);
        match self.remembered().await {
            Some(records) if records <= most => ControlFlow::Continue(()),
            records => {
                let daemon = self.state().daemon.take();
                if let Some(daemon) = daemon {
                    tracing::warn!(target: "byway::mdns", ?records, most, "the LAN says too much; listening anew");
                    daemon.stop().await;
                }
                ControlFlow::Break(())
            }
        }
    }

    async fn leave(&self) {
        let daemon = {
            let mut state = self.state();
            state.left = true;
            state.announced.clear();
            state.daemon.take()
        };
        if let Some(daemon) = daemon {
            daemon.stop().await;
        }
    }
}

impl State {
    /// The daemon; started, with everything announced, if it does not run.
    fn daemon(&mut self, config: &MdnsConfig) -> Result<&Daemon, StepError> {
        match &mut self.daemon {
            Some(daemon) => Ok(daemon),
            none => {
                let daemon = none.insert(Daemon::start(config)?);
                for info in &self.announced {
                    daemon.register(info.clone())?;
                }
                Ok(daemon)
            }
        }
    }
}

#[async_trait]
impl DiscoveryStep for Mdns {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let query = lookup.query();
        let cover = self.cover(&query.network)?;
        let mut changed = self.changed.subscribe();
        let until = Instant::now() + self.config.wait;
        if let Ok(reader) = self.reader.try_lock() {
            self.drain(&cover, &reader);
        }
        let mut asked = false;
        loop {
            changed.borrow_and_update();
            let (routes, left) = {
                let mut state = self.state();
                state.table.expire(Instant::now());
                (state.table.routes_of(&query.user), state.left)
            };
            if !routes.is_empty() || left {
                for route in routes {
                    if lookup.found(route).is_break() {
                        break;
                    }
                }
                return Ok(());
            }
            if !asked {
                self.ask.notify_one();
                asked = true;
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = sleep_until(until) => return Ok(()),
                Err(ended) = self.listen(&cover) => return if self.state().left { Ok(()) } else { Err(ended) },
            }
        }
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        let cover = self.cover(sightings.network())?;
        let mut changed = self.changed.subscribe();
        let mut told = 0;
        loop {
            changed.borrow_and_update();
            let (routes, stamp) = {
                let state = self.state();
                (state.table.since(told), state.table.stamp())
            };
            for route in routes {
                if sightings.seen(route).is_break() {
                    return Ok(());
                }
            }
            told = stamp;
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                Err(ended) = self.listen(&cover) => match ended {
                    _ if self.state().left => return Ok(()),
                    // nobody begins a browser again, and this machine may recover
                    fault if fault.kind() == StepErrorKind::LocalFault => {
                        tracing::debug!(target: "byway::mdns", %fault, "the LAN cannot be heard now");
                        sleep_until(Instant::now() + self.config.inspect_every).await;
                    }
                    ended => return Err(ended),
                },
            }
        }
    }

    async fn announce(&self, me: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        let cover = self.cover(&me.network)?;
        if me.leaving {
            self.leave().await;
            return Ok(());
        }
        let tag = cover.tag(&me.peer);
        let pieces = piece::cut(&cover, &tag, &me.record)
            .ok_or_else(|| error(StepErrorKind::Refused, format!("a record of {} bytes", me.record.len())))?;
        let port = me.addresses.iter().find_map(listening_port).unwrap_or(0);
        let infos: Vec<_> =
            pieces.iter().map(|piece| daemon::instance(&self.config.service, piece, port)).collect::<Result<_, _>>()?;
        let (observer, surplus) = {
            let mut state = self.state();
            state.left = false;
            state.table.forget(&tag);
            state.me = Some(tag);
            let before = std::mem::replace(&mut state.announced, infos);
            let surplus: Vec<_> = before.iter().skip(pieces.len()).map(|info| info.get_fullname().to_owned()).collect();
            let announced = |daemon: &Daemon| state.announced.iter().all(|info| daemon.register(info.clone()).is_ok());
            if !state.daemon.as_ref().is_some_and(announced) {
                // none runs, or it has died: a new one announces what there is
                state.daemon = None;
            }
            let daemon = state.daemon(&self.config)?;
            (daemon.observer(), surplus)
        };
        for instance in surplus {
            observer.withdraw(&instance).await;
        }
        Ok(())
    }
}

/// The port of an address of our listener.
fn listening_port(address: &byway_api::SignalAddress) -> Option<u16> {
    let (base, _) = address.socket_parts()?;
    base.rsplit_once(':')?.1.parse().ok()
}
