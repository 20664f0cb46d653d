use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_api::{Announcement, Meter, NetworkId, PeerId, Prover, Query, Route, StepError, StepErrorKind};
use byway_wire::base64url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::RegistryConfig;
use super::answer::{AnnounceBody, Page, PeerAnswer, Refusal};
use super::url::Base;
use crate::server::Server;
use crate::{ConfigError, Home, Tls};

/// What is read of a page of members.
const PAGE_MAX: usize = 1 << 20;
/// What is read of the answer about one user: 8 devices with the largest records, and room to spare.
const PEER_MAX: usize = 128 << 10;
/// What is read of any other answer.
const SMALL_MAX: usize = 16 << 10;
/// The header of RFC 9449 that carries the proof, and the one with the next nonce.
const DPOP: &str = "DPoP";
const DPOP_NONCE: &str = "DPoP-Nonce";

/// A client of one registry (`sdk/docs/protocol.md`, "Registry"), shared by the
/// [`RegistryStep`](crate::RegistryStep) and, as [`home`](Self::home), by the socket carrier.
///
/// # Calls
/// * Every HTTP call takes a token from the [`Meter`] first and is counted in [`calls`](Self::calls).
/// * Nothing is retried, with one exception: a call that the registry refused only because its nonce was
///   missing or old (401 `use_dpop_nonce`) is made once more with the nonce of that answer, for another
///   token. Nonces come with every answer and with the socket's challenge, and calls made at the same
///   time wait for each other's first one, so this happens about once per node start.
/// * A registry that refused the connection or did not answer in time is *known to be down*: for
///   [`RegistryConfig::down_for`] every call fails at once with `KnownDown`, takes no token and sends
///   nothing. An open socket, an answer, or [`network_changed`](Self::network_changed) ends that.
/// * 429 and 5xx make it known to be down for as long as their `Retry-After` says (in seconds, at most
///   [`RegistryConfig::longest_pause`]; without one [`RegistryConfig::down_for`]); only time ends that.
/// * No connection is kept between calls: they are minutes apart, and an idle one costs the registry memory.
/// * Redirects are not followed and no HTTP proxy is used: a proof is good for one URL.
/// * At most 1 MiB of an answer is read.
///
/// # Cancellation
/// Dropping a call closes or abandons its request; the token is spent.
pub struct RegistryClient {
    base: Base,
    socket_base: String,
    http: reqwest::Client,
    config: RegistryConfig,
    tls: Tls,
    server: Arc<Server>,
    prover: Mutex<Option<Arc<dyn Prover>>>,
    page_read: AtomicBool,
}

impl RegistryClient {
    /// A client of the registry at `url` (`http(s)://host:port[/prefix]`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`] if the URL is none or TLS cannot be set up.
    pub fn new(url: &str, config: RegistryConfig) -> Result<Arc<Self>, ConfigError> {
        let base = Base::parse(url)?;
        let tls = match &config.tls {
            Some(tls) => tls.clone(),
            None => Tls::native_roots()?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.for_http())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("byway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ConfigError::Tls(chain(&e)))?;
        Ok(Arc::new(Self {
            socket_base: base.socket(),
            server: Arc::new(Server::new(base.as_str().to_owned(), config.down_for)),
            base,
            http,
            config,
            tls,
            prover: Mutex::new(None),
            page_read: AtomicBool::new(false),
        }))
    }

    /// Lends the client what proves who we are, and marks the start of a node: one page may be read
    /// again. The carrier does this when it is attached. Before that every call fails.
    pub fn attach(&self, prover: Arc<dyn Prover>) {
        *self.prover.lock().unwrap_or_else(PoisonError::into_inner) = Some(prover);
        self.page_read.store(false, Ordering::Relaxed);
    }

    /// This registry as a home of the [`SocketCarrier`](crate::SocketCarrier); for one carrier at a time.
    pub fn home(self: &Arc<Self>) -> Home {
        Home::of_registry(Arc::clone(self))
    }

    /// The registry's URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// HTTP calls and socket connects so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.server.calls()
    }

    /// Envelopes sent over its socket so far.
    pub fn signals(&self) -> u64 {
        self.server.signals()
    }

    /// Whether its socket is open.
    pub fn socket_is_up(&self) -> bool {
        self.server.socket_is_up()
    }

    /// Our network has changed: forget that nobody answered.
    pub fn network_changed(&self) {
        self.server.network_changed();
    }

