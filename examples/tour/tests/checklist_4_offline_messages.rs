//! "Offline messages deliver when peer returns"

mod common;

/// What the returning device does at its start: it announces itself and opens its socket; one of these
/// may be asked for again with a new nonce.
const CALLS_OF_A_START: u64 = 3;

#[test]
fn offline_messages_deliver_when_the_peer_returns() {
    let line = common::play("offline-message");
    assert!(line["registry_calls"].as_u64().unwrap_or(u64::MAX) <= CALLS_OF_A_START, "{line}");
}
