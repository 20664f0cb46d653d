use std::time::Duration;

use crate::Tls;

/// How the registry is called.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistryConfig {
    /// How long a TCP and TLS connection may take (3 s).
    pub connect_timeout: Duration,
    /// How long a lookup of one user may take (1 s: a little less than the ladder waits for this step,
    /// so that the step itself sees that the time is up).
    pub find_timeout: Duration,
    /// How long an announcement or a page may take (10 s).
    pub call_timeout: Duration,
    /// How long the registry is left alone after nobody answered (30 s), unless its socket is open.
    pub down_for: Duration,
    /// The longest pause that the registry may ask for with `Retry-After` (5 min).
    pub longest_pause: Duration,
    /// Members in the one page that is read per node start (150; at most 200. With every record at its
    /// largest 150 members just fit into the 1 MiB that is read of an answer).
    pub page: u16,
    /// How long a call waits for another one that is getting the first nonce (500 ms).
    pub nonce_patience: Duration,
    /// How an `https:` registry is recognised; `None` is [`Tls::native_roots`].
    pub tls: Option<Tls>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            find_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_secs(10),
            down_for: Duration::from_secs(30),
            longest_pause: Duration::from_secs(300),
            page: 150,
            nonce_patience: Duration::from_millis(500),
            tls: None,
        }
    }
}
