//! The mDNS step over real multicast, on the loopback only and on ports of its own.

use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::{
    Announcement, DiscoveryStep, NetworkId, PeerId, Secret, SignalAddress, StepErrorKind, WallTime, async_trait,
};
use byway_discovery::mdns::{Interfaces, Mdns, MdnsConfig};
use byway_testkit::step::{Script, ScriptedMeter, ScriptedSightings, StepFixture, World};
use byway_wire::{DeviceKey, OpenMembership, RecordDraft, issue_self_token, limits};

use crate::support::{network, user, within};

/// A port that nobody else on this machine speaks mDNS on.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(port: u16) -> MdnsConfig {
    let mut config = MdnsConfig::default();
    config.interfaces = Interfaces::Loopback;
    config.port = port;
    // machines that test are busy
    config.wait = Duration::from_secs(4);
    config
}

fn mdns(port: u16) -> Mdns {
    Mdns::new(config(port))
}

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([n; 32]))
}

fn record(n: u8, network: &NetworkId, name: &str, seq: u64, addresses: Vec<SignalAddress>) -> Bytes {
    let (key, now) = (key(n), WallTime::from_millis(1_800_000_000_000));
    let end = now.plus(limits::RECORD_LIFE);
    let credential = issue_self_token(&key, network, &user(name), &key.peer(), now, limits::RECORD_LIFE, [n; 16]);
    let draft = RecordDraft {
        network: network.clone(),
        user: user(name),
        seq,
        issued_at: now,
        expires_at: end,
        addresses,
        capabilities: vec!["relay".to_owned()],
        credential,
        seal_keys: Vec::new(),
        coordinators: Vec::new(),
    };
    draft.sign(&key, &OpenMembership::new(network.clone()), now).unwrap().bytes().clone()
}

/// What the device `n` says: `addresses` further ones make its record long.
fn announcement(n: u8, network: &NetworkId, name: &str, seq: u64, more: usize) -> Announcement {
    let peer = key(n).peer();
    let mut addresses = vec![SignalAddress::socket("ws://127.0.0.1:9", peer).unwrap()];
    addresses.extend((0..more).map(|i| SignalAddress::new(&format!("mem:{i}{}", "9".repeat(240))).unwrap()));
    Announcement::new(network.clone(), peer, record(n, network, name, seq, addresses.clone()), addresses)
}

async fn announce(step: &Mdns, me: &Announcement) {
    within(step.announce(me, &ScriptedMeter::new(0))).await.unwrap();
}

fn leaving(me: &Announcement) -> Announcement {
    let mut leaving = me.clone();
    leaving.leaving = true;
    leaving
}

async fn find(step: &Mdns, name: &str) -> Vec<(PeerId, usize)> {
    let lookup = Script::new(network()).lookup(&user(name));
    within(step.find(&lookup)).await.unwrap();
    let mut found: Vec<(PeerId, usize)> = Vec::new();
    for route in lookup.reported() {
        match found.iter_mut().find(|(peer, _)| *peer == route.peer) {
            Some((_, routes)) => *routes += 1,
            None => found.push((route.peer, 1)),
        }
    }
    found
}

/// Browses until the sightings are as wanted.
async fn browse_until(step: &Mdns, sightings: &ScriptedSightings, wanted: impl Fn(&ScriptedSightings) -> bool) {
    let seen = async {
        while !wanted(sightings) {
            sightings.another().await;
        }
    };
    within(async {
        tokio::select! {
            ended = step.browse(sightings) => panic!("browse ended: {ended:?}"),
            () = seen => {}
        }
    })
    .await;
}

fn seen(sightings: &ScriptedSightings) -> Vec<PeerId> {
    sightings.reported().iter().map(|route| route.peer).collect()
}

/// Bob's device is on the LAN, and so is one of a network that is none of ours.
struct Lan;

