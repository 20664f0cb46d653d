//! Starting a node: everything is opened and loaded before the core begins.

use std::sync::Arc;

use bytes::Bytes;
use byway_api::{Instance, Load, RouteStore, Row, StoreError, StoreErrorKind};
use byway_core::io::{FoundRoute, In, Loaded, RouteSource};
use byway_core::{META_PREFIX, Myself, NodeCore, StepSpec};
use tokio::sync::{Notify, broadcast, mpsc, watch};

use super::connection::Arrival;
use super::dial::{Bound, Dialer};
use super::driver::{Driver, Queues};
use super::handshake::HalfOpen;
use super::identity::{Identity, Parts};
use super::ids::MessageIds;
use super::keeper::{Wakes, keep};
use super::meter::CallMeter;
use super::records::RecordCache;
use super::runtime::{Runtime, random, timeout};
use super::shared::{Counters, InboxRoom, Neighbours, Notice, RECORD_SEQ, Shared, seq_from, seq_write};
use super::signals::{Mail, Signals, open_mail, receive};
use super::store::{StoreQueue, work};
use super::{Command, EngineConfig, EngineHandle, InboxReceiver, StartError, StartProblem, endpoints};

/// Aborts the tasks of a node that did not start.
struct AbortOnDrop(Option<Runtime>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(runtime) = &self.0 {
            runtime.abort();
        }
    }
}

pub(super) async fn start(config: EngineConfig) -> Result<(EngineHandle, InboxReceiver), StartError> {
    let store = Arc::clone(&config.store);
    let wait = config.settings.shutdown_wait;
    let runtime = Runtime::new(config.clock);
    let mut guard = AbortOnDrop(Some(runtime.clone()));
    match open(config, runtime.clone()).await {
        Ok(started) => {
            guard.0 = None;
            Ok(started)
        }
        Err(problems) => {
            let _ = timeout(wait, store.close()).await;
            runtime.abort();
            runtime.join().await;
            Err(StartError { problems })
        }
    }
}

async fn open(config: EngineConfig, runtime: Runtime) -> Result<(EngineHandle, InboxReceiver), Vec<StartProblem>> {
    let mut problems = endpoints::check(&config.transports);
    let parts = Parts {
        network: config.network,
        user: config.user,
        keys: config.keys,
        credential: config.credential,
        membership: config.membership,
        capabilities: config.capabilities,
    };
    let identity = match Identity::open(parts, &config.settings, runtime.clone()) {
        Ok(identity) => Arc::new(identity),
        Err(error) => {
            problems.push(error.into());
            return Err(problems);
        }
    };
    let (notices_to, notices) = mpsc::channel::<Notice>(config.settings.command_queue);
    let shared = Arc::new(Shared {
        identity,
        store: config.store,
        relay: config.relay,
        meter: Arc::new(CallMeter::new(&config.settings, runtime.clone())),
        ids: MessageIds::default(),
        records: RecordCache::new(config.settings.record_cache),
        roster: watch::Sender::new(Arc::default()),
        events: broadcast::Sender::new(config.settings.event_queue),
        neighbours: Neighbours::default(),
        counters: Counters::default(),
        notices: notices_to,
        settings: config.settings,
        runtime,
    });

    let mut inputs = Vec::new();
    if let Err(error) = load(&shared, &mut inputs).await {
        problems.push(error.into());
    }
    let bootstrap = bootstrap(&shared, config.bootstrap, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }

    let signalled: Vec<_> = config.transports.iter().filter(|t| t.caps().needs_signaling).map(|t| t.name()).collect();
    let (signals, ports) = Signals::new(Arc::clone(&shared), config.listeners, config.carriers, &signalled);
    let (bound, failed) = endpoints::bind(&shared, &config.transports, ports).await;
    problems.extend(failed);
    problems.extend(endpoints::attach(&shared, &signals).await);
    shared.identity.set_addresses(endpoints::addresses(&bound, &signals));
    let record = shared.identity.sign_record().map_err(StartProblem::Record);
    let secrets = random::<16>().and_then(|instance| Ok((Instance::from_bytes(instance), random::<8>()?)));
    let (record, (instance, seed)) = match (record, secrets) {
        (Ok(record), Ok(secrets)) if problems.is_empty() => (record, secrets),
        (record, secrets) => {
            problems.extend(record.err());
            problems.extend(secrets.err().map(|e| StartProblem::Config(format!("no random bytes: {e}"))));
            endpoints::close(&shared, &bound, &signals).await;
            return Err(problems);
        }
    };
    shared.records.put(&record);

    let me = shared.identity.me();
    let myself = Myself { network: me.network, user: me.user, peer: me.peer, instance, record: record.clone() };
    let step = |step: &Arc<dyn byway_api::DiscoveryStep>| StepSpec {
        name: step.name(),
        metered: step.cost() == byway_api::Cost::Metered,
    };
    let specs = config.steps.iter().map(step).collect();
    let core = NodeCore::new(myself, config.tuning, specs, u64::from_le_bytes(seed));
    inputs.push(In::InboxRoom(u32::try_from(shared.settings.inbox_queue).unwrap_or(u32::MAX)));
    inputs.push(In::Start);
    inputs.extend(bootstrap.into_iter().map(In::Sighting));

    let bound: Arc<[Bound]> = bound.into();
    let dialer = Dialer {
        shared: Arc::clone(&shared),
        signals: Arc::clone(&signals),
        gate: Arc::new(HalfOpen::default()),
        instance,
        bound: Arc::clone(&bound),
    };
    Ok(run(Running { shared, signals, bound, dialer, steps: config.steps.into(), core, inputs, notices }))
}

