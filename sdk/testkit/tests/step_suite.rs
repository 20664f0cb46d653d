//! The step suite itself: sound steps pass it, and each broken one fails exactly the promise that it
//! breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byway_api::{
    Announcement, Bytes, Cost, DiscoveryStep, Lookup, Meter, NetworkId, PeerId, Route, Sightings, SignalAddress,
    StepError, StepErrorKind, UserId, async_trait,
};
use byway_testkit::step::broken::{BrokenStep, Fault};
use byway_testkit::step::{Answer, PROMISES, Script, StepFixture, World, boxed};
use support::trial;
use tokio::time::Instant;

/// A step over a directory that stands for a server: it counts its calls and can go down.
#[derive(Debug)]
struct Directory {
    server: Arc<Server>,
    cost: Cost,
}

#[derive(Debug, Default)]
struct Server {
    calls: AtomicU64,
    down: Mutex<bool>,
    users: Mutex<BTreeMap<String, Vec<PeerId>>>,
}

impl Server {
    async fn call(&self, user: Option<&str>) -> Result<Vec<PeerId>, StepError> {
        const ROUND_TRIP: Duration = Duration::from_millis(20);
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(ROUND_TRIP).await;
        if *self.down.lock().unwrap() {
            return Err(StepError::new(StepErrorKind::Unreachable, "directory", "down"));
        }
        let users = self.users.lock().unwrap();
        Ok(users
            .iter()
            .filter(|(name, _)| user.is_none_or(|user| user == *name))
            .flat_map(|(_, d)| d.clone())
            .collect())
    }
}

impl Directory {
    fn pay(&self, meter: &dyn Meter, what: &'static str) -> Result<(), StepError> {
        if self.cost == Cost::Metered { meter.spend(what) } else { Ok(()) }
    }
}

#[async_trait]
impl DiscoveryStep for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        self.pay(lookup.meter(), "find")?;
        for device in self.server.call(Some(lookup.query().user.as_str())).await? {
            if lookup.found(Route::new(device, SignalAddress::through(device))).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        self.pay(sightings.meter(), "browse")?;
        for device in self.server.call(None).await? {
            if sightings.seen(Route::new(device, SignalAddress::through(device))).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn announce(&self, _me: &Announcement, meter: &dyn Meter) -> Result<(), StepError> {
        self.pay(meter, "announce")?;
        self.server.call(None).await.map(drop)
    }
}

/// The directory in a world with one known user, with a [`Fault`] or without.
struct DirectoryWorld {
    cost: Cost,
    fault: Option<Fault>,
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn network() -> NetworkId {
    NetworkId::new("suite").unwrap()
}

#[async_trait]
impl StepFixture for DirectoryWorld {
    async fn world(&self) -> World {
        let devices: Vec<PeerId> = [1, 2].map(|n| PeerId::from_bytes([n; 32])).to_vec();
        let server = Arc::new(Server::default());
        server.users.lock().unwrap().insert("alice".to_owned(), devices.clone());
        let members = devices.clone();
        let mut step: Arc<dyn DiscoveryStep> = Arc::new(Directory { server: Arc::clone(&server), cost: self.cost });
        if let Some(fault) = self.fault {
            step = Arc::new(BrokenStep::new(step, fault));
        }
        let me = Announcement::new(network(), PeerId::from_bytes([9; 32]), Bytes::from_static(b"record"), Vec::new());
        let (counted, killed) = (Arc::clone(&server), Arc::clone(&server));
        World::new(step, Script::new(network()), user("alice"), devices, user("nobody"))
            .counting(move || counted.calls.load(Ordering::Relaxed))
            .killed_by(move || *killed.down.lock().unwrap() = true)
            .announcing(me)
            .browsing(members)
            .keeping(server)
    }
}

#[test]
fn a_sound_metered_step_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(DirectoryWorld { cost: Cost::Metered, fault: None }));
    assert_eq!((broken, skipped), (vec![], vec!["a_free_step_spends_nothing"]));
}

#[test]
fn a_sound_free_step_keeps_every_promise() {
    let (broken, skipped) = trial(PROMISES, || boxed(DirectoryWorld { cost: Cost::Free, fault: None }));
    assert_eq!((broken, skipped), (vec![], vec!["an_empty_meter_stops_every_call", "every_call_is_paid_for"]));
}

#[test]
fn each_broken_step_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        let (broken, _) = trial(PROMISES, || boxed(DirectoryWorld { cost: Cost::Metered, fault: Some(*fault) }));
        assert_eq!(&broken, promises, "{fault:?}");
    }
}

/// A step that lives on its lookup alone: it asks all neighbours, one after the other.
#[derive(Debug)]
struct AskEach;

#[async_trait]
impl DiscoveryStep for AskEach {
    fn name(&self) -> &'static str {
        "ask-each"
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        for neighbour in lookup.connected() {
            for route in lookup.ask(neighbour.peer).await.unwrap_or_default() {
                if lookup.found(route).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

struct Neighbourhood;

#[async_trait]
impl StepFixture for Neighbourhood {
    async fn world(&self) -> World {
        let [alices, bobs, carols] = [1, 2, 3].map(|n| PeerId::from_bytes([n; 32]));
        let alice = user("alice");
        let route = Route::new(alices, SignalAddress::through(carols));
        let script = Script::new(network())
            .neighbour(bobs, user("bob"))
            .neighbour(carols, user("carol"))
            .answers(bobs, &alice, Answer::Fails(StepErrorKind::Timeout))
            .answers(carols, &alice, Answer::Slowly(Duration::from_millis(10), vec![route]));
        World::new(Arc::new(AskEach), script, alice, vec![alices], user("nobody"))
    }
}

byway_testkit::step_conformance!(by_macro, Neighbourhood);

#[tokio::test(start_paused = true)]
async fn a_script_is_followed_and_remembered() {
    let world = Neighbourhood.world().await;
    let lookup = world.script.lookup(&world.known);
    let started = Instant::now();
    world.step.find(&lookup).await.unwrap();
    assert_eq!(started.elapsed().as_millis(), 10, "the second neighbour is slow");
    assert_eq!(lookup.asked(), [2, 3].map(|n| PeerId::from_bytes([n; 32])));
    assert_eq!(lookup.reported().len(), 1);

    let stranger = lookup.ask(PeerId::from_bytes([7; 32])).await.unwrap_err();
    assert_eq!(stranger.kind(), StepErrorKind::Unreachable, "only neighbours can be asked");

    let routes: Vec<Route> = lookup.reported().into_iter().cycle().take(5).collect();
    let script = Script::new(network()).remembers(&world.known, Answer::Routes(routes)).with_tokens(1);
    let lookup = script.lookup(&world.known);
    assert_eq!(lookup.recall(3).await.unwrap().len(), 3);
    lookup.meter().spend("list").unwrap();
    assert_eq!(lookup.meter().spend("list").unwrap_err().kind(), StepErrorKind::NoBudget);
    assert_eq!((lookup.scripted_meter().spent(), lookup.scripted_meter().refused()), (vec!["list"], 1));
}
