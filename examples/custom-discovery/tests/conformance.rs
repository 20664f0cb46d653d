//! The suite for discovery steps over the shared folder, and what the suite cannot know of it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{Announcement, Bytes, DiscoveryStep, NetworkId, PeerId, SignalAddress, UserId, async_trait};
use byway_custom_discovery::SharedFolder;
use byway_testkit::step::broken::{BrokenStep, Fault};
use byway_testkit::step::{Limits, PROMISES, Script, ScriptedMeter, StepFixture, World, boxed, deadline};
use tempfile::TempDir;

fn network() -> NetworkId {
    NetworkId::new("team-blue").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn announcement(n: u8, network: NetworkId) -> Announcement {
    let addresses = vec![SignalAddress::socket("ws://10.0.0.7:7777", peer(n)).unwrap()];
    Announcement::new(network, peer(n), Bytes::from_static(b"record\n\n\xff"), addresses)
}

async fn announce(folder: &Path, name: &str, me: &Announcement) {
    SharedFolder::new(folder, user(name)).announce(me, &ScriptedMeter::new(0)).await.unwrap();
}

/// Bob has two devices, Carol one; somebody of another network shares the folder, and it has been used for
/// other things.
struct Shared(Option<Fault>);

#[async_trait]
impl StepFixture for Shared {
    async fn world(&self) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (n, name) in [(7, "bob"), (8, "bob"), (9, "carol")] {
            announce(folder.path(), name, &announcement(n, network())).await;
        }
        announce(folder.path(), "bob", &announcement(10, NetworkId::new("team-red").unwrap())).await;
        litter(&folder);
        let mut step: Arc<dyn DiscoveryStep> = Arc::new(SharedFolder::new(folder.path(), user("alice")));
        if let Some(fault) = self.0 {
            step = Arc::new(BrokenStep::new(step, fault));
        }
        let gone = folder.path().to_owned();
        World::new(step, Script::new(network()), user("bob"), vec![peer(7), peer(8)], user("nobody"))
            .announcing(announcement(1, network()))
            .browsing(vec![peer(7), peer(8), peer(9)])
            .killed_by(move || fs::remove_dir_all(&gone).unwrap())
            .keeping(folder)
    }

    /// Who is broken on purpose need not be waited for as long.
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if self.0.is_some() {
            limits.patience = Duration::from_secs(1);
        }
        limits
    }
}

fn litter(folder: &TempDir) {
    let members = folder.path().join("team-blue.members");
    let record = fs::read(members.join(peer(7).to_string())).unwrap();
    fs::write(members.join("holiday.jpg"), [0xff; 64]).unwrap();
    fs::write(members.join(format!("{}.sync-conflict", peer(7))), &record).unwrap();
    fs::create_dir(members.join(peer(11).to_string())).unwrap();
    // half synced, empty, not text, and a device that claims the address of another one
    fs::write(members.join(peer(12).to_string()), &record[..5]).unwrap();
    fs::write(members.join(peer(13).to_string()), []).unwrap();
    fs::write(members.join(peer(14).to_string()), [&[0xff; 9], &b"\n\nrecord"[..]].concat()).unwrap();
    fs::write(members.join(peer(15).to_string()), &record).unwrap();
}

byway_testkit::step_conformance!(shared_folder, Shared(None));

/// The suite would have told us: each way of being broken that a free step has is noticed here.
#[tokio::test]
async fn the_suite_notices_what_is_broken() {
    for fault in [
        Fault::IgnoresBreak,
        Fault::FailsOnNothing,
        Fault::ReportsAStranger,
        Fault::WorksOn,
        Fault::BrowsesOn,
        Fault::BrowsesElsewhere,
        Fault::SeesNobody,
    ] {
        let fixture = boxed(Shared(Some(fault)));
        let mut broken = Vec::new();
        for promise in PROMISES {
            if promise.test(&*fixture, deadline(&*fixture)).await.is_err() {
                broken.push(promise.name());
            }
        }
        let (_, expected) = Fault::ALL.iter().find(|(of, _)| *of == fault).unwrap();
        assert_eq!(broken, *expected, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_announced_is_found_as_it_was_until_the_device_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let mut me = announcement(7, network());
    announce(folder.path(), "bob", &me).await;
    let step = SharedFolder::new(folder.path(), user("alice"));
    let lookup = Script::new(network()).lookup(&user("bob"));
    step.find(&lookup).await.unwrap();
    let [found] = &lookup.reported()[..] else { panic!("{:?}", lookup.reported()) };
    assert_eq!((found.peer, &found.address, found.record.as_ref()), (me.peer, &me.addresses[0], Some(&me.record)));

    me.leaving = true;
    announce(folder.path(), "bob", &me).await;
    let lookup = Script::new(network()).lookup(&user("bob"));
    step.find(&lookup).await.unwrap();
    assert_eq!(lookup.reported(), []);
}
