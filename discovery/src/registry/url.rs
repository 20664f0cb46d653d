//! The registry's URLs. What stands in them is also signed (`htu` of a proof), so they are built once,
//! in one canonical form.

use std::fmt::Write as _;

use url::Url;

use crate::ConfigError;

/// `http(s)://host:port[/prefix]`, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Url(text.chars().take(80).collect());
        let url = Url::parse(text).map_err(|_| wrong())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain { Ok(Self(url.as_str().trim_end_matches('/').to_owned())) } else { Err(wrong()) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The same server's WebSocket: `ws` for `http`, `wss` for `https`.
    pub(super) fn socket(&self) -> String {
        self.0.replacen("http", "ws", 1)
    }

    /// `{base}/{segment}/{segment}...`, every segment percent-encoded; `None` if one of them cannot
    /// stand in a URL: `.` and `..` mean something else there, encoded or not.
    pub(super) fn join(&self, segments: &[&str]) -> Option<String> {
        let mut url = self.0.clone();
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return None;
            }
            url.push('/');
            for byte in segment.bytes() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    url.push(char::from(byte));
                } else {
                    let _ = write!(url, "%{byte:02X}");
                }
            }
        }
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_plain_server() {
        for (text, base, socket) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
            ("https://Registry.example/", "https://registry.example", "wss://registry.example"),
            ("https://h/byway/", "https://h/byway", "wss://h/byway"),
        ] {
            let parsed = Base::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.socket().as_str()), (base, socket));
        }
        for wrong in ["", "registry.example", "ftp://h", "ws://h", "http://u:p@h", "http://h/?q", "http://h/#f"] {
            assert!(Base::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_segment_is_encoded_whole() {
        let base = Base::parse("http://h:1").unwrap();
        let url = |user: &str| base.join(&["network", "team", "peer", user]);
        assert_eq!(url("alice").unwrap(), "http://h:1/network/team/peer/alice");
        assert_eq!(
            url("../a b?c#d%e+\u{fc}&").unwrap(),
            "http://h:1/network/team/peer/..%2Fa%20b%3Fc%23d%25e%2B%C3%BC%26"
        );
        // what is signed is what is sent: parsing changes nothing
        let odd = url("a;b=c@d:e!$'()*,[]{}|\\^`\"<>").unwrap();
        assert_eq!(Url::parse(&odd).unwrap().as_str(), odd);
    }

    #[test]
    fn a_user_called_dot_dot_does_not_climb_out_of_the_path() {
        let base = Base::parse("http://h:1").unwrap();
        assert_eq!(base.join(&["network", "team", "peer", ".."]), None);
        assert_eq!(base.join(&["network", ".", "announce"]), None);
    }
}
