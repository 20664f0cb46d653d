//! Members on other transports and other stores.

mod common;

#[test]
fn two_members_talk_over_libp2p_without_any_server() {
    let line = common::play("libp2p");
    assert_eq!(line["registry_calls"], 0, "{line}");
}

#[test]
fn members_with_different_stores_and_transports_talk_and_survive_kills() {
    let line = common::play("stores");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
