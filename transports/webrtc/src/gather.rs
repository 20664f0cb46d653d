//! Learns the addresses that STUN and TURN servers give us, and keeps them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::candidate::Candidate;
use crate::config::TurnServer;
use crate::host;
use crate::peer::Phase;
use crate::shared::{Question, Shared};
use crate::signals;
use crate::socket::Sockets;
use crate::stun;
use crate::sync::lock;
use crate::turn::{Allocation, Turn};

/// Waits between repetitions of a question to a STUN server: 1.5 s in all.
const REPEAT: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// Questions to STUN servers under way.
const MAX_QUESTIONS: usize = 64;

/// Reads this machine's addresses. True if they differ from what was known.
pub(crate) fn refresh_hosts(shared: &Shared) -> bool {
    let Some(sockets) = lock(&shared.sockets).as_ref().map(Arc::clone) else { return false };
    lock(&shared.candidates).set_hosts(hosts(&sockets, shared.config.loopback))
}

/// The host candidates of these sockets.
pub(crate) fn hosts(sockets: &Sockets, loopback: Option<bool>) -> Vec<SocketAddr> {
    let interfaces = host::interfaces();
    let loopback = host::use_loopback(loopback, &interfaces);
    sockets.iter().flat_map(|socket| host::addresses(socket.bound(), &interfaces, loopback)).collect()
}

/// Runs until it is cancelled. `done` turns true after the first round.
pub(crate) async fn run(shared: Arc<Shared>, sockets: Arc<Sockets>, done: watch::Sender<bool>) {
    loop {
        let stun = stun_round(&shared, &sockets);
        let turn = turn_round(&shared, &sockets);
        let ((), turn_works) = tokio::join!(stun, turn);
        done.send_replace(true);
        let mut pause = shared.config.server_retry;
        if !shared.config.stun.is_empty() && !shared.config.relay_only {
            pause = pause.min(shared.config.stun_refresh);
        } else if turn_works {
            // the client refreshes its allocation by itself
            pause = pause.max(shared.config.server_retry);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.regather.notified() => {}
        }
    }
}

async fn stun_round(shared: &Arc<Shared>, sockets: &Sockets) {
    if shared.config.relay_only {
        return;
    }
    for server in &shared.config.stun {
        for address in resolve(server).await {
            if sockets.of(address).is_none() {
                continue;
            }
            match ask(shared, sockets, address).await {
                Some((local, mapped)) => learned_reflexive(shared, local, mapped),
                None => tracing::debug!(%server, "the STUN server does not answer"),
            }
        }
    }
}

/// The address of each family that the name stands for; a scheme in front is skipped.
async fn resolve(server: &str) -> Vec<SocketAddr> {
    let server = server.strip_prefix("stun:").or_else(|| server.strip_prefix("turn:")).unwrap_or(server);
    let server = server.split('?').next().unwrap_or(server);
    match tokio::net::lookup_host(server).await {
        Ok(all) => {
            let all: Vec<_> = all.collect();
            let first = |ipv4| all.iter().copied().find(|address| address.is_ipv4() == ipv4);
            first(true).into_iter().chain(first(false)).collect()
        }
        Err(e) => {
            tracing::debug!(%server, error = %e, "a server's name cannot be resolved");
            Vec::new()
        }
    }
}

/// Asks a STUN server: where the answer arrived, and what it says.
async fn ask(shared: &Shared, sockets: &Sockets, server: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let (id, request) = stun::binding_request()?;
    let (answer, mut answered) = oneshot::channel();
    {
        let mut questions = lock(&shared.questions);
        if questions.len() >= MAX_QUESTIONS {
            return None;
        }
        questions.insert(id, Question { server, answer });
    }
    let socket = sockets.of(server)?;
    for wait in REPEAT {
        socket.send(socket.bound().ip(), server, &request, None);
        if let Ok(answer) = tokio::time::timeout(wait, &mut answered).await {
            return answer.ok();
        }
    }
    lock(&shared.questions).remove(&id);
    None
}

fn learned_reflexive(shared: &Arc<Shared>, local: SocketAddr, mapped: SocketAddr) {
    {
        let mut candidates = lock(&shared.candidates);
        if candidates.reflexive.insert(local, mapped) == Some(mapped) || local == mapped {
            return;
        }
    }
    late(shared, Candidate::Reflexive { address: mapped, base: local });
}

/// True if there is an allocation, or no server to ask for one.
async fn turn_round(shared: &Arc<Shared>, sockets: &Sockets) -> bool {
    let Some(credential) = &shared.config.turn else { return true };
    if lock(&shared.turn).as_ref().is_some_and(|turn| turn.relayed().is_some()) {
        return true;
    }
    lock(&shared.candidates).relayed = None;
    for server in resolve(&credential.server).await {
        match allocate(shared, sockets, server, credential).await {
            Ok(address) => {
                lock(&shared.candidates).relayed = Some(address);
                late(shared, Candidate::Relayed { address });
                return true;
            }
            Err(why) => tracing::warn!(%server, %why, "no TURN allocation"),
        }
    }
    false
}

async fn allocate(
    shared: &Shared,
    sockets: &Sockets,
    server: SocketAddr,
    credential: &TurnServer,
) -> Result<SocketAddr, String> {
    let socket = sockets.of(server).ok_or("no socket of its address family")?;
    let (mut turn, mut state) = Turn::ask(server, socket.bound(), credential, Instant::now())?;
    shared.flush_turn(&mut turn, sockets);
    *lock(&shared.turn) = Some(turn);
    shared.wake.notify_one();
    let answered = state.wait_for(|state| *state != Allocation::Asked);
    let answer = tokio::time::timeout(shared.config.connect_timeout, answered).await;
    match answer.ok().and_then(Result::ok).as_deref() {
        Some(Allocation::Granted(address)) => Ok(*address),
        Some(Allocation::Failed(why)) => Err(why.clone()),
        _ => Err("the TURN server does not answer".to_owned()),
    }
}

/// Tells the peers of running attempts about a candidate that was not in the description.
fn late(shared: &Arc<Shared>, candidate: Candidate) {
    for peer in shared.peers() {
        if matches!(*peer.phase.borrow(), Phase::Connecting) {
            peer.local_candidate(candidate);
            signals::trickle(&peer, candidate);
        }
    }
}

/// Tells the peers of running attempts about new host addresses.
pub(crate) fn late_hosts(shared: &Arc<Shared>) {
    if !shared.config.relay_only {
        let hosts = lock(&shared.candidates).list(false);
        hosts.into_iter().filter(|it| matches!(it, Candidate::Host { .. })).for_each(|it| late(shared, it));
    }
}
