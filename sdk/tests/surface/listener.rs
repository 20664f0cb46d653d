use std::net::TcpListener;

use byway::presets::InMemory;
use byway::{MemoryKeys, MemoryStore, Node, Part, Retry};

use crate::member;

/// The port in the record of a node that listens on the loopback.
fn port(node: &Node) -> u16 {
    let addresses = node.addresses();
    let (base, peer) = addresses.iter().find_map(|a| a.socket_parts()).expect("the listener is in the record");
    assert_eq!(peer, node.peer());
    base.strip_prefix("ws://127.0.0.1:").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_port_that_was_chosen_is_kept_over_restarts() {
    let (world, store, keys) = (InMemory::new(), MemoryStore::new(), MemoryKeys::new());
    let listening = |store| member(&world, "alice").store(store).keys(keys.clone()).listener("127.0.0.1:0");
    let (first, _inbox) = listening(store.clone()).spawn().await.unwrap();
    let chosen = port(&first);
    first.shutdown().await.unwrap();

    let store = store.reopen().unwrap();
    let (second, _inbox) = listening(store.clone()).spawn().await.unwrap();
    assert_eq!(port(&second), chosen);
    second.shutdown().await.unwrap();

    let _somebody_else = TcpListener::bind(("127.0.0.1", chosen)).unwrap();
    let store = store.reopen().unwrap();
    let (third, _inbox) = listening(store.clone()).spawn().await.unwrap();
    let other = port(&third);
    assert_ne!(other, chosen);
    third.shutdown().await.unwrap();

    let (fourth, _inbox) = listening(store.reopen().unwrap()).spawn().await.unwrap();
    assert_eq!(port(&fourth), other);
    fourth.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_in_use_is_one_of_the_problems() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = InMemory::new();
    let builder = member(&world, "alice").listener(taken.local_addr().unwrap()).bootstrap("nothing");
    let error = builder.spawn().await.unwrap_err();
    let parts: Vec<Part> = error.problems().iter().map(|p| p.part).collect();
    assert_eq!(parts, [Part::Bootstrap, Part::Listener], "{error}");
    assert_eq!(error.problems()[1].retry, Retry::Later);
}

#[tokio::test]
async fn an_advertised_url_takes_the_place_of_the_addresses_found_here() {
    let world = InMemory::new();
    let builder = member(&world, "alice").listener("127.0.0.1:0").advertise("ws://203.0.113.7:7777");
    let (node, _inbox) = builder.spawn().await.unwrap();
    let sockets: Vec<_> = node.addresses().into_iter().filter(|a| a.is_socket()).collect();
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].as_str(), format!("ws://203.0.113.7:7777/{}", node.peer()));
    node.shutdown().await.unwrap();
}
