//! From a configuration to a running node: finds everything that is wrong with it first.

use std::sync::Arc;

use byway_api::{
    KeyErrorKind, KeyStore, Membership, NetworkId, Route, RouteStore, StoreErrorKind, TransportErrorKind, UserId,
};
use byway_wire::{OpenMembership, VerifiedRecord, WireError};

use crate::builder::Builder;
use crate::engine::{self, Credential, EngineConfig, StartError, StartProblem};
use crate::error::{BuildError, Part, Problem};
use crate::inbox::Inbox;
use crate::invite::Invite;
use crate::keys_file::FileKeys;
use crate::listening::Listening;
use crate::network::{Network, Rule};
use crate::node::Node;
use crate::profile::Profile;

pub(crate) async fn spawn(builder: Builder) -> Result<(Node, Inbox), BuildError> {
    let Builder {
        profile,
        join,
        rule,
        device_token,
        transports,
        store,
        keys,
        ladder,
        carriers,
        relay,
        listener,
        advertise,
        bootstrap,
        tuning,
        clock,
        mut problems,
    } = builder;

    if tokio::runtime::Handle::try_current().is_err() {
        let text = "this is no tokio runtime";
        return Err(
            Problem::new(Part::Runtime, text, "call spawn inside #[tokio::main], or enter a runtime first").into()
        );
    }
    let joined = problems.take(joining(join, rule, device_token));
    if transports.is_empty() {
        problems.push(Problem::new(
            Part::Transport,
            "there is no transport, so nobody could be reached",
            "add one with .transport(..), or use a preset that has one",
        ));
    }
    let (steps, ladder_problems) = ladder.finish();
    problems.extend(ladder_problems);
    let invites = invites(&bootstrap, joined.as_ref(), &mut problems);
    let listening = Listening::check(listener, advertise, &mut problems);
    if let Err(problem) = tuning_fits(&tuning) {
        problems.push(problem);
    }

    let wanted = profile.is_some();
    let profile = profile.and_then(|profile| problems.take(made(profile)));
    // What would have been in a profile that cannot be made is not missing as well.
    let broken = wanted && profile.is_none();
    let keys = if broken && keys.is_none() { None } else { problems.take(keys_of(keys, profile.as_ref())) };
    let store = if broken && store.is_none() { None } else { problems.take(store_of(store, profile.as_ref())) };
    if let Some(keys) = &keys
        && let Err(error) = keys.load()
    {
        problems.push(from_keys(&error));
    }

    #[cfg(feature = "listener")]
    let own = match (listening, &joined, &store) {
        (Some(listening), Some(joined), Some(store)) => {
            problems.take(listening.open(Arc::clone(&joined.membership), &**store).await)
        }
        _ => None,
    };
    #[cfg(not(feature = "listener"))]
    drop(listening);

    let (Some(joined), Some(keys), Some(store), true) = (joined, keys, store.clone(), problems.is_empty()) else {
        if let Some(store) = store {
            // For the lock; what little was written may be lost.
            let _ = store.close().await;
        }
        return Err(BuildError::new(problems));
    };

    let Joined { network, user, membership, credential } = joined;
    let mut config = EngineConfig::new(network, user, keys, credential, membership, store);
    config.transports = transports;
    config.steps = steps;
    // In this order their addresses stand in our record: our own listener before any server.
    #[cfg(feature = "listener")]
    config.carriers.extend(own.map(|own| Arc::new(own) as Arc<dyn byway_api::Signaling>));
    config.carriers.extend(carriers);
    config.relay = relay;
    config.bootstrap = invites;
    config.tuning = tuning;
    config.clock = clock;
    let (engine, items) = engine::start(config).await.map_err(from_engine)?;
    Ok((Node::new(engine.clone()), Inbox::new(items, engine)))
}

/// Collects what is wrong and goes on.
trait Take {
    fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T>;
}

impl Take for Vec<Problem> {
    fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.push(problem)).ok()
    }
}

/// Who we are, in which network, and who judges that.
struct Joined {
    network: NetworkId,
    user: UserId,
    membership: Arc<dyn Membership>,
    credential: Credential,
}

fn joining(
    join: Option<(Network, String)>,
    instead: Option<Rule>,
    device_token: Option<String>,
) -> Result<Joined, Problem> {
    let part = Part::Membership;
    let Some((network, user)) = join else {
        return Err(Problem::new(part, "there is no network", "add .join(Network::open(\"name\"), \"user\")"));
    };
    let Network { name, rule } = network;
    let advice = "correct it in .join(..)";
    let ids = (NetworkId::new(&name), UserId::new(&user));
    let (network, user) = match ids {
        (Ok(network), Ok(user)) => (network, user),
        (Err(network), Err(user)) => return Err(Problem::new(part, format!("{network}; {user}"), advice)),
        (Err(error), _) | (_, Err(error)) => return Err(Problem::new(part, error.to_string(), advice)),
    };
    let (membership, credential): (Arc<dyn Membership>, _) = match instead.unwrap_or(rule) {
        Rule::Open => {
            let credential = device_token.map_or(Credential::SelfSigned, Credential::Given);
            (Arc::new(OpenMembership::new(network.clone())), credential)
        }
        Rule::Own { .. } if device_token.is_some() => {
            return Err(Problem::new(
                part,
                "a device token is for open networks and this one has a membership of its own",
                "take .device_token(..) out: the credential already names the device",
            ));
        }
        Rule::Own { membership, credential } => (membership, Credential::Given(credential)),
    };
    Ok(Joined { network, user, membership, credential })
}

