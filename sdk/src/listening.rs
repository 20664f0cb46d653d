//! The listener that a configuration asks for: checked early, opened late, its port kept over restarts.

use std::net::SocketAddr;
#[cfg(feature = "listener")]
use std::sync::Arc;

#[cfg(feature = "listener")]
use byway_api::{Durability, Load, Membership, Retry, RouteStore, Row, StoreError, Write};
use byway_api::{PeerId, SignalAddress};

use crate::error::{Part, Problem};
#[cfg(feature = "listener")]
use crate::listener::{Listener, ListenerConfig};

/// The port that was chosen when any was asked for.
#[cfg(feature = "listener")]
const PORT: &str = "listener/port";

/// A listener that is wanted.
#[derive(Debug)]
#[cfg_attr(not(feature = "listener"), expect(dead_code, reason = "there is nothing to open"))]
pub(crate) struct Listening {
    address: SocketAddr,
    advertise: Vec<String>,
}

impl Listening {
    /// Checks what can be checked without opening anything.
    pub(crate) fn check(address: Option<String>, advertise: Vec<String>, problems: &mut Vec<Problem>) -> Option<Self> {
        let part = Part::Listener;
        let Some(address) = address else {
            if !advertise.is_empty() {
                let advice = "add .listener(\"0.0.0.0:0\"), or take .advertise(..) out";
                problems.push(Problem::new(part, "an address is advertised and there is no listener", advice));
            }
            return None;
        };
        if !cfg!(feature = "listener") {
            let advice = "build byway with the feature `listener`";
            problems.push(Problem::new(part, "this build has no listener", advice));
            return None;
        }
        for url in &advertise {
            if let Err(error) = SignalAddress::socket(url, PeerId::from_bytes([0; 32])) {
                let text = format!("{url:?} cannot be advertised: {error}");
                problems.push(Problem::new(part, text, "give a URL of the form ws://host:port"));
            }
        }
        match address.parse() {
            Ok(address) => Some(Self { address, advertise }),
            Err(_) => {
                let text = format!("{address:?} is not an address to listen at");
                problems.push(Problem::new(part, text, "give an IP address and a port: \"0.0.0.0:0\""));
                None
            }
        }
    }

    /// Takes the port: the one that was asked for, else the one of the last run, else any.
    #[cfg(feature = "listener")]
    pub(crate) async fn open(
        self,
        membership: Arc<dyn Membership>,
        store: &dyn RouteStore,
    ) -> Result<Listener, Problem> {
        let mut config = ListenerConfig::new(self.address);
        config.advertise = self.advertise;
        let any = self.address.port() == 0;
        if any && let Some(port) = remembered(store).await {
            config.bind.set_port(port);
            config.or_any_port = true;
        }
        let wanted = config.bind.port();
        let listener = Listener::bind(config, membership).await.map_err(|error| {
            Problem::new(Part::Listener, error.to_string(), error.advice()).with_retry(Retry::Later)
        })?;
        let port = listener.local_addr().port();
        if any && port != wanted {
            if wanted != 0 {
                tracing::warn!(target: "byway::listener", wanted, port, "the port of the last run is in use; members may have to find us anew");
            }
            if let Err(error) = remember(store, port).await {
                tracing::warn!(target: "byway::listener", port, %error, "the port cannot be remembered");
            }
        }
        Ok(listener)
    }
}

#[cfg(feature = "listener")]
async fn remembered(store: &dyn RouteStore) -> Option<u16> {
    let rows = store.load(Load::Meta { prefix: PORT.to_owned() }, None, 1).await.ok()?;
    rows.into_iter().find_map(|(_, row)| match row {
        Row::Meta { key, value } if key == PORT => value.as_ref().try_into().ok().map(u16::from_be_bytes),
        _ => None,
    })
}

#[cfg(feature = "listener")]
async fn remember(store: &dyn RouteStore, port: u16) -> Result<(), StoreError> {
    let value = bytes::Bytes::copy_from_slice(&port.to_be_bytes());
    let write = Write::Meta { key: PORT.to_owned(), value: Some(value), durability: Durability::Relaxed };
    store.apply(&[write]).await.map(drop)
}
