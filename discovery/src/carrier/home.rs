use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{PeerId, Proof, Prover, SignalError, SignalErrorKind};
use byway_socket::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::open::{Opening, canonical, is_same_server};
use super::shared::Shared;
use super::{CarrierConfig, NAME};
#[cfg(feature = "registry")]
use crate::RegistryClient;
use crate::server::Server;
use crate::{ConfigError, Tls};

/// A server to which the carrier keeps one socket open while the node runs, so that others can reach
/// this device there: the registry.
#[derive(Debug)]
pub struct Home {
    base: String,
    server: Arc<Server>,
    tls: Option<Tls>,
    #[cfg(feature = "registry")]
    client: Option<Arc<RegistryClient>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
enum State {
    Connecting,
    Up(Arc<Client>),
    Down(String),
}

/// Why a socket that was up is no more.
enum End {
    Closing,
    NewNetwork,
    /// The socket ended, and whether connecting again makes sense.
    Lost {
        temporary: bool,
    },
}

impl Home {
    /// A home at `url` (`ws(s)://host:port[/prefix]`; `http(s)` means the same).
    ///
    /// # Errors
    /// [`ConfigError::Url`] if that is no server's URL.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let base = canonical(url).ok_or_else(|| ConfigError::Url(url.chars().take(80).collect()))?;
        let server = Arc::new(Server::new(base.clone(), CarrierConfig::default().backoff_max));
        Ok(Self {
            base,
            server,
            tls: None,
            #[cfg(feature = "registry")]
            client: None,
            state: watch::Sender::new(State::Down("not attached yet".into())),
        })
    }

    #[cfg(feature = "registry")]
    pub(crate) fn of_registry(client: Arc<RegistryClient>) -> Self {
        Self {
            base: client.socket_base().to_owned(),
            server: Arc::clone(client.server()),
            tls: Some(client.tls().clone()),
            client: Some(client),
            state: watch::Sender::new(State::Down("not attached yet".into())),
        }
    }

    /// Its URL: `ws(s)://host[:port][/prefix]`.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Socket connects so far, failed ones included; a registry's HTTP calls as well.
    pub fn calls(&self) -> u64 {
        self.server.calls()
    }

    /// Envelopes sent over its socket so far.
    pub fn signals(&self) -> u64 {
        self.server.signals()
    }

    pub(super) fn lend(&self, prover: &Arc<dyn Prover>) {
        #[cfg(feature = "registry")]
        if let Some(client) = &self.client {
            client.attach(Arc::clone(prover));
        }
        #[cfg(not(feature = "registry"))]
        let _ = prover;
        self.state.send_replace(State::Connecting);
    }

    pub(super) fn network_changed(&self) {
        self.server.network_changed();
    }

    /// Sends over the socket; waits for at most `patience` while it is being opened.
    pub(super) async fn send(&self, to: PeerId, envelope: Bytes, patience: Duration) -> Result<(), SignalError> {
        let unreachable = |why: &str| {
            SignalError::new(SignalErrorKind::Unreachable, NAME, format!("the socket to {}: {why}", self.base))
        };
        let mut state = self.state.subscribe();
        let client = match timeout(patience, state.wait_for(|s| !matches!(s, State::Connecting))).await {
            Ok(Ok(state)) => match &*state {
                State::Up(client) => Arc::clone(client),
                State::Down(why) => return Err(unreachable(why)),
                State::Connecting => return Err(unreachable("still connecting")),
            },
            _ => return Err(unreachable("still connecting")),
        };
        self.server.count_signal();
        client.send(to, envelope).await
    }

    /// Keeps the socket open until the carrier closes.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        let mut backoff = Backoff::new(shared.config.backoff, shared.config.backoff_max);
        let mut network = shared.network.clone();
        let mut paid = false;
        loop {
            if !std::mem::take(&mut paid)
                && let Err(e) = shared.cx.meter.spend("socket")
            {
                self.state.send_replace(State::Down(e.to_string()));
                tokio::select! {
                    () = shared.closing() => break,
                    () = sleep(shared.config.meter_wait) => {}
                }
                continue;
            }
            self.state.send_replace(State::Connecting);
            let opened = tokio::select! {
                biased;
                () = shared.closing() => break,
                opened = self.open(&shared) => opened,
            };
            let why = match opened {
                Ok(client) => {
                    let since = Instant::now();
                    let end = self.serve(&shared, Arc::new(client), &mut network).await;
                    if since.elapsed() >= shared.config.backoff_max {
                        backoff.reset();
                    }
                    match end {
                        End::Closing => break,
                        End::NewNetwork => {
                            paid = true;
                            continue;
                        }
                        End::Lost { temporary } => {
                            if !temporary {
                                backoff.give_up_hope();
                            }
                            "it has ended; connecting again soon".to_owned()
                        }
                    }
                }
                Err(e) => {
                    match e.kind() {
                        SignalErrorKind::Unreachable | SignalErrorKind::LocalFault => {
                            self.server.is_down(e.to_string())
                        }
                        SignalErrorKind::Refused => backoff.give_up_hope(),
                        _ => {}
                    }
                    tracing::debug!(target: "byway::carrier", home = %self.base, error = %e, "no socket");
                    e.to_string()
                }
            };
            self.state.send_replace(State::Down(why));
            tokio::select! {
                biased;
                () = shared.closing() => break,
                // a change while we were connecting counts as well
                _ = network.changed() => backoff.reset(),
                () = sleep(backoff.next()) => {}
            }
        }
        self.state.send_replace(State::Down("closed".into()));
    }

    async fn open(&self, shared: &Shared) -> Result<Client, SignalError> {
        self.server.count_call();
        // the challenge carries a nonce that HTTP calls can use: let them wait for it
        let _seeking = self.server.seek_nonce();
        let prover = Noting { server: Arc::clone(&self.server), prover: Arc::clone(&shared.cx.prover) };
        let me = shared.cx.me;
        let opening = Opening {
            base: &self.base,
            me,
            tls: self.tls.as_ref().or(shared.config.tls.as_ref()),
            connect_timeout: shared.config.connect_timeout,
            socket: shared.config.socket.clone(),
        };
        opening.open(&prover, |target| is_same_server(target, &self.base, me)).await
    }

    async fn serve(&self, shared: &Shared, client: Arc<Client>, network: &mut watch::Receiver<u64>) -> End {
        let up = Up::new(&self.server);
        self.state.send_replace(State::Up(Arc::clone(&client)));
        let end = {
            let reading = shared.hand_on(&client, &self.base, || {});
            tokio::pin!(reading);
            loop {
                tokio::select! {
                    biased;
                    () = shared.closing() => break End::Closing,
                    // the old network's connection may be dead without knowing it; it is given up
                    // only if there is a token for a new one
                    _ = network.changed() => if shared.cx.meter.spend("socket").is_ok() { break End::NewNetwork },
                    () = &mut reading => break End::Lost { temporary: client.ended().is_none_or(|why| why.is_temporary()) },
                }
            }
        };
        self.state.send_replace(State::Connecting);
        drop(up);
        client.close().await;
        end
    }
}

/// The socket is open as long as this lives.
struct Up<'a>(&'a Server);

impl<'a> Up<'a> {
    fn new(server: &'a Server) -> Self {
        server.socket(true);
        Self(server)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.socket(false);
    }
}

/// Notes the nonce of the challenge on its way.
#[derive(Debug)]
struct Noting {
    server: Arc<Server>,
    prover: Arc<dyn Prover>,
}

impl Prover for Noting {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        self.server.remember_nonce(nonce);
        self.prover.prove(method, target, nonce)
    }
}