/// The routes in the invites, as far as they are valid for our network.
fn invites(texts: &[String], joined: Option<&Joined>, problems: &mut Vec<Problem>) -> Vec<Route> {
    let now = engine::now_wall();
    let mut routes = Vec::new();
    for text in texts {
        let invite: Invite = match text.parse() {
            Ok(invite) => invite,
            Err(error) => {
                problems.push(Problem::new(Part::Bootstrap, format!("{error}"), "copy the whole invite, once more"));
                continue;
            }
        };
        let Some(Joined { network, membership, .. }) = joined else { continue };
        match VerifiedRecord::verify(invite.record(), network, &**membership, now) {
            Ok(record) => routes.extend(record.addresses().iter().map(|address| {
                Route::new(record.peer(), address.clone())
                    .with_record(record.bytes().clone())
                    .with_last_seen(record.issued_at())
            })),
            Err(error) => problems.push(refused(&error, network)),
        }
    }
    routes
}

fn refused(error: &WireError, network: &NetworkId) -> Problem {
    let advice = match error {
        WireError::WrongNetwork => format!("join the network it is for, or ask for one of {network}"),
        WireError::Expired { .. } => "ask for a new one".to_owned(),
        WireError::NotYetValid { .. } => "check the clock of this machine".to_owned(),
        _ => "it was altered on its way: ask for it again".to_owned(),
    };
    Problem::new(Part::Bootstrap, format!("an invite is not valid: {error}"), advice)
}

fn made(profile: Profile) -> Result<Profile, Problem> {
    match profile.create() {
        Ok(()) => Ok(profile),
        Err(error) => {
            let text = format!("the profile {} cannot be made: {error}", profile.directory().display());
            Err(Problem::new(Part::Profile, text, "choose a directory that you may write"))
        }
    }
}

fn keys_of(keys: Option<Arc<dyn KeyStore>>, profile: Option<&Profile>) -> Result<Arc<dyn KeyStore>, Problem> {
    match (keys, profile) {
        (Some(keys), _) => Ok(keys),
        (None, Some(profile)) => Ok(Arc::new(FileKeys::new(profile.keys()))),
        (None, None) => Err(Problem::new(
            Part::Keys,
            "there is no place for the device's keys",
            "add .profile(directory), or .keys(..)",
        )),
    }
}

fn from_keys(error: &byway_api::KeyError) -> Problem {
    let advice = match error.kind() {
        KeyErrorKind::Permissions => "make it yours alone",
        KeyErrorKind::Corrupt => "restore it, or move it away to be a new device",
        _ => "see whether the file can be read",
    };
    Problem::new(Part::Keys, error.to_string(), advice).with_retry(error.retry())
}

fn store_of(store: Option<Arc<dyn RouteStore>>, profile: Option<&Profile>) -> Result<Arc<dyn RouteStore>, Problem> {
    match (store, profile) {
        (Some(store), _) => Ok(store),
        #[cfg(feature = "sqlite")]
        (None, Some(profile)) => match byway_store_sqlite::SqliteStore::open(profile.store()) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(from_store(&error)),
        },
        _ => {
            let advice =
                if cfg!(feature = "sqlite") { "add .profile(directory), or .store(..)" } else { "add .store(..)" };
            Err(Problem::new(Part::Store, "there is no store for messages and routes", advice))
        }
    }
}

fn from_store(error: &byway_api::StoreError) -> Problem {
    let advice = match error.kind() {
        StoreErrorKind::Busy => "stop the other process that uses this profile, or choose another profile",
        StoreErrorKind::DiskFull => "free some space",
        StoreErrorKind::ReadOnly => "make it writable",
        StoreErrorKind::Corrupt => "restore it from a backup, or move it away to start empty",
        StoreErrorKind::NewerSchema => "use the newer version of the app",
        _ => "see whether the file can be read and written",
    };
    Problem::new(Part::Store, error.to_string(), advice).with_retry(error.retry())
}

fn tuning_fits(tuning: &byway_core::Tuning) -> Result<(), Problem> {
    let wrong = |text: &str| Err(Problem::new(Part::Tuning, text, "correct it in .tuning(..)"));
    if tuning.max_active == 0 {
        wrong("max_active is 0: a node needs at least one connection")
    } else if tuning.in_flight == 0 || tuning.parallel_dials == 0 {
        wrong("in_flight and parallel_dials are at least 1")
    } else if !(0.0..=0.5).contains(&tuning.jitter) {
        wrong("jitter is a share between 0 and 0.5")
    } else {
        Ok(())
    }
}

fn from_engine(error: StartError) -> BuildError {
    BuildError::new(error.problems.into_iter().map(from_start).collect())
}

fn from_start(problem: StartProblem) -> Problem {
    match problem {
        StartProblem::Store(error) => from_store(&error),
        StartProblem::Keys(error) => from_keys(&error),
        StartProblem::Transport(error) => {
            let advice = match error.kind() {
                TransportErrorKind::LocalFault => "check this machine's network",
                _ => "correct its configuration",
            };
            Problem::new(Part::Transport, error.to_string(), advice).with_retry(error.retry())
        }
        StartProblem::Carrier(error) => {
            Problem::new(Part::Signaling, error.to_string(), "correct its configuration").with_retry(error.retry())
        }
        StartProblem::Insecure(_) => {
            Problem::new(Part::Transport, problem.to_string(), "use one that does, such as WebRTC")
        }
        StartProblem::Record(_) => {
            Problem::new(Part::Membership, problem.to_string(), "get a credential for this device")
        }
        StartProblem::Invite { .. } => Problem::new(Part::Bootstrap, problem.to_string(), "ask for a new invite"),
        StartProblem::Config(_) => Problem::new(Part::Runtime, problem.to_string(), "change the configuration"),
    }
}
