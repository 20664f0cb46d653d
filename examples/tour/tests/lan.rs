//! Members on a LAN, without a registry.

mod common;

#[test]
fn members_on_a_lan_find_each_other_without_a_registry() {
    let line = common::play("lan");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
