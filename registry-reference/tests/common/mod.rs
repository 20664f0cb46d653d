//! A registry on a free port with a clock that stands still, and devices that call it.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use byway_api::{NetworkId, PeerId, Proof, Prover, Secret, SignalAddress, SignalError, UserId, WallTime};
use byway_registry::{Config, ManualClock, RunningRegistry, serve};
use byway_socket::{Client, ClientConfig, over_websocket, websocket_config};
use byway_wire::{DeviceKey, OpenMembership, RecordDraft, SealPublic, base64url, issue_self_token, make_proof};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const TEAM: &str = "team";

pub struct Registry {
    pub running: RunningRegistry,
    pub clock: Arc<ManualClock>,
    http: reqwest::Client,
}

/// Open, without limits: tests of limits set their own.
pub fn config() -> Config {
    let mut config = Config::default();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.open = true;
    config.limits.calls_per_minute = 0;
    config.limits.ip_calls_per_minute = 0;
    config.limits.failed_auths_per_minute = 0;
    config
}

pub async fn registry() -> Registry {
    start(config()).await
}

pub async fn start(mut config: Config) -> Registry {
    let clock = Arc::new(ManualClock::new(NOW));
    config.clock = Arc::clone(&clock) as _;
    Registry::of(serve(config).await.unwrap(), clock)
}

pub fn http() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }

    /// Asserts that it is an error of that status and code, with a message.
    #[track_caller]
    pub fn is(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let error = &self.json()["error"];
        assert_eq!(error["code"], code, "{}", self.text);
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{}", self.text);
    }
}

impl Registry {
    pub fn of(running: RunningRegistry, clock: Arc<ManualClock>) -> Self {
        Self { running, clock, http: http() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.addr())
    }

    pub fn pass(&self, time: Duration) {
        use byway_registry::Clock as _;
        self.clock.set(self.clock.now().plus(time));
    }

    pub fn now(&self) -> WallTime {
        use byway_registry::Clock as _;
        self.clock.now()
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn get_with(&self, path: &str, header: &str, value: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).header(header, value).send().await.unwrap()).await
    }

    pub async fn request(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.http.request(method, self.url(path)).body(body).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, body.to_string()).await
    }

    pub async fn announce(&self, body: &Value) -> Answer {
        self.post("/network/team/announce", body).await
    }

    /// A nonce of this registry.
    pub async fn nonce(&self) -> String {
        self.get("/health").await.header("dpop-nonce").unwrap().to_owned()
    }

    /// A call with a proof.
    pub async fn proved(&self, who: &Someone, method: Method, path: &str, body: &Value) -> Answer {
        let nonce = self.nonce().await;
        self.with_proof(&who.prove_at(method.as_str(), &self.url(path), &nonce, self.now()), method, path, body).await
    }

    pub async fn with_proof(&self, proof: &Proof, method: Method, path: &str, body: &Value) -> Answer {
        let request = self
            .http
            .request(method, self.url(path))
            .header("authorization", format!("DPoP {}", proof.credential))
            .header("dpop", &proof.proof)
            .body(body.to_string());
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn raw_socket(&self, path: &str) -> WebSocketStream<TcpStream> {
        let address = self.running.addr();
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}{path}");
        client_async_with_config(url, stream, Some(websocket_config())).await.unwrap().0
    }

    pub async fn try_attach(&self, who: &Someone, claimed: PeerId) -> Result<Client, SignalError> {
        let websocket = self.raw_socket(&format!("/{claimed}")).await;
        let target = format!("ws://{}/{claimed}", self.running.addr());
        Client::connect(over_websocket(websocket), who, |asked| asked == target, ClientConfig::default()).await
    }

    pub async fn attach(&self, who: &Someone) -> Client {
        self.try_attach(who, who.peer()).await.unwrap()
    }

    /// Waits until the list of active peers is what it should be: attaching is noted a moment later.
    pub async fn active(&self) -> Vec<String> {
        let answer = self.get("/network/team/active-peers").await.ok();
        answer["peers"].as_array().unwrap().iter().map(|p| p["userId"].as_str().unwrap().to_owned()).collect()
    }
}

/// A device of a user of a network.
pub struct Someone {
    pub key: DeviceKey,
    pub user: UserId,
    pub network: NetworkId,
    pub credential: String,
    proofs: AtomicU64,
}

impl std::fmt::Debug for Someone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.user, self.key)
    }
}

pub fn someone(user: &str, n: u8) -> Someone {
    someone_of(TEAM, user, n)
}

/// A device for each number, however many.
pub fn keyed(user: &str, n: u64) -> Someone {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    seeded(TEAM, user, seed)
}

pub fn someone_of(network: &str, user: &str, n: u8) -> Someone {
    seeded(network, user, [n; 32])
}

fn seeded(network: &str, user: &str, seed: [u8; 32]) -> Someone {
    let key = DeviceKey::from_seed(&Secret::new(seed));
    let (network, user) = (NetworkId::new(network).unwrap(), UserId::new(user).unwrap());
    let life = MINUTE * 60 * 24 * 30;
    let credential = issue_self_token(&key, &network, &user, &key.peer(), NOW, life, [7; 16]);
    Someone { key, user, network, credential, proofs: AtomicU64::new(0) }
}

impl Prover for Someone {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        self.prove_at(method, target, nonce, NOW)
    }
}

impl Someone {
    pub fn peer(&self) -> PeerId {
        self.key.peer()
    }

    pub fn prove_at(&self, method: &str, target: &str, nonce: &str, now: WallTime) -> Proof {
        let mut jti = [0; 16];
        jti[..8].copy_from_slice(&self.proofs.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        make_proof(&self.key, &self.credential, method, target, nonce, now, jti)
    }

    pub fn address(&self) -> SignalAddress {
        SignalAddress::socket("ws://192.0.2.7:4000", self.peer()).unwrap()
    }

    pub fn draft(&self, seq: u64, now: WallTime) -> RecordDraft {
        RecordDraft {
            network: self.network.clone(),
            user: self.user.clone(),
            seq,
            issued_at: now,
            expires_at: now.plus(MINUTE * 60 * 24 * 14),
            addresses: vec![self.address()],
            capabilities: vec!["relay".to_owned()],
            credential: self.credential.clone(),
            seal_keys: vec![SealPublic { suite: 1, public_key: [5; 32], not_after: now.plus(MINUTE * 60 * 24 * 14) }],
            coordinators: Vec::new(),
        }
    }

    pub fn signed(&self, draft: RecordDraft, now: WallTime) -> Bytes {
        let membership = OpenMembership::new(self.network.clone());
        draft.sign(&self.key, &membership, now).unwrap().bytes().clone()
    }

    pub fn record(&self, seq: u64, now: WallTime) -> Bytes {
        self.signed(self.draft(seq, now), now)
    }

    pub fn body_of(&self, record: &Bytes) -> Value {
        json!({
            "peerId": self.peer().to_string(),
            "signalAddress": self.address().as_str(),
            "capabilities": ["relay"],
            "record": base64url::encode(record),
        })
    }

    pub fn body(&self, seq: u64, now: WallTime) -> Value {
        self.body_of(&self.record(seq, now))
    }
}

/// An envelope for `to`: as much of one as a carrier looks at, around `text`.
pub fn mail(to: PeerId, text: &str) -> Bytes {
    let mut envelope = vec![0x1a, 32];
    envelope.extend_from_slice(to.as_bytes());
    envelope.extend_from_slice(&[0x3a, text.len() as u8]);
    envelope.extend_from_slice(text.as_bytes());
    envelope.into()
}
