use std::sync::Arc;

use bytes::Bytes;
use byway_api::{Carried, PeerId, Sealed, SignalAddress, SignalContext};
use byway_socket::{Client, Incoming};
use byway_wire::peek;
use tokio::sync::{mpsc, watch};

use super::CarrierConfig;

/// What every socket task of a carrier has in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cx: SignalContext,
    pub(super) config: Arc<CarrierConfig>,
    pub(super) inbox: mpsc::Sender<Carried>,
    /// Rises when our network has changed.
    pub(super) network: watch::Receiver<u64>,
    pub(super) closing: watch::Receiver<bool>,
}

impl Shared {
    /// Returns when the carrier closes, or is dropped.
    pub(super) async fn closing(&self) {
        let mut closing = self.closing.clone();
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// Reads the socket until it ends, handing its mail on; `used` hears of each envelope.
    ///
    /// While the inbox is full nothing is read, so a sender that floods is slowed down and holds up
    /// only itself.
    pub(super) async fn hand_on(&self, client: &Client, base: &str, used: impl Fn()) {
        while let Some(incoming) = client.recv().await {
            let Incoming::Mail { from, envelope } = incoming else { continue };
            let Some(mail) = self.carried(base, from, envelope) else { continue };
            used();
            if self.inbox.send(mail).await.is_err() {
                return;
            }
        }
    }

    fn carried(&self, base: &str, from: PeerId, envelope: Bytes) -> Option<Carried> {
        if !peek(&envelope).is_ok_and(|head| head.to == self.cx.me) {
            tracing::debug!(target: "byway::carrier", base, ?from, "dropped what is no envelope for this device");
            return None;
        }
        let back = SignalAddress::socket(base, from).ok()?;
        Some(Carried { mail: Sealed { to: self.cx.me, envelope }, back })
    }
}
