//! A real signalling server: byway-socket's hub behind tungstenite on TCP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use byway_api::{Meter, PeerId, Proof, Prover, Sealed, SignalContext, async_trait};
use byway_socket::{
    Arrival, Challenge, Device, Gate, Hub, HubConfig, Refusal, Routed, Served, SignalBus, over_websocket,
    websocket_config,
};
use byway_wire::proto;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::support::{network, within};

/// Proves by name: the credential is the device, the proof can be read.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) me: PeerId,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Named {
    pub(crate) fn new(me: PeerId) -> Arc<Self> {
        Arc::new(Self { me, asked: Mutex::default() })
    }
}

impl Prover for Named {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        self.asked.lock().unwrap().push(target.to_owned());
        Proof { credential: self.me.to_string(), proof: format!("{method}_{target}_{nonce}") }
    }
}

pub(crate) fn context(me: PeerId, meter: Arc<dyn Meter>) -> SignalContext {
    SignalContext::new(me, network(), Named::new(me), meter)
}

/// An envelope that says for whom it is; nobody could open it.
pub(crate) fn mail(to: PeerId, text: &'static str) -> Sealed {
    let envelope = proto::SealedEnvelope {
        version: 1,
        suite: 1,
        to_peer: Bytes::copy_from_slice(to.as_bytes()),
        ciphertext: Bytes::from_static(text.as_bytes()),
        ..Default::default()
    };
    Sealed { to, envelope: envelope.encode_to_vec().into() }
}

#[derive(Debug, Default)]
pub(crate) struct Door {
    /// What a proof must be for.
    target: Option<String>,
    refuse: bool,
}

impl Gate for Door {
    fn challenge(&self, claimed: PeerId, host: Option<&str>) -> Challenge {
        let target = match &self.target {
            Some(target) => target.clone(),
            None => format!("ws://{}/{claimed}", host.unwrap()),
        };
        Challenge { nonce: "nonce-of-the-challenge".into(), target }
    }

    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal> {
        if self.refuse || proof.proof != format!("WS_{}_{}", challenge.target, challenge.nonce) {
            return Err(Refusal("not you".into()));
        }
        Ok(Device::new(network(), proof.credential.parse().map_err(|_| Refusal("who?".into()))?))
    }
}

/// Tells the test what happens.
#[derive(Debug)]
struct Events(mpsc::Sender<Event>);

#[async_trait]
impl SignalBus for Events {
    fn attached(&self, device: &Device, _: u64) {
        self.0.try_send(Event::Attached(device.peer)).unwrap();
    }
    fn detached(&self, _: &Device, _: u64) {}
    async fn route(&self, _: &Device, _: PeerId, _: Bytes) -> Routed {
        Routed::NoSuchPeer
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Attached(PeerId),
    Ended(Served),
}

/// How a server is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// The target of its challenge; `None`: its URL as the client called it.
    pub(crate) target: Option<String>,
    pub(crate) refuse: bool,
    pub(crate) tls: Option<TlsAcceptor>,
    /// The address of an earlier server.
    pub(crate) at: Option<SocketAddr>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) events: mpsc::Receiver<Event>,
    accept: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let at = setup.at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, events) = mpsc::channel(64);
        let gate = Arc::new(Door { target: setup.target, refuse: setup.refuse });
        let hub = Hub::with_bus(HubConfig::default(), gate, Arc::new(Events(tell.clone())));
        let serving = hub.clone();
        let accept = tokio::spawn(async move {
            let mut sockets = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (hub, tls, tell) = (serving.clone(), setup.tls.clone(), tell.clone());
                sockets.spawn(async move {
                    let served = match tls {
                        None => serve::<TcpStream>(&hub, tcp).await,
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => serve(&hub, stream).await,
                            Err(_) => None,
                        },
                    };
                    if let Some(served) = served {
                        let _ = tell.send(Event::Ended(served)).await;
                    }
                });
            }
        });
        Self { address, hub, events, accept }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) async fn event(&mut self) -> Event {
        within(self.events.recv()).await.unwrap()
    }

    pub(crate) async fn attached(&mut self, peer: PeerId) {
        assert_eq!(self.event().await, Event::Attached(peer));
    }

    pub(crate) async fn ended(&mut self) -> Served {
        match self.event().await {
            Event::Ended(served) => served,
            other => unreachable!("expected an end, got {other:?}"),
        }
    }

    /// Stops as a server does that is updated.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.accept.abort();
        let _ = self.accept.await;
        self.address
    }
}

pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(hub: &Hub, stream: S) -> Option<Served> {
    let mut arrival = None;
    #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
    let note = |request: &Request, response: Response| {
        let mut it = Arrival::new(request.uri().path().trim_start_matches('/').parse().unwrap());
        it.host = request.headers().get("host").map(|h| h.to_str().unwrap().to_owned());
        arrival = Some(it);
        Ok(response)
    };
    let websocket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, note, Some(websocket_config())).await.ok()?;
    Some(hub.serve(over_websocket(websocket), arrival?).await)
}