#[async_trait]
impl StepFixture for Lan {
    async fn world(&self) -> World {
        let port = free_port();
        let (bobs, eves) = (Arc::new(mdns(port)), mdns(port));
        announce(&bobs, &announcement(7, &network(), "bob", 1, 0)).await;
        announce(&eves, &announcement(8, &NetworkId::new("team-red").unwrap(), "bob", 1, 0)).await;
        let bob = key(7).peer();
        let killed = Arc::clone(&bobs);
        World::new(Arc::new(mdns(port)), Script::new(network()), user("bob"), vec![bob], user("nobody"))
            .announcing(announcement(1, &network(), "alice", 1, 0))
            .browsing(vec![bob])
            .killed_by(move || {
                let killed = Arc::clone(&killed);
                let me = leaving(&announcement(7, &network(), "bob", 1, 0));
                let leave = async move { killed.announce(&me, &ScriptedMeter::new(0)).await };
                std::thread::spawn(move || runtime().block_on(leave).unwrap()).join().unwrap();
            })
            .keeping((bobs, eves))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

byway_testkit::step_conformance!(mdns_step, Lan);

#[tokio::test]
async fn members_see_each_other_and_not_themselves() {
    let port = free_port();
    let steps = [mdns(port), mdns(port), mdns(port)];
    for (n, step) in (1..).zip(&steps) {
        announce(step, &announcement(n, &network(), &format!("user-{n}"), 1, 0)).await;
    }
    for (n, step) in (1..).zip(&steps) {
        let sightings = Script::new(network()).sightings();
        browse_until(step, &sightings, |s| seen(s).len() == 2).await;
        let mut expected: Vec<_> = [1, 2, 3].into_iter().filter(|m| *m != n).map(|m| key(m).peer()).collect();
        let mut seen = seen(&sightings);
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
        assert_eq!(sightings.scripted_meter().spent().len(), 0);
    }
}

/// The largest record there is, in all its pieces, and then a short one in its place.
#[tokio::test]
async fn a_record_of_any_length_is_carried_and_a_newer_one_takes_its_place() {
    let port = free_port();
    let (alice, bob) = (mdns(port), mdns(port));
    let long = announcement(7, &network(), "bob", 1, 7);
    assert!(long.record.len() > 2_400, "{} bytes", long.record.len());
    announce(&bob, &long).await;
    assert_eq!(find(&alice, "bob").await, [(key(7).peer(), 8)]);
    let sightings = Script::new(network()).sightings();
    browse_until(&alice, &sightings, |s| s.reported().len() == 8).await;
    assert!(sightings.reported().iter().all(|route| route.record.as_ref() == Some(&long.record)));

    let short = announcement(7, &network(), "bob", 2, 0);
    announce(&bob, &short).await;
    browse_until(&alice, &sightings, |s| s.reported().last().is_some_and(|r| r.record.as_ref() == Some(&short.record)))
        .await;
    assert_eq!(find(&alice, "bob").await, [(key(7).peer(), 1)]);
    // what is left of the long one says goodbye, which is no goodbye of the device
    announce(&bob, &announcement(7, &network(), "bob", 3, 0)).await;
    browse_until(&alice, &sightings, |s| s.reported().last().is_some_and(|r| r.record.as_ref() != Some(&short.record)))
        .await;
    assert_eq!(find(&alice, "bob").await, [(key(7).peer(), 1)]);
}

#[tokio::test]
async fn who_leaves_is_not_found_any_more_and_may_come_back() {
    let port = free_port();
    let mut quick = config(port);
    quick.wait = Duration::from_millis(100);
    let (alice, bob) = (Mdns::new(quick), mdns(port));
    let me = announcement(7, &network(), "bob", 1, 0);
    announce(&bob, &me).await;
    let sightings = Script::new(network()).sightings();
    browse_until(&alice, &sightings, |s| seen(s).len() == 1).await;
    announce(&bob, &leaving(&me)).await;
    within(async { while !find(&alice, "bob").await.is_empty() {} }).await;
    announce(&bob, &announcement(7, &network(), "bob", 2, 0)).await;
    browse_until(&alice, &sightings, |s| seen(s).iter().filter(|p| **p == key(7).peer()).count() >= 2).await;
}

#[tokio::test]
async fn a_running_browser_ends_when_its_device_leaves() {
    let alice = mdns(free_port());
    let me = announcement(1, &network(), "alice", 1, 0);
    announce(&alice, &me).await;
    let sightings = Script::new(network()).sightings();
    let bye = leaving(&me);
    let (browsed, ()) = within(async { tokio::join!(alice.browse(&sightings), announce(&alice, &bye)) }).await;
    browsed.unwrap();
    let lookup = Script::new(network()).lookup(&user("bob"));
    within(alice.find(&lookup)).await.unwrap();
    assert!(lookup.reported().is_empty());
}

/// Threads of the daemons of this process.
#[cfg(target_os = "linux")]
fn daemons() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .filter(|thread| {
            let name = thread.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "mDNS_daemon")
        })
        .count()
}

