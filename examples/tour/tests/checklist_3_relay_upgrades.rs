//! "Relay connections upgrade to direct automatically"

mod common;

#[test]
fn relay_connections_upgrade_to_direct_automatically() {
    let line = common::play("upgrade");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
