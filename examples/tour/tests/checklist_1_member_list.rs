//! "Member list updates without registry calls"

mod common;

#[test]
fn the_member_list_updates_without_registry_calls() {
    let line = common::play("member-list");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
