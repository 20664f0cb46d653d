//! Members who cannot connect directly.

mod common;

#[test]
fn messages_go_by_way_of_a_member_when_the_direct_path_is_refused() {
    let line = common::play("relay");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
