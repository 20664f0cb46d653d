//! The suite for discovery steps, over each of the six.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::routing::{get, post};
use byway_api::{DiscoveryStep, PeerId, Route, SignalAddress, async_trait};
use byway_discovery::{Cache, Coordinators, Existing, Neighbours, StoreAndForward};
use byway_testkit::step::{Answer, Script, StepFixture, World};
use byway_testkit::step_conformance;
use tokio::sync::oneshot;

use crate::steps::record;
use crate::support::{network, peer, user};

/// Makes a world from a function.
struct From<F>(F);

#[async_trait]
impl<F: Fn() -> World + Send + Sync + 'static> StepFixture for From<F> {
    async fn world(&self) -> World {
        (self.0)()
    }
}

fn world(step: impl DiscoveryStep, script: Script, devices: &[u8]) -> World {
    let devices: Vec<PeerId> = devices.iter().copied().map(peer).collect();
    World::new(Arc::new(step), script, user("bob"), devices, user("nobody"))
}

/// Carol (3), Dave (4) and two devices of Bob (5, 6) are connected.
fn company() -> Script {
    Script::new(network())
        .neighbour(peer(3), user("carol"))
        .neighbour(peer(4), user("dave"))
        .neighbour(peer(5), user("bob"))
        .neighbour(peer(6), user("bob"))
}

fn listener(n: u8) -> Route {
    Route::new(peer(n), SignalAddress::socket("ws://127.0.0.1:9", peer(n)).unwrap())
}

step_conformance!(existing, From(|| world(Existing, company(), &[5, 6])));

step_conformance!(
    neighbours,
    From(|| {
        let bob = user("bob");
        let script = company().answers(peer(3), &bob, Answer::Routes(vec![listener(7), listener(8)])).answers(
            peer(4),
            &bob,
            Answer::Routes(vec![Route::new(peer(7), SignalAddress::through(peer(4)))]),
        );
        world(Neighbours::default(), script, &[7, 8])
    })
);

step_conformance!(
    cache,
    From(|| {
        let script = company().remembers(&user("bob"), Answer::Routes(vec![listener(7), listener(8)]));
        world(Cache::default(), script, &[7, 8])
    })
);

step_conformance!(
    coordinators,
    From(|| {
        let bob = user("bob");
        let known = listener(7).with_record(record(&[peer(3), peer(9)]));
        let script = company().remembers(&bob, Answer::Routes(vec![known])).answers(
            peer(3),
            &bob,
            Answer::Routes(vec![listener(8)]),
        );
        world(Coordinators::default(), script, &[7, 8])
    })
);

step_conformance!(store_and_forward, From(|| world(StoreAndForward, company(), &[])));

#[cfg(feature = "registry")]
mod registry_step {
    use bytes::Bytes;
    use byway_api::Announcement;
    use byway_discovery::{RegistryClient, RegistryConfig, RegistryStep};
    use byway_wire::base64url;

    use super::*;
    use crate::support::Readable;

    /// A registry on a runtime of its own: the suite counts the tasks of the step's.
    struct Registry {
        url: String,
        asked: Arc<AtomicU64>,
        stop: std::sync::Mutex<Option<oneshot::Sender<()>>>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Registry {
        fn start() -> Self {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(AtomicU64::new(0));
            let (stop, stopped) = oneshot::channel();
            let counting = Arc::clone(&asked);
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    tokio::select! {
                        served = axum::serve(listener, app(counting)) => served.unwrap(),
                        _ = stopped => {}
                    }
                });
            });
            Self { url, asked, stop: std::sync::Mutex::new(Some(stop)), thread: Some(thread) }
        }

        fn stop(&self) {
            drop(self.stop.lock().unwrap().take());
        }
    }

    impl Drop for Registry {
        fn drop(&mut self) {
            self.stop();
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn device(n: u8) -> String {
        let record = base64url::encode(b"record");
        format!(r#"{{"userId":"bob","peerId":"{}","lastSeen":1,"isCoordinator":false,"record":"{record}"}}"#, peer(n))
    }

    fn app(asked: Arc<AtomicU64>) -> Router {
        let bob = async |Path((_, name)): Path<(String, String)>| match name.as_str() {
            "bob" => Ok(format!(r#"{{"online":true,"devices":[{},{}],"lastCoordinators":[]}}"#, device(7), device(8))),
            _ => Err(StatusCode::NOT_FOUND),
        };
        let page = async || format!(r#"{{"peers":[{},{}]}}"#, device(7), device(8));
        Router::new()
            .route("/network/{network}/peer/{user}", get(bob))
            .route("/network/{network}/active-peers", get(page))
            .route("/network/{network}/announce", post(async || "{}"))
            .layer(axum::middleware::map_request(move |request: Request| {
                asked.fetch_add(1, Ordering::SeqCst);
                std::future::ready(request)
            }))
    }

    step_conformance!(
        registry,
        From(|| {
            let registry = Arc::new(Registry::start());
            let client = RegistryClient::new(&registry.url, RegistryConfig::default()).unwrap();
            client.attach(Arc::new(Readable));
            let (asked, kill) = (Arc::clone(&registry.asked), Arc::clone(&registry));
            let me = Announcement::new(network(), peer(1), Bytes::from_static(b"record"), Vec::new());
            world(RegistryStep::new(client), company(), &[7, 8])
                .counting(move || asked.load(Ordering::SeqCst))
                .killed_by(move || kill.stop())
                .announcing(me)
                .keeping(registry)
        })
    );
}
