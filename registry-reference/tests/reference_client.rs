//! The reference client and carrier against this registry: both ends of the protocol, as apps use them.
#![allow(clippy::unwrap_used)]

mod common;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use byway_api::{
    Announcement, DiscoveryStep, Meter, NetworkId, Proof, Prover, Route, Sealed, Sightings, SignalContext,
    SignalErrorKind, Signaling, StepError,
};
use byway_discovery::{CarrierConfig, RegistryClient, RegistryConfig, RegistryStep, SocketCarrier, Tls};
use common::{NOW, Registry, Someone, mail, registry, someone};

#[derive(Debug, Default)]
struct Counting(Mutex<Vec<&'static str>>);

impl Meter for Counting {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        self.0.lock().unwrap().push(what);
        Ok(())
    }
}

#[derive(Debug)]
struct Lent(Arc<Someone>);

impl Prover for Lent {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        self.0.prove(method, target, nonce)
    }
}

struct Seen<'a> {
    network: NetworkId,
    routes: Mutex<Vec<Route>>,
    meter: &'a Counting,
}

impl Sightings for Seen<'_> {
    fn network(&self) -> &NetworkId {
        &self.network
    }
    fn seen(&self, route: Route) -> ControlFlow<()> {
        self.routes.lock().unwrap().push(route);
        ControlFlow::Continue(())
    }
    fn meter(&self) -> &dyn Meter {
        self.meter
    }
}

struct App {
    who: Arc<Someone>,
    client: Arc<RegistryClient>,
    step: RegistryStep,
    carrier: SocketCarrier,
    meter: Arc<Counting>,
}

async fn app(registry: &Registry, user: &str, n: u8) -> App {
    let who = Arc::new(someone(user, n));
    let mut config = RegistryConfig::default();
    config.tls = Some(Tls::trusting([]).unwrap());
    let client = RegistryClient::new(&registry.running.url(), config).unwrap();
    let carrier = SocketCarrier::new(CarrierConfig::default(), vec![client.home()]);
    let meter = Arc::new(Counting::default());
    let prover = Arc::new(Lent(Arc::clone(&who)));
    let cx = SignalContext::new(who.peer(), who.network.clone(), prover, Arc::clone(&meter) as _);
    carrier.attach(cx).await.unwrap();
    App { who, step: RegistryStep::new(Arc::clone(&client)), client, carrier, meter }
}

impl App {
    async fn announce(&self, leaving: bool) {
        let record = self.who.record(1, NOW);
        let mut me = Announcement::new(self.who.network.clone(), self.who.peer(), record, self.carrier.addresses());
        me.leaving = leaving;
        self.step.announce(&me, &*self.meter).await.unwrap();
    }

    async fn browse(&self) -> Vec<Route> {
        let seen = Seen { network: self.who.network.clone(), routes: Mutex::default(), meter: &self.meter };
        self.step.browse(&seen).await.unwrap();
        seen.routes.into_inner().unwrap()
    }
}

#[tokio::test]
async fn two_strangers_find_each_other_and_signal() {
    let registry = registry().await;
    let (alice, bob) = (app(&registry, "alice", 1).await, app(&registry, "bob", 2).await);
    alice.announce(false).await;
    bob.announce(false).await;
    let routes = bob.browse().await;
    let route = routes.iter().find(|route| route.peer == alice.who.peer()).unwrap();
    assert_eq!(route.record.as_ref().unwrap(), &alice.who.record(1, NOW));

    // The sockets open on their own time.
    let letter = Sealed { to: alice.who.peer(), envelope: mail(alice.who.peer(), "offer") };
    loop {
        match bob.carrier.send(&route.address, letter.clone()).await {
            Ok(()) => break,
            Err(e) => assert!(matches!(e.kind(), SignalErrorKind::NoSuchPeer | SignalErrorKind::Unreachable), "{e}"),
        }
        tokio::task::yield_now().await;
    }
    let carried = alice.carrier.recv().await.unwrap();
    assert_eq!(carried.mail, letter);
    let answer = Sealed { to: bob.who.peer(), envelope: mail(bob.who.peer(), "answer") };
    alice.carrier.send(&carried.back, answer.clone()).await.unwrap();
    assert_eq!(bob.carrier.recv().await.unwrap().mail, answer);

    // Announce and socket; and once more, if the announcement was quicker than the socket's nonce.
    let calls = alice.meter.0.lock().unwrap().clone();
    assert!((2..=3).contains(&calls.len()), "{calls:?}");
    assert_eq!(alice.client.calls() as usize, calls.len());

    alice.announce(true).await;
    assert_eq!(registry.active().await, ["bob"]);
    alice.carrier.close().await;
    bob.carrier.close().await;
    registry.running.shutdown().await;
}
