use byway::presets::InMemory;
use byway::{Invite, InviteError, MemoryKeys, MemoryStore, Network, Node, Part};

use crate::{connect, member, next, start};

#[tokio::test(start_paused = true)]
async fn an_invite_is_enough_to_find_each_other_and_is_remembered() {
    let alices_world = InMemory::new();
    let bobs_world = InMemory::on(alices_world.network().clone());
    let (alice, mut alices) = start(&alices_world, "alice").await;
    let invite = alice.invite().unwrap();
    assert!(invite.as_str().starts_with("byway1:"));
    assert_eq!(invite.to_string().parse::<Invite>().unwrap(), invite);

    let (store, keys) = (MemoryStore::new(), MemoryKeys::new());
    let bob = member(&bobs_world, "bob").store(store.clone()).keys(keys.clone()).bootstrap(&invite);
    let (bob, _bobs) = bob.spawn().await.unwrap();
    bob.chat("alice").unwrap().send("found you").await.unwrap();
    let message = next(&mut alices).await;
    assert_eq!(message.text(), Some("found you"));
    message.done().await.unwrap();
    bob.shutdown().await.unwrap();

    let again = member(&bobs_world, "bob").store(store.reopen().unwrap()).keys(keys);
    let (bob, _bobs) = again.spawn().await.unwrap();
    bob.chat("alice").unwrap().send("without the invite").await.unwrap();
    assert_eq!(next(&mut alices).await.text(), Some("without the invite"));
}

#[tokio::test(start_paused = true)]
async fn members_of_an_invited_ones_network_are_found_through_it() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_carol, mut carols) = start(&world, "carol").await;
    connect(&alice, "carol").await;
    let bob = member(&InMemory::on(world.network().clone()), "bob").bootstrap(alice.invite().unwrap());
    let (bob, _bobs) = bob.spawn().await.unwrap();
    bob.chat("carol").unwrap().send("alice knows you").await.unwrap();
    assert_eq!(next(&mut carols).await.text(), Some("alice knows you"));
}

/// Right after the start the node dials, on its own, the member whose invite it has. A lookup that
/// began meanwhile found nothing new, ended at once, and said that there is no way.
#[tokio::test(start_paused = true)]
async fn a_search_for_somebody_who_is_being_dialled_waits_for_that() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let bob = member(&InMemory::on(world.network().clone()), "bob").bootstrap(alice.invite().unwrap());
    let (bob, _bobs) = bob.spawn().await.unwrap();
    connect(&bob, "alice").await;
    let explanation = bob.explain("alice").await.unwrap().map(|explanation| explanation.to_string());
    assert!(explanation.as_ref().is_none_or(|text| text.contains("connected over mem")), "{explanation:?}");
}

#[tokio::test]
async fn an_invite_that_was_altered_anywhere_is_refused() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let good = alice.invite().unwrap().to_string();
    for at in ("byway1:".len()..good.len()).step_by(41) {
        let mut altered = good.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        let error = member(&world, "bob").bootstrap(&altered).spawn().await.unwrap_err();
        let parts: Vec<Part> = error.problems().iter().map(|p| p.part).collect();
        assert_eq!(parts, [Part::Bootstrap], "character {at}: {error}");
    }
}

#[tokio::test]
async fn an_invite_to_another_network_is_refused_with_its_reason() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let other = Node::builder(world).join(Network::open("other"), "bob").bootstrap(alice.invite().unwrap());
    let text = other.spawn().await.unwrap_err().to_string();
    assert!(text.contains("network"), "{text}");
}

#[tokio::test]
async fn a_device_that_nobody_can_dial_gives_no_invite() {
    use byway::api::{
        BindContext, Endpoint, Incoming, PeerId, SignalAddress, Transport, TransportCaps, TransportError,
    };
    use std::sync::Arc;

    #[derive(Debug)]
    struct Outgoing(byway::MemoryTransport);
    #[derive(Debug)]
    struct Hidden(Arc<dyn Endpoint>);

    #[byway::api::async_trait]
    impl Transport for Outgoing {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn caps(&self) -> TransportCaps {
            self.0.caps()
        }
        async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
            Ok(Arc::new(Hidden(self.0.bind(cx).await?)))
        }
    }

    #[byway::api::async_trait]
    impl Endpoint for Hidden {
        fn addresses(&self) -> Vec<SignalAddress> {
            Vec::new()
        }
        async fn dial(
            &self,
            peer: PeerId,
            to: &SignalAddress,
        ) -> Result<Arc<dyn byway::api::Connection>, TransportError> {
            self.0.dial(peer, to).await
        }
        async fn next(&self) -> Option<Incoming> {
            self.0.next().await
        }
        async fn close(&self) {
            self.0.close().await;
        }
    }

    let world = InMemory::new();
    let hidden = Outgoing(world.network().transport());
    let (node, _inbox) = member(&world, "alice").transport(hidden).spawn().await.unwrap();
    assert_eq!(node.invite(), Err(InviteError::NoAddress));
}