/// Everything that is opened, and the core that was told of it.
struct Running {
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    bound: Arc<[Bound]>,
    dialer: Dialer,
    steps: Arc<[Arc<dyn byway_api::DiscoveryStep>]>,
    core: NodeCore,
    inputs: Vec<In>,
    notices: mpsc::Receiver<Notice>,
}

/// Spawns the tasks of the node.
fn run(running: Running) -> (EngineHandle, InboxReceiver) {
    let Running { shared, signals, bound, dialer, steps, core, inputs, notices } = running;
    let (settings, runtime) = (&shared.settings, &shared.runtime);
    let (commands_to, commands) = mpsc::channel::<Command>(settings.command_queue);
    let (arrivals_to, arrivals) = mpsc::channel::<Arrival>(settings.frame_queue);
    let (stored_to, stored) = mpsc::channel(settings.frame_queue);
    let (mail_to, mail) = mpsc::channel::<Mail>(settings.mail_queue);
    let (inbox_to, inbox) = mpsc::channel(settings.inbox_queue);
    let wake = Arc::new(Notify::new());
    let wakes = Arc::new(Wakes::default());
    let room = Arc::new(InboxRoom::new(Arc::clone(&wake)));
    let store = StoreQueue::new(settings.store_queue, settings.store_queue_bytes, Arc::clone(&wake));
    let own = vec![(None, vec![seq_write(&shared.identity.record())])];

    runtime.spawn(work(Arc::clone(&shared), Arc::clone(&store), stored_to));
    runtime.spawn(keep(Arc::clone(&shared), Arc::clone(&bound), Arc::clone(&signals), Arc::clone(&wakes)));
    runtime.spawn(open_mail(Arc::clone(&signals), mail));
    for carrier in signals.carriers() {
        runtime.spawn(receive(Arc::clone(&signals), Arc::clone(carrier)));
    }
    for transport in bound.iter() {
        runtime.spawn(endpoints::accept(dialer.clone(), transport.clone(), Arc::clone(&wakes)));
    }
    let queues = Queues { commands, notices, arrivals, stored, arrivals_to, mail: mail_to, inbox: inbox_to };
    let driver =
        Driver::new(core, dialer, steps, queues, store, Arc::clone(&room), Arc::clone(&wake), Arc::clone(&wakes));
    runtime.spawn(driver.run(inputs, own));
    let handle = EngineHandle::new(commands_to, Arc::clone(&shared), runtime.clone());
    (handle, InboxReceiver::new(inbox, room))
}

/// The routes of invites.
fn bootstrap(shared: &Shared, invites: Vec<byway_api::Route>, problems: &mut Vec<StartProblem>) -> Vec<FoundRoute> {
    let mut routes = Vec::new();
    for invite in invites {
        let peer = invite.peer;
        match shared.route(invite, RouteSource::Cache) {
            Ok(route) => routes.push(route),
            Err(error) => problems.push(StartProblem::Invite { peer, error }),
        }
    }
    routes
}

/// Reads what the core must know before anything is dialled or accepted.
async fn load(shared: &Arc<Shared>, inputs: &mut Vec<In>) -> Result<(), StoreError> {
    let own = pages(shared, Load::Meta { prefix: RECORD_SEQ.to_owned() }).await?;
    for row in own {
        if let Row::Meta { value, .. } = &row
            && let Some(seq) = seq_from(value)
        {
            shared.identity.continue_from(seq);
        }
    }
    let all = [
        Load::Seen,
        Load::Outbox,
        Load::Inbox,
        Load::Meta { prefix: META_PREFIX.to_owned() },
        Load::Pins,
        Load::Blocked,
        Load::Records { user: None },
        Load::Routes { user: None },
    ];
    for what in all {
        let rows = pages(shared, what).await?;
        let verifier = Arc::clone(shared);
        // Thousands of signatures: not on the runtime's threads.
        let loaded =
            shared.runtime.blocking(move || rows.into_iter().filter_map(|row| loaded(&verifier, row)).collect());
        let loaded: Vec<Loaded> = loaded.await.unwrap_or_default();
        inputs.extend(loaded.into_iter().map(In::Loaded));
    }
    Ok(())
}

/// All rows, page by page.
async fn pages(shared: &Shared, what: Load) -> Result<Vec<Row>, StoreError> {
    let (store, settings): (&dyn RouteStore, _) = (&*shared.store, &shared.settings);
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let Some(page) = timeout(settings.store_wait, store.load(what.clone(), after, settings.page)).await else {
            return Err(StoreError::new(StoreErrorKind::Io, store.name(), "reading took too long"));
        };
        let page = page?;
        let full = page.len() >= settings.page;
        after = page.last().map(|(key, _)| key.clone());
        rows.extend(page.into_iter().map(|(_, row)| row));
        if !full {
            return Ok(rows);
        }
    }
}

/// A row as the core takes it; `None` for a record that is not valid any more.
fn loaded(shared: &Shared, row: Row) -> Option<Loaded> {
    Some(match row {
        Row::Route(row) => Loaded::Route(row),
        Row::Record(row) => Loaded::Record(verified(shared, &row.record)?),
        Row::Outbox(row) => Loaded::Outbox(row),
        Row::Inbox(row) => Loaded::Inbox(row),
        Row::Seen(row) => Loaded::Seen(row),
        Row::Meta { key, value } => Loaded::Meta { key, value },
        Row::Pin(row) => Loaded::Pin(row),
        Row::Blocked(user) => Loaded::Blocked(user),
        _ => return None,
    })
}

fn verified(shared: &Shared, bytes: &Bytes) -> Option<byway_wire::VerifiedRecord> {
    shared
        .verify(bytes)
        .inspect_err(|error| tracing::debug!(target: "byway::store", %error, "a record is not valid any more"))
        .ok()
}
