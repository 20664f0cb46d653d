//! What the registry is called, which is what proofs are bound to.

use std::net::{IpAddr, SocketAddr};

/// The registry's URL without a slash at the end, for calls and for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) http: String,
    pub(crate) ws: String,
}

impl Base {
    /// From `http(s)://host[:port][/prefix]`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let http = url.trim_end_matches('/');
        let rest = http.strip_prefix("http://").or_else(|| http.strip_prefix("https://"));
        let plain = rest.is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\"\\".contains(&b))
        });
        if !plain || http.len() > 160 {
            return Err(format!(
                "the public URL is http(s)://host[:port][/prefix], at most 160 characters; got {url:?}"
            ));
        }
        Ok(Self { http: http.to_owned(), ws: http.replacen("http", "ws", 1) })
    }

    /// What a client calls us that comes in over a connection to `local` and says `host`.
    ///
    /// A name that anybody could make up is not believed: someone in the middle could let a client make
    /// a proof for the middle's own name and use it here. What is believed is the address of the
    /// connection itself, and `localhost` on a loopback address.
    pub(crate) fn of_connection(local: SocketAddr, host: Option<&str>) -> Self {
        let ip = local.ip().to_canonical();
        let local = SocketAddr::new(ip, local.port());
        let localhost = host.filter(|host| ip.is_loopback() && *host == format!("localhost:{}", local.port()));
        let bare = host.filter(|host| {
            local.port() == 80
                && (host.trim_matches(['[', ']']).parse::<IpAddr>() == Ok(ip)
                    || (ip.is_loopback() && *host == "localhost"))
        });
        let host = localhost.or(bare).map_or_else(|| local.to_string(), str::to_owned);
        Self { http: format!("http://{host}"), ws: format!("ws://{host}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url() {
        let base = Base::parse("https://registry.example/byway/").unwrap();
        assert_eq!((&*base.http, &*base.ws), ("https://registry.example/byway", "wss://registry.example/byway"));
        for wrong in
            ["", "registry.example", "ws://h", "http://", "http:///x", "http://h/?q", "http://u@h", "http://h h"]
        {
            assert!(Base::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_names_that_cannot_be_made_up_are_believed() {
        let at = |local: &str, host: &str| Base::of_connection(local.parse().unwrap(), Some(host)).http;
        assert_eq!(at("127.0.0.1:8080", "127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(at("127.0.0.1:8080", "localhost:8080"), "http://localhost:8080");
        assert_eq!(at("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(at("[::1]:8080", "[::1]:8080"), "http://[::1]:8080");
        assert_eq!(at("192.0.2.1:80", "192.0.2.1"), "http://192.0.2.1");
        assert_eq!(at("192.0.2.1:8080", "mallory.example"), "http://192.0.2.1:8080");
        assert_eq!(at("192.0.2.1:8080", "localhost:8080"), "http://192.0.2.1:8080");
    }
}
