//! Opening a socket: connection, TLS, WebSocket upgrade, proof.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{PeerId, Prover, SignalError, SignalErrorKind};
use byway_socket::{Client, ClientConfig, over_websocket, websocket_config};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use super::NAME;
use crate::{ConfigError, Tls};

/// `ws(s)://host[:port][/prefix]` in its one form: lower-case host, no default port, no slash at the end.
/// `http(s)` is taken as `ws(s)`. `None` if it is no such thing.
pub(super) fn canonical(base: &str) -> Option<String> {
    let (scheme, default_port) = match base.split_once("://")?.0 {
        "ws" | "http" => ("ws", 80),
        "wss" | "https" => ("wss", 443),
        _ => return None,
    };
    if base.contains(['?', '#', '@']) {
        return None;
    }
    let uri: Uri = base.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    let authority = uri.authority()?.as_str();
    let port = match uri.port_u16() {
        Some(port) if port == default_port => String::new(),
        Some(port) => format!(":{port}"),
        // "host:" and "host:99999" have a colon behind the host and no port
        None if authority.len() != host.len() => return None,
        None => String::new(),
    };
    Some(format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/')))
}

/// True if a proof for `target` is good for nothing but this server: its URL as we dialled it, with or
/// without the device in it.
pub(super) fn is_same_server(target: &str, base: &str, me: PeerId) -> bool {
    let target = target.strip_suffix(&format!("/{me}")).unwrap_or(target);
    canonical(target).as_deref() == Some(base)
}

/// What it takes to open a socket.
pub(super) struct Opening<'a> {
    /// Canonical.
    pub(super) base: &'a str,
    pub(super) me: PeerId,
    pub(super) tls: Option<&'a Tls>,
    pub(super) connect_timeout: Duration,
    pub(super) socket: ClientConfig,
}

impl Opening<'_> {
    /// Opens the socket. `prover` proves for a target that `accepts` takes, and for no other.
    pub(super) async fn open(
        self,
        prover: &dyn Prover,
        accepts: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Client, SignalError> {
        let base = self.base.to_owned();
        let limit = self.connect_timeout;
        match timeout(limit, Box::pin(self.attach(prover, accepts))).await {
            Ok(opened) => opened,
            Err(_) => {
                let detail = format!("{base} did not answer within {} ms", limit.as_millis());
                Err(SignalError::new(SignalErrorKind::Unreachable, NAME, detail))
            }
        }
    }

    async fn attach(
        self,
        prover: &dyn Prover,
        accepts: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Client, SignalError> {
        let connector = self
            .connector()
            .map_err(|e| SignalError::new(SignalErrorKind::Unreachable, NAME, self.base).with_source(e))?;
        let url = format!("{}/{}", self.base, self.me);
        let (websocket, _) = connect_async_tls_with_config(url, Some(websocket_config()), true, Some(connector))
            .await
            .map_err(|e| refused(self.base, e))?;
        Client::connect(over_websocket(websocket), prover, accepts, self.socket).await
    }

    fn connector(&self) -> Result<Connector, ConfigError> {
        if !self.base.starts_with("wss:") {
            return Ok(Connector::Plain);
        }
        let tls = match self.tls {
            Some(tls) => tls.clone(),
            None => Tls::native_roots()?,
        };
        Ok(Connector::Rustls(Arc::clone(&tls.for_socket())))
    }
}

fn refused(base: &str, e: Error) -> SignalError {
    use io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable};
    let (kind, detail) = match &e {
        Error::Io(io) if matches!(io.kind(), NetworkUnreachable | NetworkDown | AddrNotAvailable) => {
            (SignalErrorKind::LocalFault, format!("connecting to {base}"))
        }
        Error::Http(answer) => match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (SignalErrorKind::Refused, format!("{base} lets us not in"))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                (SignalErrorKind::Busy, format!("{base} has no place now"))
            }
            _ => (SignalErrorKind::Unreachable, format!("{base} serves no signalling socket; check the URL")),
        },
        Error::Tls(_) => (SignalErrorKind::Unreachable, format!("{base} cannot be verified; check its certificate")),
        _ => (SignalErrorKind::Unreachable, format!("connecting to {base}")),
    };
    SignalError::new(kind, NAME, detail).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_name() {
        for (text, name) in [
            ("ws://Host:80/", "ws://host"),
            ("http://host", "ws://host"),
            ("wss://host:443", "wss://host"),
            ("https://host:444/byway/", "wss://host:444/byway"),
            ("ws://127.0.0.1:9", "ws://127.0.0.1:9"),
            ("ws://[::1]:9", "ws://[::1]:9"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(name), "{text}");
        }
        for wrong in ["", "host:1", "ftp://h", "ws://", "ws://u@h", "ws://h?q", "ws://h#f", "ws://h:99999", "ws://h:"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_proof_is_made_for_the_server_that_was_dialled() {
        let me = PeerId::from_bytes([1; 32]);
        for same in ["ws://h:1".to_owned(), "http://H:1/".to_owned(), format!("ws://h:1/{me}")] {
            assert!(is_same_server(&same, "ws://h:1", me), "{same}");
        }
        let other = PeerId::from_bytes([2; 32]);
        for elsewhere in ["wss://h:1".to_owned(), "ws://i:1".to_owned(), format!("ws://h:1/{other}"), me.to_string()] {
            assert!(!is_same_server(&elsewhere, "ws://h:1", me), "{elsewhere}");
        }
    }
}
