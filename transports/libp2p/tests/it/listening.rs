use byway_api::{Transport as _, TransportErrorKind as Kind};
use byway_transport_libp2p::Libp2p;

use crate::support::{bind, context, loopback, soon};

#[tokio::test]
async fn the_default_listens_on_every_interface_and_can_be_dialled() {
    let (ann, bob) = (bind(&Libp2p::default().loopback(true), 1).await, bind(&loopback(), 2).await);
    let addresses = ann.endpoint.addresses();
    assert!(!addresses.is_empty() && addresses.len() <= 4, "{addresses:?}");
    assert!(addresses.iter().any(|a| a.rest().starts_with("/ip4/")), "{addresses:?}");
    assert!(!addresses.iter().any(|a| a.rest().contains("/0.0.0.0/") || a.rest().contains("/ip6/::/")));
    for address in addresses {
        let dial = bob.endpoint.dial(ann.peer, &address);
        let (dialled, _) = tokio::join!(soon("the end of a dial", dial), ann.accept());
        dialled.unwrap();
    }
}

#[tokio::test]
async fn what_is_advertised_stands_first() {
    let ann = bind(&loopback().advertise("/ip4/203.0.113.7/tcp/4001"), 1).await;
    let addresses: Vec<_> = ann.endpoint.addresses().iter().map(|a| a.to_string()).collect();
    assert_eq!(addresses[0], "libp2p:/ip4/203.0.113.7/tcp/4001");
    assert!(addresses[1].starts_with("libp2p:/ip4/127.0.0.1/tcp/"), "{addresses:?}");
}

#[tokio::test]
async fn a_configuration_that_does_not_work_is_said_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    for (what, transport) in [
        ("port in use", Libp2p::default().listen(port)),
        ("nonsense", Libp2p::default().listen("everywhere")),
        ("a name", Libp2p::default().listen("/dns4/example.org/tcp/1")),
        ("nonsense advertised", loopback().advertise("example.org:4001")),
        ("an address of another machine", Libp2p::default().listen("/ip4/203.0.113.7/tcp/0")),
    ] {
        let failed = transport.bind(context(1)).await.unwrap_err();
        assert_eq!(failed.kind(), Kind::Config, "{what}: {failed}");
    }
}