/// Counts threads, so it runs in a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_of_a_step_that_left_or_was_dropped() {
    const ALONE: &str = "BYWAY_MDNS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "mdns::nothing_is_left_of_a_step_that_left_or_was_dropped";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    runtime().block_on(async {
        let port = free_port();
        let (left, dropped) = (mdns(port), mdns(port));
        assert_eq!(daemons(), 0, "nothing is opened before the first call");
        let me = announcement(1, &network(), "alice", 1, 0);
        announce(&left, &me).await;
        announce(&dropped, &announcement(2, &network(), "bob", 1, 0)).await;
        assert_eq!(find(&left, "bob").await.len(), 1);
        threads(2).await;
        announce(&left, &leaving(&me)).await;
        // the thread has answered; it closes its sockets and ends
        threads(1).await;
        drop(dropped);
        threads(0).await;
        announce(&left, &me).await;
        // a step that left may come back
        threads(1).await;
    });
}

#[cfg(target_os = "linux")]
async fn threads(expected: usize) {
    within(async {
        while daemons() != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_step_serves_one_network() {
    let alice = mdns(free_port());
    announce(&alice, &announcement(1, &network(), "alice", 1, 0)).await;
    let elsewhere = announcement(1, &NetworkId::new("team-red").unwrap(), "alice", 1, 0);
    let refused = within(alice.announce(&elsewhere, &ScriptedMeter::new(0))).await.unwrap_err();
    assert_eq!(refused.kind(), StepErrorKind::Refused);
    let mut endless = announcement(1, &network(), "alice", 1, 0);
    endless.record = Bytes::from(vec![0; limits::RECORD_MAX + 1]);
    let refused = within(alice.announce(&endless, &ScriptedMeter::new(0))).await.unwrap_err();
    assert_eq!(refused.kind(), StepErrorKind::Refused);
}

#[tokio::test]
async fn a_type_that_is_no_services_is_an_error_at_once() {
    let mut wrong = config(free_port());
    wrong.service = "byway".to_owned();
    let alice = Mdns::new(wrong);
    let refused = within(alice.announce(&announcement(1, &network(), "alice", 1, 0), &ScriptedMeter::new(0))).await;
    refused.unwrap_err();
    within(alice.browse(&Script::new(network()).sightings())).await.unwrap_err();
    within(alice.find(&Script::new(network()).lookup(&user("bob")))).await.unwrap_err();
}

/// A sightings view that must not be told anything.
struct Nobody(NetworkId);

impl byway_api::Sightings for Nobody {
    fn network(&self) -> &NetworkId {
        &self.0
    }
    fn seen(&self, route: byway_api::Route) -> ControlFlow<()> {
        panic!("{route:?} was reported")
    }
    fn meter(&self) -> &dyn byway_api::Meter {
        unreachable!("the step is free")
    }
}

mod hostile;
