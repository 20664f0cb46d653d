//! "Connection reuse works properly"

mod common;

#[test]
fn connection_reuse_works_properly() {
    let line = common::play("connection-reuse");
    assert_eq!(line["registry_calls"], 0, "{line}");
}
