//! The calls.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use byway_api::{NetworkId, PeerId, SignalAddress, UserId};
use byway_socket::Device;
use byway_wire::{OpenMembership, VerifiedRecord, base64url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::backend::{Announce, Announced, Cursor, Peer};
use crate::problem::Problem;

type Answer = Result<Response, Problem>;
type PathOf<T> = Result<Path<T>, PathRejection>;

/// Links of a coordinator that does not say how many (`coordinator` without `cap`).
const DEFAULT_CAPACITY: u32 = 64;
/// Devices and coordinators in the answer about one user.
const LISTED: usize = 8;

/// A peer as both lists show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerEntry {
    user_id: String,
    peer_id: String,
    signal_address: String,
    last_seen: i64,
    is_coordinator: bool,
    record: String,
}

impl PeerEntry {
    fn new(peer: &Peer, is_coordinator: bool) -> Self {
        Self {
            user_id: peer.user.to_string(),
            peer_id: peer.device.peer.to_string(),
            signal_address: peer.signal_address.to_string(),
            last_seen: peer.last_seen.as_millis(),
            is_coordinator,
            record: base64url::encode(&peer.record),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PageQuery {
    /// `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct PageAnswer {
    peers: Vec<PeerEntry>,
    next: Option<String>,
}

/// `GET /network/{networkId}/active-peers`
pub(crate) async fn active_peers(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: PathOf<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let network = network(&path?.0)?;
    caller.must_fit(&network)?;
    let bad = |e: String| {
        Problem::bad_request("invalid_query", format!("{e}; use ?after=<next of the page before>&limit=1..200"))
    };
    let Query(query) = query.map_err(|e| bad(e.to_string()))?;
    let limit = query.limit.unwrap_or(app.config.limits.page).clamp(1, app.config.limits.page);
    let after = match &query.after {
        Some(text) => Some(read_cursor(text).ok_or_else(|| bad("after is not the next of a page".to_owned()))?),
        None => None,
    };
    let now = app.config.clock.now();
    let after_text = query.after.unwrap_or_default();
    let etag = format!("W/\"{}-{limit}-{after_text}\"", app.backend.revision(&network).await?);
    let etag_header = HeaderValue::from_str(&etag).map_err(|_| Problem::internal())?;
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|known| matches(known, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag_header)]).into_response());
    }
    let page = app.backend.active_page(&network, after.as_ref(), limit, now).await?;
    let peers = page.peers.iter().map(|(peer, is_coordinator)| PeerEntry::new(peer, *is_coordinator)).collect();
    let answer = PageAnswer { peers, next: page.next.as_ref().map(write_cursor) };
    Ok(([(header::ETAG, etag_header)], axum::Json(answer)).into_response())
}

/// The weak comparison of RFC 9110.
fn matches(if_none_match: &HeaderValue, etag: &str) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    if_none_match.to_str().is_ok_and(|list| list.split(',').any(|tag| tag.trim() == "*" || strong(tag) == strong(etag)))
}

fn write_cursor(cursor: &Cursor) -> String {
    base64url::encode(&[&cursor.peer.as_bytes()[..], cursor.user.as_str().as_bytes()].concat())
}

