//! The signalling socket: axum's WebSocket in front of the hub.

use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Error;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use byway_api::PeerId;
use byway_socket::{Arrival, Closed, Device, Packet, Routed, SignalBus, Socket};
use byway_wire::limits;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use crate::app::{App, Upgraded};
use crate::auth::{origin, too_fast};
use crate::problem::Problem;

/// What a connection reads at once. The default of 128 KiB costs 143 KB a connection, this 14 KB.
const READ_BUFFER: usize = 4 * 1024;

/// `GET /{peerId}` with an upgrade.
pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let Path(name) = path?;
    let upgrade = match (upgrade, name.parse::<PeerId>()) {
        (Ok(upgrade), Ok(claimed)) => (upgrade, claimed),
        (_, Err(_)) => return Ok(unknown().await.into_response()),
        (Err(e), Ok(_)) => {
            let message = format!("{e}; this is the signalling socket: connect with a WebSocket");
            return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message));
        }
    };
    let (upgrade, claimed) = upgrade;
    let (ip, base) = origin(&parts, &app)?;
    app.failed_auths.check(&ip).map_err(|wait| too_fast(&wait))?;
    app.ip_calls.take(&ip).map_err(|wait| too_fast(&wait))?;
    let mut arrival = Arrival::new(claimed);
    arrival.from = Some(ip);
    arrival.host = Some(base.ws);
    let upgraded = Upgraded::new(app);
    let response = upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * limits::SOCKET_FRAME_MAX)
        .max_message_size(limits::SOCKET_FRAME_MAX)
        .max_frame_size(limits::SOCKET_FRAME_MAX)
        .on_upgrade(move |websocket| async move {
            let app = upgraded.app();
            let served = Box::pin(app.hub.serve(adapted(websocket), arrival)).await;
            app.metrics.socket_closed(&served.closed);
            let unproved = matches!(served.closed, Closed::Refused(_) | Closed::TooLate | Closed::Malformed(_));
            if unproved && served.device.is_none() {
                let _ = app.failed_auths.take(&ip);
                app.metrics.failed_auth();
            }
        });
    Ok(response)
}

/// Every other path.
pub(crate) async fn unknown() -> Problem {
    ready(Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is no such call; see sdk/docs/protocol.md, section Registry, and percent-encode user ids",
    ))
    .await
}

/// A known path with another method.
pub(crate) async fn wrong_method() -> Problem {
    ready(Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "use GET for active-peers and peer, POST for announce and heartbeat, and a WebSocket for /{peerId}",
    ))
    .await
}

fn adapted(websocket: WebSocket) -> impl Socket<Error> {
    websocket
        .filter_map(|message| {
            ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(Packet::Frame(bytes))),
                Ok(Message::Text(text)) => Some(Ok(Packet::Frame(Bytes::from(text)))),
                Ok(Message::Ping(_)) => Some(Ok(Packet::Ping)),
                Ok(Message::Pong(_)) => Some(Ok(Packet::Pong)),
                Ok(Message::Close(_)) => None,
                Err(error) => Some(Err(error)),
            })
        })
        .with(|packet| {
            ready(Ok::<_, Error>(match packet {
                Packet::Frame(bytes) => Message::Binary(bytes),
                Packet::Ping => Message::Ping(Bytes::new()),
                Packet::Pong => Message::Pong(Bytes::new()),
                Packet::Close(code) => Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static("") })),
            }))
        })
}

/// Notes who comes and goes, so that the list of active peers can be kept, and passes on to the
/// bus that joins several registries, if there is one.
#[derive(Debug)]
pub(crate) struct Attendance {
    pub(crate) seen: mpsc::Sender<Device>,
    pub(crate) others: Option<Arc<dyn SignalBus>>,
}

impl Attendance {
    /// What does not fit is caught up with by the next cleanup.
    fn note(&self, device: &Device) {
        let _ = self.seen.try_send(device.clone());
    }
}

#[async_trait]
impl SignalBus for Attendance {
    fn attached(&self, device: &Device, generation: u64) {
        self.note(device);
        if let Some(others) = &self.others {
            others.attached(device, generation);
        }
    }

    fn detached(&self, device: &Device, generation: u64) {
        self.note(device);
        if let Some(others) = &self.others {
            others.detached(device, generation);
        }
    }

    async fn route(&self, to: &Device, from: PeerId, envelope: Bytes) -> Routed {
        match &self.others {
            Some(others) => others.route(to, from, envelope).await,
            None => Routed::NoSuchPeer,
        }
    }
}
