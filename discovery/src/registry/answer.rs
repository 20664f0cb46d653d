//! The registry's JSON, and the routes in it.

use bytes::Bytes;
use byway_api::{PeerId, Route, SignalAddress, WallTime};
use byway_wire::{base64url, limits};
use serde::{Deserialize, Serialize};

/// Devices that are taken of one user. A user owns at most 8; a registry that lists more is not believed.
const DEVICES_MAX: usize = 8;
/// Coordinators that are taken of one user.
const COORDINATORS_MAX: usize = 8;

/// One device, as both lists show it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    peer_id: String,
    #[serde(default)]
    signal_address: Option<String>,
    #[serde(default)]
    last_seen: Option<i64>,
    #[serde(default)]
    record: Option<String>,
}

/// `GET /network/{networkId}/peer/{userId}`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PeerAnswer {
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    last_coordinators: Vec<String>,
}

/// `GET /network/{networkId}/active-peers`
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    peers: Vec<Device>,
}

/// `POST /network/{networkId}/announce`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnnounceBody<'a> {
    pub(super) peer_id: String,
    pub(super) signal_address: &'a str,
    pub(super) capabilities: &'a [String],
    pub(super) record: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) leaving: bool,
}

/// What a registry says about a refusal: `{"error": {"code", "message"}}`, or `{"error": code}`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    error: Reason,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reason {
    Full {
        code: String,
        #[serde(default)]
        message: String,
    },
    Code(String),
}

impl Default for Reason {
    fn default() -> Self {
        Self::Code(String::new())
    }
}

impl Refusal {
    /// For programs.
    pub(super) fn code(&self) -> &str {
        match &self.error {
            Reason::Full { code, .. } | Reason::Code(code) => code,
        }
    }

    /// For people: printable and not long, whatever the server sent.
    pub(super) fn text(&self) -> String {
        let text = match &self.error {
            Reason::Full { code, message } => format!("{code}: {message}"),
            Reason::Code(code) => code.clone(),
        };
        text.chars().filter(|c| !c.is_control()).take(limits::TEXT_MAX).collect()
    }
}

impl Device {
    /// `None` if the entry is of no use: it names no device, an address that is none, or its record is
    /// larger than a record can be.
    ///
    /// A device without an address is reached through `home`, the registry's own socket. A record that
    /// is not canonical base64url is left out; the node could not verify it anyway.
    fn into_route(self, home: &str) -> Option<Route> {
        let peer: PeerId = self.peer_id.parse().ok()?;
        let address = match self.signal_address.as_deref() {
            None | Some("") => SignalAddress::socket(home, peer).ok()?,
            Some(text) => text.parse().ok()?,
        };
        let mut route = Route::new(peer, address);
        route.record = self.record.and_then(|text| base64url::decode(&text).ok()).map(Bytes::from);
        if route.record.as_ref().is_some_and(|record| record.len() > limits::RECORD_MAX) {
            return None;
        }
        route.last_seen = self.last_seen.map(WallTime::from_millis);
        Some(route)
    }
}

impl PeerAnswer {
    /// The user's devices, and the coordinators that last kept its mail.
    pub(super) fn into_parts(self, home: &str) -> (Vec<Route>, Vec<PeerId>) {
        let routes = self.devices.into_iter().filter_map(|d| d.into_route(home)).take(DEVICES_MAX).collect();
        let coordinators =
            self.last_coordinators.iter().filter_map(|text| text.parse().ok()).take(COORDINATORS_MAX).collect();
        (routes, coordinators)
    }
}

impl Page {
    /// The members that can be recognised: those with a record.
    pub(super) fn into_routes(self, home: &str, limit: usize) -> Vec<Route> {
        self.peers.into_iter().filter_map(|d| d.into_route(home)).filter(|r| r.record.is_some()).take(limit).collect()
    }
}
