//! "Messages deliver when registry is offline"

mod common;

#[test]
fn messages_deliver_when_the_registry_is_offline() {
    let line = common::play("registry-offline");
    assert_eq!(line["registry_calls"], 0, "{line}");
}

#[test]
fn members_who_never_met_find_each_other_when_the_registry_is_offline() {
    let line = common::play("mutual-neighbour");
    assert_eq!(line["registry_calls"], 0, "{line}");
}

#[test]
fn everybody_finds_everybody_after_a_restart_when_the_registry_is_offline() {
    let line = common::play("cold-restart");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
