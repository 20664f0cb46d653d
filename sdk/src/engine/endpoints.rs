//! The transports and carriers of a node: opening them, accepting, closing.

use std::sync::Arc;

use byway_api::{BindContext, Endpoint, Incoming, Security, SignalAddress, SignalContext, Transport};
use byway_wire::Role;
use byway_wire::limits;
use tokio::task::JoinSet;

use super::StartProblem;
use super::dial::{Bound, Dialer};
use super::handshake::{HalfOpen, Over, hello};
use super::keeper::Wakes;
use super::runtime::timeout;
use super::shared::{Notice, Shared};
use super::signals::Signals;

/// Refuses transports that cannot be used, before anything is opened.
pub(super) fn check(transports: &[Arc<dyn Transport>]) -> Vec<StartProblem> {
    let mut problems = Vec::new();
    for (i, transport) in transports.iter().enumerate() {
        let (name, caps) = (transport.name(), transport.caps());
        if caps.security == Security::Insecure {
            problems.push(StartProblem::Insecure(name));
        }
        if caps.max_frame < limits::FRAME_MAX {
            let text = format!("the transport {name} carries frames of {} bytes only", caps.max_frame);
            problems.push(StartProblem::Config(text));
        }
        if transports[..i].iter().any(|other| other.name() == name) {
            problems.push(StartProblem::Config(format!("two transports are named {name}")));
        }
    }
    problems
}

/// Binds every transport.
pub(super) async fn bind(
    shared: &Shared,
    transports: &[Arc<dyn Transport>],
    ports: Vec<Arc<dyn byway_api::SignalPort>>,
) -> (Vec<Bound>, Vec<StartProblem>) {
    let (mut bound, mut problems) = (Vec::new(), Vec::new());
    let mut ports = ports.into_iter();
    for (rank, transport) in transports.iter().enumerate() {
        let caps = transport.caps();
        let mut context = BindContext::new(shared.identity.peer(), shared.identity.network().clone());
        if caps.needs_signaling
            && let Some(port) = ports.next()
        {
            context = context.with_signals(port);
        }
        if caps.proves_identity {
            match shared.identity.seed().await {
                Ok(seed) => context = context.with_identity(seed),
                Err(error) => {
                    problems.push(error.into());
                    continue;
                }
            }
        }
        match timeout(shared.settings.open_wait, transport.bind(context)).await {
            Some(Ok(endpoint)) => {
                let over = Over { rank, transport: transport.name(), max_frame: caps.max_frame };
                bound.push(Bound { endpoint, over, needs_signaling: caps.needs_signaling });
            }
            Some(Err(error)) => problems.push(error.into()),
            None => problems.push(StartProblem::Config(format!("binding {} took too long", transport.name()))),
        }
    }
    (bound, problems)
}

/// Attaches every carrier.
pub(super) async fn attach(shared: &Arc<Shared>, signals: &Signals) -> Vec<StartProblem> {
    let mut problems = Vec::new();
    for carrier in signals.carriers() {
        let context = SignalContext::new(
            shared.identity.peer(),
            shared.identity.network().clone(),
            Arc::clone(&shared.identity) as Arc<dyn byway_api::Prover>,
            Arc::clone(&shared.meter) as Arc<dyn byway_api::Meter>,
        );
        match timeout(shared.settings.open_wait, carrier.attach(context)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => problems.push(error.into()),
            None => problems.push(StartProblem::Config(format!("attaching {} took too long", carrier.name()))),
        }
    }
    problems
}

/// What our record says about reaching us: member listeners, then the transports' own addresses, then
/// homes, at most as many as a record may have.
pub(super) fn addresses(bound: &[Bound], signals: &Signals) -> Vec<SignalAddress> {
    let (listeners, homes) = signals.addresses();
    let mut all = listeners;
    all.extend(bound.iter().flat_map(|transport| transport.endpoint.addresses()));
    // A home is kept even if the others are many: it works where they may not.
    let keep = limits::RECORD_ADDRESSES - homes.len().min(limits::RECORD_ADDRESSES / 2);
    all.truncate(keep);
    all.extend(homes);
    let mut unique: Vec<SignalAddress> = Vec::new();
    for address in all {
        if !unique.contains(&address) && unique.len() < limits::RECORD_ADDRESSES {
            unique.push(address);
        }
    }
    unique
}

/// Accepts what comes in over one transport until it is closed.
pub(super) async fn accept(dialer: Dialer, bound: Bound, wakes: Arc<Wakes>) {
    let shared = &dialer.shared;
    while let Some(incoming) = bound.endpoint.next().await {
        match incoming {
            Incoming::AddressesChanged => wakes.addresses.notify_one(),
            Incoming::Connection(connection) => {
                let claimed = connection.peer();
                let Some(place) = HalfOpen::enter(&dialer.gate, &connection.path()) else {
                    // Dropped at once: a flood must not buy itself tasks.
                    shared.counters.half_open_refused.add();
                    continue;
                };
                let (dialer, over) = (dialer.clone(), bound.over);
                shared.runtime.spawn(async move {
                    let Dialer { shared, instance, .. } = dialer;
                    match hello(&shared, place, instance, connection, over, Role::Answerer, None).await {
                        Ok(established) => shared.notify(Notice::Accepted(Box::new(established))).await,
                        Err(_) => {
                            if let Some(peer) = claimed {
                                shared.notify(Notice::Withdrawn(peer)).await;
                            }
                        }
                    }
                });
            }
            _ => {}
        }
    }
}

/// Closes every transport and carrier, all at once, each within its deadline.
pub(super) async fn close(shared: &Shared, bound: &[Bound], signals: &Arc<Signals>) {
    let limit = shared.settings.shutdown_wait;
    let mut tasks = JoinSet::new();
    for transport in bound {
        let endpoint: Arc<dyn Endpoint> = Arc::clone(&transport.endpoint);
        let name = transport.over.transport;
        shared.runtime.spawn_into(&mut tasks, async move { (name, timeout(limit, endpoint.close()).await) });
    }
    signals.stop();
    for carrier in signals.carriers() {
        let carrier = Arc::clone(carrier);
        shared.runtime.spawn_into(&mut tasks, async move { (carrier.name(), timeout(limit, carrier.close()).await) });
    }
    while let Some(closed) = tasks.join_next().await {
        if let Ok((name, None)) = closed {
            tracing::warn!(target: "byway::engine", plugin = name, "closing took too long");
        }
    }
}
