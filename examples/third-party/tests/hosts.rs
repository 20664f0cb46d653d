//! The file of hosts keeps the promises of `DiscoveryStep`, and the ones of its own.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use byway_api::{
    Announcement, Bytes, DiscoveryStep, NetworkId, PeerId, SignalAddress, StepErrorKind, UserId, async_trait,
};
use byway_testkit::step::{Script, StepFixture, World};
use byway_third_party::hosts::{Hosts, HostsConfig};

fn network() -> NetworkId {
    NetworkId::new("team-blue").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn write(path: &Path) {
    let (bob, bobs_other, carol, red) = (peer(7), peer(8), peer(9), peer(10));
    let text = format!(
        "# who is where\n\n[team-blue]\nmem:7 {bob} bob\nmem:8\t{bobs_other}   bob # the laptop\nmem:9 {carol} Carol Danvers\n\
         mem:70 {bob} bobby\nmem:70 {bob} Bob\n[team-red]\nmem:10 {red} bob\n"
    )
    .replace(&format!("mem:70 {bob}"), &format!("mem:70 {}", peer(11)));
    fs::write(path, text).unwrap();
}

struct Office;

#[async_trait]
impl StepFixture for Office {
    async fn world(&self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        write(&path);
        let step = Arc::new(Hosts::new(&path, HostsConfig::default()));
        let addresses = vec![SignalAddress::new("mem:1").unwrap()];
        World::new(step, Script::new(network()), user("bob"), vec![peer(7), peer(8)], user("nobody"))
            .announcing(Announcement::new(network(), peer(1), Bytes::from_static(b"record"), addresses))
            .browsing(vec![peer(7), peer(8), peer(9), peer(11)])
            .killed_by(move || fs::remove_file(&path).unwrap())
            .keeping(folder)
    }
}

byway_testkit::step_conformance!(hosts, Office);

async fn found(step: &Hosts, name: &str) -> (usize, Result<(), byway_api::StepError>) {
    let lookup = Script::new(network()).lookup(&user(name));
    let result = step.find(&lookup).await;
    (lookup.reported().len(), result)
}

#[tokio::test]
async fn the_file_is_read_again_when_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    write(&path);
    let step = Hosts::new(&path, HostsConfig::default());
    assert_eq!(found(&step, "dave").await.0, 0);
    let more = fs::read_to_string(&path).unwrap() + &format!("[team-blue]\nmem:12 {} dave\n", peer(12));
    fs::write(&path, more).unwrap();
    assert_eq!(found(&step, "dave").await.0, 1);
}

#[tokio::test]
async fn a_line_that_makes_no_sense_is_told_and_hides_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    fs::write(&path, format!("[team-blue]\nmem:7 12D3Koo bob\nmem:8 {} bob\n", peer(8))).unwrap();
    let (routes, result) = found(&Hosts::new(&path, HostsConfig::default()), "bob").await;
    let error = result.unwrap_err();
    assert_eq!((routes, error.kind()), (1, StepErrorKind::BadAnswer));
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_browser_hears_of_lines_that_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    write(&path);
    let step = Hosts::new(&path, HostsConfig::default());
    let sightings = Script::new(network()).sightings();
    let added = async {
        while sightings.reported().len() < 5 {
            sightings.another().await;
        }
    };
    let more = async {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let more = fs::read_to_string(&path).unwrap() + &format!("[team-blue]\nmem:12 {} dave\n", peer(12));
        fs::write(&path, more).unwrap();
    };
    tokio::select! {
        ended = step.browse(&sightings) => panic!("browsing has ended: {ended:?}"),
        _ = async { tokio::join!(added, more) } => {}
    }
    let seen: Vec<_> = sightings.reported().into_iter().map(|route| route.peer).collect();
    assert_eq!(seen, [7, 8, 9, 11, 12].map(peer));
}
