use byway::api::{DiscoveryStep, Lookup, StepError, async_trait};
use byway::presets::{Bare, InMemory};
use byway::{FileKeys, MemoryKeys, MemoryNetwork, MemoryStore, Network, Node, Part, Retry};

use crate::{member, start};

#[derive(Debug)]
struct Nothing(&'static str);

#[async_trait]
impl DiscoveryStep for Nothing {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn find(&self, _: &dyn Lookup) -> Result<(), StepError> {
        Ok(())
    }
}

#[tokio::test]
async fn every_problem_is_reported_at_once_with_what_to_do() {
    let error = Node::builder(Bare)
        .join(Network::open("Team Blue"), "a\nb")
        .discovery(|ladder| ladder.last(Nothing("mine")).before("registry", Nothing("other")))
        .listener("everywhere")
        .advertise("http://example.org")
        .bootstrap("not an invite")
        .tuning(|t| t.max_active = 0)
        .spawn()
        .await
        .unwrap_err();
    let text = error.to_string();
    let parts: Vec<Part> = error.problems().iter().map(|p| p.part).collect();
    for part in [
        Part::Membership,
        Part::Transport,
        Part::Discovery,
        Part::Bootstrap,
        Part::Listener,
        Part::Tuning,
        Part::Keys,
        Part::Store,
    ] {
        assert!(parts.contains(&part), "{part:?} is not in\n{text}");
    }
    for advice in
        ["Team Blue", ".transport(..)", "[\"mine\"]", "byway1:", "0.0.0.0:0", "ws://", "max_active", ".profile("]
    {
        assert!(text.contains(advice), "{advice:?} is not in\n{text}");
    }
    assert!(error.problems().iter().all(|p| !p.advice.is_empty()));
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_network_is_needed() {
    let error = Node::builder(InMemory::new()).spawn().await.unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert!(error.to_string().contains(".join("), "{error}");
}

#[tokio::test]
async fn a_step_can_stand_anywhere() {
    let world = InMemory::new();
    let builder = member(&world, "alice").discovery(|ladder| {
        let ladder = ladder.before("directory", Nothing("before")).after("existing", Nothing("after")).without("cache");
        assert_eq!(
            ladder.names().collect::<Vec<_>>(),
            ["existing", "after", "neighbours", "coordinators", "before", "directory", "store-and-forward"]
        );
        ladder
    });
    builder.spawn().await.unwrap();
}

#[tokio::test]
async fn two_steps_of_one_name_are_a_problem() {
    let world = InMemory::new();
    let error = member(&world, "alice").discovery(|l| l.last(Nothing("cache"))).spawn().await.unwrap_err();
    assert_eq!(error.problems()[0].part, Part::Discovery);
}

#[tokio::test]
async fn a_failed_build_leaves_the_store_closed() {
    let world = InMemory::new();
    let store = MemoryStore::new();
    let builder = member(&world, "alice").store(store.clone()).bootstrap("byway1:AAAA");
    let error = builder.spawn().await.unwrap_err();
    assert_eq!(error.problems()[0].part, Part::Bootstrap, "{error}");
    store.reopen().expect("nobody has it open");
}

#[tokio::test]
async fn a_transport_of_the_same_name_takes_the_place_of_the_presets() {
    let world = InMemory::new();
    let elsewhere = MemoryNetwork::new();
    let (moved, _) = member(&world, "alice").transport(elsewhere.transport()).spawn().await.unwrap();
    let (stayed, _) = start(&world, "bob").await;
    let connected = stayed.chat("alice").unwrap().connect(std::time::Duration::from_secs(5)).await;
    assert!(connected.is_err(), "alice is on another network");
    moved.shutdown().await.unwrap();
}

#[cfg(feature = "sqlite")]
mod profile {
    use super::*;
    use byway::Builder;
    use std::path::Path;

    fn in_profile(network: &MemoryNetwork, profile: &Path) -> Builder {
        Node::builder(Bare).transport(network.transport()).join(Network::open("team"), "alice").profile(profile)
    }

    #[tokio::test]
    async fn a_profile_keeps_the_device_and_admits_one_node_at_a_time() {
        let (network, dir) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let profile = dir.path().join("deep/down/alice");
        let (first, _inbox) = in_profile(&network, &profile).spawn().await.unwrap();
        let error = in_profile(&network, &profile).spawn().await.unwrap_err();
        assert_eq!(error.problems()[0].part, Part::Store, "{error}");
        assert_eq!(error.retry(), Retry::Later);
        assert!(error.to_string().contains("another profile"), "{error}");
        let peer = first.peer();
        first.shutdown().await.unwrap();

        let (again, _inbox) = in_profile(&network, &profile).spawn().await.unwrap();
        assert_eq!(again.peer(), peer);
        again.shutdown().await.unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_key_file_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let (network, dir) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let (node, _inbox) = in_profile(&network, dir.path()).spawn().await.unwrap();
        node.shutdown().await.unwrap();
        let keys = dir.path().join("keys");
        assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = in_profile(&network, dir.path()).spawn().await.unwrap_err();
        assert_eq!(error.problems()[0].part, Part::Keys, "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[tokio::test]
    async fn a_profile_that_cannot_be_made_is_a_problem_and_not_three() {
        let (network, dir) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, "in the way").unwrap();
        let error = in_profile(&network, &file.join("alice")).spawn().await.unwrap_err();
        let parts: Vec<Part> = error.problems().iter().map(|p| p.part).collect();
        assert_eq!(parts, [Part::Profile], "{error}");
    }

    #[tokio::test]
    async fn keys_and_store_can_be_elsewhere() {
        let (network, dir) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let builder = Node::builder(Bare).transport(network.transport()).join(Network::open("team"), "alice");
        let keys = FileKeys::new(dir.path().join("my-keys"));
        let (node, _inbox) = builder.store(MemoryStore::new()).keys(keys).spawn().await.unwrap();
        node.shutdown().await.unwrap();
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["my-keys"]);
    }
}

#[tokio::test]
async fn a_device_token_makes_a_second_device() {
    let world = InMemory::new();
    let (first, _inbox) = start(&world, "alice").await;
    let keys = MemoryKeys::new();
    let (probe, _) = member(&InMemory::new(), "alice").keys(keys.clone()).spawn().await.unwrap();
    let token = first.authorize(&probe.peer()).unwrap();
    probe.shutdown().await.unwrap();
    let (second, _) = member(&world, "alice").keys(keys).device_token(token).spawn().await.unwrap();
    assert_eq!(second.peer(), probe.peer());

    let stranger = member(&world, "alice").device_token(first.authorize(&probe.peer()).unwrap());
    let error = stranger.spawn().await.unwrap_err();
    assert_eq!(error.problems()[0].part, Part::Membership, "a token is for one device: {error}");
}
