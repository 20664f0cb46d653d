//! The suite for carriers of signals, over the socket carrier and real sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_api::{NetworkId, PeerId, Proof, SignalAddress, Signaling, WallTime, async_trait};
use byway_discovery::{CarrierConfig, Home, SocketCarrier};
use byway_socket::{Challenge, Device, Gate, Hub, HubConfig, Refusal};
use byway_testkit::signaling::{SignalFixture, SignalWorld};
use byway_testkit::signaling_conformance;
use byway_wire::OpenMembership;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::hub::serve;

fn network() -> NetworkId {
    NetworkId::new("conformance").unwrap()
}

/// Lets in whoever proves to be a member, as a registry does.
#[derive(Debug)]
struct Members;

impl Gate for Members {
    fn challenge(&self, claimed: PeerId, host: Option<&str>) -> Challenge {
        Challenge { nonce: "a nonce of the hub".into(), target: format!("ws://{}/{claimed}", host.unwrap()) }
    }

    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = WallTime::from_millis(i64::try_from(now).unwrap());
        let member = challenge.check(proof, &OpenMembership::new(network()), now)?;
        Ok(Device::new(network(), member.peer))
    }
}

/// One server that can be cut off and comes back at the same address.
struct Server {
    address: SocketAddr,
    connects: Arc<AtomicU64>,
    running: Mutex<Option<Running>>,
    /// How many of the carriers have the server as their home.
    homes: fn(usize) -> bool,
}

struct Running {
    hub: Hub,
    tasks: JoinSet<()>,
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    // sockets of the former server may linger at this address
    socket.set_reuseaddr(true).unwrap();
    socket.bind(at).unwrap();
    socket.listen(64).unwrap()
}

impl Server {
    fn start(homes: fn(usize) -> bool) -> Self {
        let socket = listen("127.0.0.1:0".parse().unwrap());
        let address = socket.local_addr().unwrap();
        let connects = Arc::new(AtomicU64::new(0));
        let running = Mutex::new(Some(Self::run(socket, &connects)));
        Self { address, connects, running, homes }
    }

    fn run(socket: TcpListener, connects: &Arc<AtomicU64>) -> Running {
        let mut config = HubConfig::default();
        // the bound of the queue is to be seen, not that of the pace
        (config.frames_per_second, config.burst) = (1_000_000, 1_000_000);
        let hub = Hub::new(config, Arc::new(Members));
        let (serving, connects) = (hub.clone(), Arc::clone(connects));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            loop {
                let (tcp, _) = socket.accept().await.unwrap();
                connects.fetch_add(1, Ordering::SeqCst);
                let hub = serving.clone();
                sockets.spawn(async move {
                    let _ = serve(&hub, tcp).await;
                });
            }
        });
        Running { hub, tasks }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }
}

#[async_trait]
impl SignalWorld for Server {
    async fn carrier(&self, n: usize) -> Arc<dyn Signaling> {
        let mut config = CarrierConfig::default();
        config.backoff = Duration::from_millis(5);
        config.backoff_max = Duration::from_millis(20);
        config.meter_wait = Duration::from_millis(10);
        config.inbox = 8;
        let homes = if (self.homes)(n) { vec![Home::new(&self.url()).unwrap()] } else { Vec::new() };
        Arc::new(SocketCarrier::new(config, homes))
    }

    fn address(&self, peer: PeerId) -> SignalAddress {
        SignalAddress::socket(&self.url(), peer).unwrap()
    }

    fn attached(&self, peer: PeerId) -> Option<bool> {
        let running = self.running.lock().unwrap();
        let devices: BTreeSet<_> = running.iter().flat_map(|running| running.hub.devices()).collect();
        Some(devices.contains(&Device::new(network(), peer)))
    }

    fn calls(&self) -> Option<u64> {
        // a socket that is opened by a send costs nothing
        ((self.homes)(0) && (self.homes)(1)).then(|| self.connects.load(Ordering::SeqCst))
    }

    async fn cut(&self) -> bool {
        let running = self.running.lock().unwrap().take();
        if let Some(Running { mut tasks, .. }) = running {
            tasks.shutdown().await;
        }
        true
    }

    async fn restore(&self) {
        *self.running.lock().unwrap() = Some(Self::run(listen(self.address), &self.connects));
    }
}

/// Carriers and the server they meet at.
struct Sockets(fn(usize) -> bool);

#[async_trait]
impl SignalFixture for Sockets {
    async fn world(&self) -> Box<dyn SignalWorld> {
        Box::new(Server::start(self.0))
    }
}

signaling_conformance!(homes, Sockets(|_| true));

// the first has no home there and opens its socket by sending, as to a member's listener
signaling_conformance!(a_home_and_a_caller, Sockets(|n| n != 0));