fn read_cursor(text: &str) -> Option<Cursor> {
    let bytes = base64url::decode(text.get(..text.len().min(256))?).ok()?;
    let (peer, user) = bytes.split_at_checked(32)?;
    let user = UserId::new(std::str::from_utf8(user).ok()?).ok()?;
    Some(Cursor { user, peer: PeerId::from_slice(peer).ok()? })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerAnswer {
    online: bool,
    devices: Vec<DeviceEntry>,
    last_coordinators: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceEntry {
    online: bool,
    #[serde(flatten)]
    peer: PeerEntry,
}

/// `GET /network/{networkId}/peer/{userId}`
pub(crate) async fn peer(State(app): State<Arc<App>>, caller: Caller, path: PathOf<(String, String)>) -> Answer {
    let Path((network_name, user)) = path?;
    let network = network(&network_name)?;
    caller.must_fit(&network)?;
    let user =
        UserId::new(&user).map_err(|e| Problem::bad_request("invalid_user", format!("{e}; percent-encode it")))?;
    let now = app.config.clock.now();
    let mut peers = app.backend.lookup(&network, &user, now).await?;
    let alive = app.backend.coordinators(&network, now).await?;
    let online =
        |peer: &Peer| app.hub.is_attached(&peer.device) || peer.announced_at > now.minus(app.config.times.online);
    peers.sort_by_key(|peer| (!online(peer), std::cmp::Reverse(peer.last_seen)));
    peers.truncate(LISTED);
    let mut coordinators: Vec<PeerId> = Vec::new();
    for peer in peers.iter().flat_map(|peer| &peer.coordinators) {
        if !coordinators.contains(peer) {
            coordinators.push(*peer);
        }
    }
    // Stable: among the alive, and among the others, those of the device seen last come first.
    coordinators.sort_by_key(|peer| !alive.contains(peer));
    coordinators.truncate(LISTED);
    let entry = |peer: &Peer| DeviceEntry {
        online: online(peer),
        peer: PeerEntry::new(peer, alive.contains(&peer.device.peer)),
    };
    let answer = PeerAnswer {
        online: peers.iter().any(online),
        devices: peers.iter().map(entry).collect(),
        last_coordinators: coordinators.iter().map(PeerId::to_string).collect(),
    };
    Ok(axum::Json(answer).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnnounceBody {
    peer_id: String,
    #[serde(default)]
    signal_address: Option<String>,
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    leaving: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnnounceAnswer {
    user_id: String,
    peer_id: String,
    seq: u64,
    signal_address: String,
    expires_at: i64,
    stored: bool,
}

/// `POST /network/{networkId}/announce`
pub(crate) async fn announce(State(app): State<Arc<App>>, caller: Caller, path: PathOf<String>, body: Body) -> Answer {
    let network = network(&path?.0)?;
    caller.must_fit(&network)?;
    let body: AnnounceBody = read(&app, body).await?;
    let now = app.config.clock.now();
    let record = body.record.as_deref().filter(|record| !record.is_empty()).ok_or_else(|| {
        let message = "announce with the device's signed record (base64url) in the field record: who a user is \
                       comes from the record, not from the body";
        Problem::bad_request("record_required", message)
    })?;
    let record = base64url::decode(record)
        .map_err(|e| Problem::bad_request("invalid_record", format!("{e}; send the record as unpadded base64url")))?;
    let record = VerifiedRecord::verify(&Bytes::from(record), &network, &OpenMembership::new(network.clone()), now)
        .map_err(|e| Problem::bad_request("invalid_record", format!("{e}; sign a new record for this network")))?;
    let device = Device::new(network, record.peer());
    let of_record = record.peer().to_string();
    if body.peer_id != of_record {
        return Err(mismatch("peerId", &body.peer_id, &of_record));
    }
    if let Some(proved) = caller.device.as_ref().filter(|proved| proved.peer != device.peer) {
        return Err(mismatch("the proof", &proved.peer.to_string(), &of_record));
    }
    let signal_address = address(&caller, &body, &record)?;
    if body.leaving {
        caller.must_prove(&device.network, "leaving")?;
    }
    let announcement = Announce {
        device: device.clone(),
        user: record.user().clone(),
        signal_address,
        seq: record.seq(),
        record: record.bytes().clone(),
        expires_at: record.expires_at().min(record.member().expires_at),
        coordinators: record.coordinators().to_vec(),
        capacity: capacity(record.capabilities()),
        // A record can be announced by anybody who has it. Only its device can prove, or sign a new one.
        seen_at: if caller.device.is_some() { now } else { record.issued_at().min(now) },
    };
    let answer = AnnounceAnswer {
        user_id: announcement.user.to_string(),
        peer_id: of_record,
        seq: announcement.seq,
        signal_address: announcement.signal_address.to_string(),
        expires_at: announcement.expires_at.as_millis(),
        stored: true,
    };
    let outcome = app.backend.announce(announcement, now).await?;
    if body.leaving && matches!(outcome, Announced::Stored | Announced::Known) {
        app.backend.forget(&device).await?;
    }
    match outcome {
        Announced::Stored => Ok(axum::Json(answer).into_response()),
        Announced::Known => Ok(axum::Json(AnnounceAnswer { stored: false, ..answer }).into_response()),
        Announced::Older { known } => {
            let message = format!("a newer record of this device is known; sign one with a seq above {known}");
            Err(Problem::new(StatusCode::CONFLICT, "stale_record", message).with("seq", known))
        }
        Announced::Conflict => {
            let message = format!("another record with seq {} is known; sign one with a higher seq", answer.seq);
            Err(Problem::new(StatusCode::CONFLICT, "stale_record", message).with("seq", answer.seq))
        }
        Announced::UserFull => {
            let message = format!(
                "this user has {} devices already; one of them must go first",
                app.config.limits.devices_per_user
            );
            Err(Problem::new(StatusCode::CONFLICT, "too_many_devices", message))
        }
        Announced::Full => {
            let message = "this registry has as many devices as it takes; its operator can raise --max-devices";
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, "registry_full", message))
        }
    }
}

fn mismatch(what: &str, got: &str, record: &str) -> Problem {
    let message = format!("{what} is of {:.80}, the record of {record}; announce only this device's own record", got);
    Problem::bad_request("peer_mismatch", message)
}

/// The address in the body, if the record or this registry vouches for it; else the record's first,
/// else our own socket.
fn address(caller: &Caller, body: &AnnounceBody, record: &VerifiedRecord) -> Result<SignalAddress, Problem> {
    let ours = SignalAddress::socket(&caller.base.ws, record.peer()).map_err(|_| Problem::internal())?;
    match body.signal_address.as_deref().filter(|address| !address.is_empty()) {
        None => Ok(record.addresses().first().cloned().unwrap_or(ours)),
        Some(given) => {
            let given =
                SignalAddress::new(given).map_err(|e| Problem::bad_request("invalid_address", e.to_string()))?;
            if given == ours || record.addresses().contains(&given) {
                return Ok(given);
            }
            let message =
                format!("signalAddress must be one of the record's addresses, or this registry's socket {ours}");
            Err(Problem::bad_request("address_mismatch", message))
        }
    }
}

/// From `coordinator` or `coordinator;cap=64`.
fn capacity(capabilities: &[String]) -> Option<u32> {
    let mut parameters =
        capabilities.iter().map(|c| c.split(';')).find_map(|mut c| (c.next() == Some("coordinator")).then_some(c))?;
    let cap = parameters.find_map(|parameter| parameter.strip_prefix("cap="));
    Some(cap.and_then(|cap| cap.parse().ok()).unwrap_or(DEFAULT_CAPACITY))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeartbeatBody {
    network_id: String,
    peer_id: String,
    active_peers: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HeartbeatAnswer {
    expires_at: i64,
}

/// `POST /coordinator/heartbeat`
pub(crate) async fn heartbeat(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Answer {
    let body: HeartbeatBody = read(&app, body).await?;
    let network = network(&body.network_id)?;
    let device = caller.must_prove(&network, "a heartbeat")?;
    let proved = device.peer.to_string();
    if body.peer_id != proved {
        let message =
            format!("peerId is {:.80}, the proof of {proved}; a device sends only its own heartbeat", body.peer_id);
        return Err(Problem::bad_request("peer_mismatch", message));
    }
    let now = app.config.clock.now();
    if !app.backend.heartbeat(device, body.active_peers, now).await? {
        let message = "announce a record with the capability coordinator first";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not_a_coordinator", message));
    }
    let expires_at = now.plus(app.config.times.coordinator).as_millis();
    Ok(axum::Json(HeartbeatAnswer { expires_at }).into_response())
}

fn network(name: &str) -> Result<NetworkId, Problem> {
    NetworkId::new(name).map_err(|e| Problem::bad_request("invalid_network", e.to_string()))
}

async fn read<T: DeserializeOwned>(app: &App, body: Body) -> Result<T, Problem> {
    let limit = app.config.limits.body_bytes;
    let bytes = axum::body::to_bytes(body, limit).await.map_err(|_| {
        let message = format!("the body is larger than {limit} bytes, or broke off");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Problem::bad_request(
            "invalid_json",
            format!("{e}; send JSON with the fields of sdk/docs/protocol.md, section Registry"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_a_parameter_of_the_capability() {
        let of = |c: &[&str]| capacity(&c.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["relay", "coordinator;cap=48"]), Some(48));
        assert_eq!(of(&["coordinator"]), Some(64));
        assert_eq!(of(&["coordinator;x=1;cap=7"]), Some(7));
        assert_eq!(of(&["coordinator;cap=many"]), Some(64));
        assert_eq!(of(&["coordinators", "relay"]), None);
    }

    #[test]
    fn a_cursor_reads_its_own_text_only() {
        let cursor = Cursor { user: UserId::new("J\u{fc}rgen").unwrap(), peer: PeerId::from_bytes([3; 32]) };
        assert_eq!(read_cursor(&write_cursor(&cursor)), Some(cursor));
        for wrong in ["", "x", "AAAA", &"A".repeat(500), "\u{fc}\u{fc}"] {
            assert_eq!(read_cursor(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn etags_are_compared_weakly_in_lists() {
        let value = |text: &'static str| HeaderValue::from_static(text);
        assert!(matches(&value("\"a\", W/\"b-1\""), "W/\"b-1\""));
        assert!(matches(&value("\"b-1\""), "W/\"b-1\""));
        assert!(matches(&value("*"), "W/\"b-1\""));
        assert!(!matches(&value("\"b-2\""), "W/\"b-1\""));
    }
}