    pub(crate) fn socket_base(&self) -> &str {
        &self.socket_base
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The devices of one user and the coordinators that last kept its mail. An unknown user has none.
    pub(super) async fn peer(&self, query: &Query, meter: &dyn Meter) -> Result<(Vec<Route>, Vec<PeerId>), StepError> {
        let url = self.url_of(&["network", query.network.as_str(), "peer", query.user.as_str()])?;
        let call = Call {
            what: "find",
            method: Method::GET,
            query: String::new(),
            body: None,
            limit: PEER_MAX,
            timeout: self.config.find_timeout,
        };
        let answer = self.call(meter, &url, call).await?;
        let found: PeerAnswer = match answer.status {
            StatusCode::NOT_FOUND => PeerAnswer::default(),
            _ => self.read("find", answer)?,
        };
        Ok(found.into_parts(&self.socket_base))
    }

    /// One page of members; nothing if one was read since the start of the node.
    pub(super) async fn first_page(&self, network: &NetworkId, meter: &dyn Meter) -> Result<Vec<Route>, StepError> {
        if self.page_read.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let page = self.page(network, meter).await;
        if page.is_err() {
            self.page_read.store(false, Ordering::Relaxed);
        }
        page
    }

    async fn page(&self, network: &NetworkId, meter: &dyn Meter) -> Result<Vec<Route>, StepError> {
        let url = self.url_of(&["network", network.as_str(), "active-peers"])?;
        let call = Call {
            what: "page",
            method: Method::GET,
            query: format!("?limit={}", self.config.page),
            body: None,
            limit: PAGE_MAX,
            timeout: self.config.call_timeout,
        };
        let page: Page = self.read("page", self.call(meter, &url, call).await?)?;
        Ok(page.into_routes(&self.socket_base, self.config.page.into()))
    }

    /// Announces our device, or that it leaves.
    pub(super) async fn announce(&self, me: &Announcement, meter: &dyn Meter) -> Result<(), StepError> {
        let url = self.url_of(&["network", me.network.as_str(), "announce"])?;
        let through_us = format!("{}/{}", self.socket_base, me.peer);
        let address = me.addresses.iter().find(|a| a.is_socket()).or(me.addresses.first());
        let body = AnnounceBody {
            peer_id: me.peer.to_string(),
            signal_address: address.map_or(through_us.as_str(), |a| a.as_str()),
            capabilities: &me.capabilities,
            record: base64url::encode(&me.record),
            leaving: me.leaving,
        };
        let body = serde_json::to_vec(&body)
            .map_err(|e| error(StepErrorKind::Other, "the announcement cannot be written").with_source(e))?;
        let call = Call {
            what: "announce",
            method: Method::POST,
            query: String::new(),
            body: Some(body.into()),
            limit: SMALL_MAX,
            timeout: self.config.call_timeout,
        };
        let answer = self.call(meter, &url, call).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refusal("announce", &answer)) }
    }

    fn url_of(&self, segments: &[&str]) -> Result<String, StepError> {
        self.base.join(segments).ok_or_else(|| {
            error(StepErrorKind::Refused, "a network or user called \".\" or \"..\" cannot stand in a URL; rename it")
        })
    }

    fn read<T: DeserializeOwned>(&self, what: &str, answer: Answer) -> Result<T, StepError> {
        if !answer.status.is_success() {
            return Err(self.refusal(what, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|e| {
            let detail = format!("{what}: {} answered no JSON of a Byway registry; check its URL", self.url());
            error(StepErrorKind::BadAnswer, detail).with_source(e)
        })
    }

    /// One call: its token, its proof, its answer; once more if only the nonce was wrong.
    ///
    /// Answers 2xx to 4xx but 429; everything else is an error, and the server's health knows of it.
    async fn call(&self, meter: &dyn Meter, url: &str, call: Call) -> Result<Answer, StepError> {
        self.server.check()?;
        let prover = self.prover.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prover =
            prover.ok_or_else(|| error(StepErrorKind::Other, "the registry client is not attached to a node yet"))?;
        let deadline = Instant::now() + call.timeout;
        let seeking = self.server.seek_nonce();
        let mut nonce = match &seeking {
            Some(_) => None,
            None => self.server.nonce(self.config.nonce_patience.min(call.timeout)).await,
        };
        let mut again = true;
        loop {
            // what was learnt while waiting for the nonce counts too
            self.server.check()?;
            meter.spend(call.what)?;
            self.server.count_call();
            let proof = prover.prove(call.method.as_str(), url, nonce.as_deref().unwrap_or_default());
            let mut request = self
                .http
                .request(call.method.clone(), format!("{url}{}", call.query))
                .header(AUTHORIZATION, format!("DPoP {}", proof.credential))
                .header(DPOP, proof.proof);
            if let Some(body) = &call.body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
            }
            let answer = match timeout_at(deadline, exchange(request, call.limit)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => return Err(self.failed(&call, failure)),
                Err(_) => return Err(self.timed_out(&call)),
            };
            self.server.answered();
            let next = answer.header(DPOP_NONCE).map(str::to_owned);
            if let Some(next) = &next {
                self.server.remember_nonce(next);
            }
            if again && next.is_some() && next != nonce && answer.wants_nonce() {
                again = false;
                nonce = next;
                continue;
            }
            return self.judge(&call, answer);
        }
    }

    /// A server that is overloaded or broken is left alone for a while.
    fn judge(&self, call: &Call, answer: Answer) -> Result<Answer, StepError> {
        let status = answer.status;
        if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
            return Ok(answer);
        }
        let asked =
            answer.header(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let pause = asked.unwrap_or(self.config.down_for).min(self.config.longest_pause);
        self.server.wants_pause(format!("it answered {status}"), pause);
        let detail = format!(
            "{}: {} answered {status}; asked again in {} s at the earliest",
            call.what,
            self.url(),
            pause.as_secs()
        );
        Err(error(StepErrorKind::Unreachable, detail))
    }

    fn refusal(&self, what: &str, answer: &Answer) -> StepError {
        let said = serde_json::from_slice::<Refusal>(&answer.body).unwrap_or_default().text();
        let advice = match answer.status {
            StatusCode::UNAUTHORIZED => "check the credential and this device's clock",
            StatusCode::FORBIDDEN => "check that the registry serves this network and knows its issuer",
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "check the registry's URL",
            s if s.is_redirection() => "redirects are not followed; use the URL it points to",
            _ => "the registry does not take this call",
        };
        error(StepErrorKind::Refused, format!("{what}: {} answered {} \"{said}\"; {advice}", self.url(), answer.status))
    }

    fn timed_out(&self, call: &Call) -> StepError {
        self.server.is_down(format!("no answer within {} ms", call.timeout.as_millis()));
        let detail = format!("{}: {} did not answer within {} ms", call.what, self.url(), call.timeout.as_millis());
        error(StepErrorKind::Timeout, detail)
    }

    fn failed(&self, call: &Call, failure: Failure) -> StepError {
        let e = match failure {
            Failure::TooLarge => {
                let detail = format!("{}: the answer of {} is larger than {} bytes", call.what, self.url(), call.limit);
                return error(StepErrorKind::BadAnswer, detail);
            }
            Failure::Http(e) => e.without_url(),
        };
        if e.is_timeout() {
            return self.timed_out(call);
        }
        self.server.is_down(chain(&e));
        let kind = if is_local(&e) { StepErrorKind::LocalFault } else { StepErrorKind::Unreachable };
        let advice = if e.is_connect() { "check that it runs there" } else { "it broke off" };
        error(kind, format!("{}: {}; {advice}: {}", call.what, self.url(), chain(&e))).with_source(e)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("url", &self.url())
            .field("socket_is_up", &self.socket_is_up())
            .field("calls", &self.calls())
            .field("signals", &self.signals())
            .finish_non_exhaustive()
    }
}

