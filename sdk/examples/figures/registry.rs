//! What members ask of a registry.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway::api::{NetworkId, WallTime};
use byway::presets::Standard;
use byway::{Builder, MemoryKeys, MemoryStore, Node};
use byway_registry::{Config, EmbeddedBackend, RegistryBackend, RunningRegistry, serve_with};

use crate::Failure;
use crate::report::Row;
use crate::world;

/// After this a member has made the calls of its start: it has announced itself, attached its socket,
/// and read the member list, which it does 3 s after its start.
const STARTED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const LATER: u64 = 50;
const FIRST: u64 = 1;
const START: u64 = 4;
const IDLE: f64 = 0.05;

/// A registry in this process.
pub(crate) struct Served {
    registry: RunningRegistry,
    backend: Arc<dyn RegistryBackend>,
}

impl Served {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let mut config = Config::default();
        config.listen = world::any_port();
        config.open = true;
        // All members of a run come from one address.
        config.limits.calls_per_minute = 0;
        config.limits.ip_calls_per_minute = 0;
        let backend: Arc<dyn RegistryBackend> =
            Arc::new(EmbeddedBackend::open(config.database.clone(), (&config).into(), now()).await?);
        let registry = serve_with(config, Arc::clone(&backend), None).await?;
        Ok(Self { registry, backend })
    }

    /// A member that knows this registry and nothing else, and begins no connection unasked.
    pub(crate) fn member(&self, user: &str) -> Builder {
        Node::builder(Standard::registry(self.registry.url()))
            .transport(world::loopback())
            .join(world::network(), user)
            .store(MemoryStore::new())
            .keys(MemoryKeys::new())
            .tuning(|tuning| tuning.anchors = 0)
    }

    /// Waits until the registry knows a member, and both its calls, announcement and socket, are made.
    pub(crate) async fn announced(&self, node: &Node) -> Result<(), Failure> {
        let known = async {
            let network = NetworkId::new("figures")?;
            while self.backend.lookup(&network, &node.user(), now()).await?.is_empty()
                || node.metrics().await?.registry_calls < 2
            {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, Failure>(())
        };
        tokio::time::timeout(world::PATIENCE, known).await?
    }

    pub(crate) async fn stop(self) {
        self.registry.shutdown().await;
    }
}

fn now() -> WallTime {
    WallTime::from_millis(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) async fn measure(watched: Duration) -> Result<Vec<Row>, Failure> {
    let served = Served::start().await?;
    // Those who are watched behave as they do by default, connections that they begin unasked included.
    let usual = |user: &str| served.member(user).tuning(|tuning| *tuning = byway::Tuning::default());
    let (carol, carols) = usual("carol").spawn().await?;
    let (dave, daves) = usual("dave").spawn().await?;
    let (alice, alices) = served.member("alice").spawn().await?;
    tokio::time::sleep(STARTED).await;
    let started = [calls(&alice).await?, calls(&carol).await?, calls(&dave).await?];
    let start = started.into_iter().max().unwrap_or_default();
    let watching = tokio::time::Instant::now();

    // Bob comes after Alice has read the member list: she has never heard of him.
    let (bob, mut inbox) = served.member("bob").spawn().await?;
    tokio::time::sleep(STARTED).await;
    let bobs = calls(&bob).await?;
    let (chat, before) = (alice.chat("bob")?, calls(&alice).await? + bobs);
    let sent = chat.send("hello").await?;
    sent.delivered().await?;
    let first = calls(&alice).await? + calls(&bob).await? - before;
    inbox.next().await.ok_or("bob has stopped")?.done().await?;
    let before = calls(&alice).await? + calls(&bob).await?;
    for _ in 0..LATER {
        let sent = chat.send("again").await?;
        inbox.next().await.ok_or("bob has stopped")?.done().await?;
        sent.delivered().await?;
    }
    let later = calls(&alice).await? + calls(&bob).await? - before;

    tokio::time::sleep_until(watching + watched).await;
    let minutes = watching.elapsed().as_secs_f64() / 60.0;
    let idle = calls(&carol).await? + calls(&dave).await? - started[1] - started[2];
    let a_minute = idle as f64 / 2.0 / minutes;
    tokio::try_join!(world::stop(&alice, &bob), world::stop(&carol, &dave))?;
    served.stop().await;
    drop((alices, inbox, carols, daves));
    let row = |figure, target, measured, met, how| Row { figure, target, measured, met, how };
    Ok(vec![
        row(
            "registry calls of a start",
            "≤ 4",
            format!("{}", start.max(bobs)),
            start.max(bobs) <= START,
            format!("the most of 4 members, in the first {} s", STARTED.as_secs()),
        ),
        row(
            "registry calls of a first contact",
            "≤ 1",
            format!("{first}"),
            first <= FIRST,
            "both sides together, between `send` and Delivered; the recipient was never heard of".to_owned(),
        ),
        row(
            "registry calls of later messages",
            "0",
            format!("{later}"),
            later == 0,
            format!("both sides together, {LATER} messages"),
        ),
        row(
            "registry calls of an idle member",
            "≤ 0.05 a minute",
            format!("{a_minute:.3} a minute ({idle} calls)"),
            a_minute <= IDLE,
            format!("2 members over {:.0} s, {} s after their start", minutes * 60.0, STARTED.as_secs()),
        ),
    ])
}

async fn calls(node: &Node) -> Result<u64, Failure> {
    Ok(node.metrics().await?.registry_calls)
}
