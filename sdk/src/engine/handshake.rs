//! Hello over a fresh channel: who is there, before anything else is read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use byway_api::{CloseCode, Connection, Instance, PathInfo, PeerId, Received, Retry};
use byway_wire::limits;
use byway_wire::{Handshake, HelloConfig, HelloStep, PeerHello, Role};

use super::runtime::{random, timeout};
use super::shared::Shared;

/// A connection whose far end has proved its device.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) hello: PeerHello,
    pub(super) path: PathInfo,
    pub(super) rank: usize,
    pub(super) transport: &'static str,
    /// The longest frame that both sides take.
    pub(super) max_frame: usize,
}

/// The transport a channel came over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) rank: usize,
    pub(super) transport: &'static str,
    pub(super) max_frame: usize,
}

/// Why Hello failed.
#[derive(Debug)]
pub(super) struct HelloFailure {
    pub(super) retry: Retry,
    pub(super) text: String,
}

impl HelloFailure {
    fn new(retry: Retry, text: impl Into<String>) -> Self {
        Self { retry, text: text.into() }
    }
}

/// Runs Hello and closes the channel if it fails. `place` counts as half open until then.
pub(super) async fn hello(
    shared: &Shared,
    place: Place,
    instance: Instance,
    connection: Arc<dyn Connection>,
    over: Over,
    role: Role,
    expect: Option<PeerId>,
) -> Result<Established, HelloFailure> {
    let path = connection.path();
    let work = exchange(shared, instance, &*connection, over, role);
    let (code, failure) = match timeout(limits::HELLO_TIMEOUT, work).await {
        Some(Ok(hello)) => {
            let proved = connection.peer().is_none_or(|peer| peer == hello.peer);
            if proved && expect.is_none_or(|peer| peer == hello.peer) {
                let max_frame = over.max_frame.min(hello.max_frame).min(limits::FRAME_MAX);
                let Over { rank, transport, .. } = over;
                return Ok(Established { connection, hello, path, rank, transport, max_frame });
            }
            (CloseCode::REFUSED, HelloFailure::new(Retry::Later, "another device answered"))
        }
        Some(Err(failure)) => failure,
        None => (CloseCode::TIMEOUT, HelloFailure::new(Retry::Later, "no Hello in time")),
    };
    shared.counters.handshakes_failed.add();
    tracing::debug!(target: "byway::link", path = %path.remote, why = %failure.text, "Hello failed");
    drop(place);
    close(shared, &connection, code).await;
    Err(failure)
}

async fn exchange(
    shared: &Shared,
    instance: Instance,
    connection: &dyn Connection,
    over: Over,
    role: Role,
) -> Result<PeerHello, (CloseCode, HelloFailure)> {
    let lost = |what: &str| (CloseCode::LOST, HelloFailure::new(Retry::Later, what));
    let identity = &shared.identity;
    let config = HelloConfig {
        network: identity.network().clone(),
        credential: identity.credential().to_string(),
        record_seq: identity.record().seq(),
        capabilities: identity.capabilities().to_vec(),
        max_frame: over.max_frame.min(limits::FRAME_MAX),
        instance,
        revocation_seq: 0,
    };
    let nonce = random().map_err(|e| lost(&e.to_string()))?;
    let now = shared.runtime.now().wall;
    let (mut handshake, first) = Handshake::start(role, &config, identity.key(), &connection.binding(), nonce, now);
    connection.send(first).await.map_err(|e| lost(&e.to_string()))?;
    loop {
        let frame = match connection.recv().await {
            Ok(Received::Frame(frame)) => frame,
            Ok(Received::Closed(code)) => {
                return Err((code, HelloFailure::new(Retry::Later, format!("closed: {code:?}"))));
            }
            Ok(_) => continue,
            Err(e) => return Err(lost(&e.to_string())),
        };
        let now = shared.runtime.now().wall;
        match handshake.receive(frame, identity.key(), identity.membership(), now) {
            Ok(HelloStep::Send(frame)) => connection.send(frame).await.map_err(|e| lost(&e.to_string()))?,
            Ok(HelloStep::Done { send, peer }) => {
                if let Some(frame) = send {
                    connection.send(frame).await.map_err(|e| lost(&e.to_string()))?;
                }
                return Ok(*peer);
            }
            Ok(_) => {}
            Err(refusal) => {
                if let Some(frame) = refusal.send {
                    let _ = connection.send(frame).await;
                }
                let who = if refusal.by_peer { "the peer refused" } else { "refused" };
                let text = format!("{who}: {:?} {}", refusal.code, refusal.text);
                return Err((CloseCode::REFUSED, HelloFailure::new(Retry::Later, text)));
            }
        }
    }
}