/// What is asked for.
struct Call {
    what: &'static str,
    method: Method,
    /// Comes behind the URL and is no part of what the proof is for.
    query: String,
    body: Option<Bytes>,
    limit: usize,
    timeout: Duration,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// RFC 9449 section 8: the challenge says so; the reference registry says it in the body as well.
    fn wants_nonce(&self) -> bool {
        const CODE: &str = "use_dpop_nonce";
        self.status == StatusCode::UNAUTHORIZED
            && (self.header(WWW_AUTHENTICATE.as_str()).is_some_and(|h| h.contains(CODE))
                || serde_json::from_slice::<Refusal>(&self.body).is_ok_and(|r| r.code() == CODE))
    }
}

enum Failure {
    TooLarge,
    Http(reqwest::Error),
}

async fn exchange(request: reqwest::RequestBuilder, limit: usize) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(Failure::Http)?;
    // whoever announces too much is not even begun with
    if response.content_length().is_some_and(|len| len > limit as u64) {
        return Err(Failure::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::Http)? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status(), headers: response.headers().clone(), body: body.freeze() })
}

fn error(kind: StepErrorKind, detail: impl Into<String>) -> StepError {
    StepError::new(kind, "registry", detail)
}

/// True if no packet left this machine: there is no network.
fn is_local(e: &reqwest::Error) -> bool {
    use std::io::ErrorKind;
    let mut source = e.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable)
        {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The innermost cause: what a person can do something about.
fn chain(e: &dyn Error) -> String {
    let mut innermost = e;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
