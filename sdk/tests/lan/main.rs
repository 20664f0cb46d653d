//! Members of a LAN that find each other with no registry, no invite and nothing configured: in network
//! namespaces with the preset as it is, and on the loopback.

#![allow(clippy::unwrap_used)]

mod member;
mod namespaces;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use byway::discovery::mdns::{Interfaces, MdnsConfig};
use byway::presets::Lan;
use byway::{Mdns, MemoryKeys, MemoryStore, Network, Node, WebRtc};
use member::Child;
use namespaces::Namespaces;

/// Nothing on a busy machine should come near.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three machines on a switch, each with one member, every one of them on the preset as it is.
#[test]
fn three_machines_on_a_switch_find_each_other() {
    let users = ["alice", "bob", "carol"];
    let lan = match Namespaces::on_a_switch(users.len()) {
        Ok(lan) => lan,
        Err(why) => return println!("skipped: {why}"),
    };
    let children = users.map(|user| (user, users.iter().filter(|other| **other != user).copied().collect::<Vec<_>>()));
    let children: Vec<Child> =
        children.iter().zip(lan.names()).map(|((user, others), machine)| Child::start(machine, user, others)).collect();
    for mut child in children.into_iter().map(Child::until_done).collect::<Vec<_>>() {
        child.stop();
    }
}

/// Two members on one machine that has no network but its loopback.
#[test]
fn two_members_on_one_machine_find_each_other() {
    let machine = match Namespaces::alone() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let name = &machine.names()[0];
    let (alice, bob) = (Child::start(name, "alice", &["bob"]), Child::start(name, "bob", &["alice"]));
    let (mut alice, mut bob) = (alice.until_done(), bob.until_done());
    alice.stop();
    bob.stop();
}

/// The same in one process and without privileges: on the loopback and a port of its own.
#[tokio::test]
async fn two_nodes_on_the_loopback_find_each_other() {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let start = async |user: &str| {
        let mut mdns = MdnsConfig::default();
        mdns.interfaces = Interfaces::Loopback;
        mdns.port = port;
        Node::builder(Lan)
            .join(Network::open("lan"), user)
            .store(MemoryStore::new())
            .keys(MemoryKeys::new())
            .transport(WebRtc::default().bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).loopback(true))
            .listener("127.0.0.1:0")
            .discovery(|ladder| ladder.without(Mdns::NAME).after("cache", Mdns::new(mdns)))
            .spawn()
            .await
            .unwrap()
    };
    let ((alice, _alices), (bob, mut bobs)) = (start("alice").await, start("bob").await);
    let chat = async {
        let sent = alice.chat("bob").unwrap().send("is anybody here?").await.unwrap();
        let message = bobs.next().await.unwrap();
        assert_eq!(message.text(), Some("is anybody here?"));
        message.done().await.unwrap();
        sent.delivered().await.unwrap();
    };
    if tokio::time::timeout(PATIENCE, chat).await.is_err() {
        panic!("{:?}", alice.explain("bob").await.unwrap().map(|why| why.to_string()));
    }
    for node in [&alice, &bob] {
        assert_eq!(node.metrics().await.unwrap().registry_calls, 0);
    }
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