/// Closes, and waits no longer than for what was written.
pub(super) async fn close(shared: &Shared, connection: &Arc<dyn Connection>, code: CloseCode) {
    let _ = timeout(shared.settings.flush_wait, connection.close(code)).await;
}

/// The address at the far end, unless it is this machine's own.
fn ip_of(path: &PathInfo) -> Option<IpAddr> {
    let ip = path.remote.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| path.remote.parse()).ok()?;
    let ip = IpAddr::to_canonical(&ip);
    (!ip.is_loopback()).then_some(ip)
}

/// Counts the connections that have not proved anything yet.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_ip: BTreeMap<IpAddr, usize>,
}

/// The place of one of them.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<HalfOpen>,
    ip: Option<IpAddr>,
}

impl HalfOpen {
    /// Takes a place, if there is one.
    pub(super) fn enter(gate: &Arc<Self>, path: &PathInfo) -> Option<Place> {
        Self::enter_from(gate, ip_of(path))
    }

    fn enter_from(gate: &Arc<Self>, ip: Option<IpAddr>) -> Option<Place> {
        let mut counts = gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let same = ip.and_then(|ip| counts.by_ip.get(&ip)).copied().unwrap_or_default();
        if counts.all >= limits::HALF_OPEN || same >= limits::HALF_OPEN_PER_IP {
            return None;
        }
        counts.all += 1;
        if let Some(ip) = ip {
            counts.by_ip.insert(ip, same + 1);
        }
        Some(Place { gate: Arc::clone(gate), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(ip) = self.ip
            && let Some(n) = counts.by_ip.get_mut(&ip)
        {
            *n -= 1;
            if *n == 0 {
                counts.by_ip.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway_api::PathKind;

    fn path(remote: &str) -> PathInfo {
        PathInfo::new(PathKind::Direct, "", remote)
    }

    #[test]
    fn eight_half_open_connections_of_one_address_and_64_in_all() {
        let gate = Arc::new(HalfOpen::default());
        let ip = ip_of(&path("192.0.2.7:5000"));
        assert!(ip.is_some());
        let mut places: Vec<_> =
            (0..limits::HALF_OPEN_PER_IP).filter_map(|_| HalfOpen::enter_from(&gate, ip)).collect();
        assert_eq!(places.len(), limits::HALF_OPEN_PER_IP);
        assert!(HalfOpen::enter_from(&gate, ip).is_none());
        places.pop();
        assert!(HalfOpen::enter_from(&gate, ip).is_some());
        places.extend(std::iter::from_fn(|| HalfOpen::enter_from(&gate, None)));
        assert_eq!(places.len(), limits::HALF_OPEN);
        drop(places);
        assert!(gate.counts.lock().unwrap().by_ip.is_empty());
    }

    #[test]
    fn this_machine_and_unknown_paths_are_not_counted_by_address() {
        assert_eq!(ip_of(&path("127.0.0.1:5000")), None);
        assert_eq!(ip_of(&path("[::ffff:127.0.0.1]:5000")), None);
        assert_eq!(ip_of(&path("mem:7")), None);
    }
}
