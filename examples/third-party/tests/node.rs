//! Nodes of nothing but the plugins of this crate: one for each trait.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway::{Inbox, Network, Node, presets};
use byway_api::{KeyStore, Keys, NetworkId, PeerId, Secret, WallTime};
use byway_third_party::datagrams::Datagrams;
use byway_third_party::hosts::{Hosts, HostsConfig};
use byway_third_party::issued::{Issued, Issuer};
use byway_third_party::sheet::Sheet;
use byway_third_party::shelf::{Shelf, ShelfConfig};
use byway_third_party::unix::{Unix, UnixConfig};
use byway_third_party::volunteer::{Volunteer, VolunteerConfig};

const PATIENCE: Duration = Duration::from_secs(30);

async fn spawn(place: &Path, user: &str, seed: u8) -> (Node, Inbox) {
    let network = NetworkId::new("team-blue").unwrap();
    let home = place.join(user);
    fs::create_dir_all(&home).unwrap();
    let keys = Sheet::new(home.join("keys.txt"));
    keys.save(&Keys::new(Secret::new([seed; 32]), Vec::new())).unwrap();
    let device = PeerId::from_bytes(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());

    let issuer = Issuer::new(&Secret::new([99; 32]), network.clone());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = WallTime::from_millis(i64::try_from(now.as_millis()).unwrap());
    let credential = issuer.issue(&user.parse().unwrap(), &device, now, Duration::from_secs(3_600));

    Node::builder(presets::Bare)
        .profile(&home)
        .join(Network::open("team-blue"), user)
        .keys(keys)
        .membership(Issued::new(&issuer.public_key(), network).unwrap(), credential)
        .store(Shelf::open(home.join("shelf"), ShelfConfig::default()).unwrap())
        .transport(Unix::new(place.join("s"), UnixConfig::default()))
        .signaling(Datagrams::new(place.join("d")))
        .relay(Volunteer::new(home.join("mail"), [], VolunteerConfig::default()))
        .discovery(|ladder| ladder.last(Hosts::new(place.join("hosts"), HostsConfig::default())))
        .spawn()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_by_plugins_alone() {
    let place = tempfile::tempdir().unwrap();
    let (bob, mut inbox) = spawn(place.path(), "bob", 2).await;
    let address = bob.addresses().into_iter().find(|address| address.scheme() == "unix").unwrap();
    fs::write(place.path().join("hosts"), format!("[team-blue]\n{address} {} bob\n", bob.peer())).unwrap();

    let (alice, _) = spawn(place.path(), "alice", 1).await;
    let sent = alice.chat("bob").unwrap().send("hello").await.unwrap();
    let message = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(message.text(), Some("hello"));
    tokio::time::timeout(PATIENCE, sent.delivered()).await.unwrap().unwrap();
    message.done().await.unwrap();

    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
    for left in ["s", "d"] {
        assert_eq!(fs::read_dir(place.path().join(left)).unwrap().count(), 0, "sockets are left in {left}");
    }
}
