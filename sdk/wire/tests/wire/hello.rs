//! The handshake: what succeeds, what is refused, and what the other side is told.

use bytes::{Bytes, BytesMut};
use byway_api::{BindingKind, ChannelBinding, NetworkId, PeerId, WallTime};
use byway_wire::{
    Handshake, HelloConfig, HelloError, HelloStep, OpenMembership, PeerHello, RejectCode, Role, issue_self_token,
    limits, proto, reject,
};
use prost::Message as _;

use crate::common::*;

pub(crate) fn binding(n: u8) -> ChannelBinding {
    ChannelBinding::new(BindingKind::DtlsCertificates, vec![n; 64])
}

impl Person {
    pub(crate) fn config(&self) -> HelloConfig {
        HelloConfig {
            network: network(),
            credential: self.token(),
            record_seq: 5,
            capabilities: vec!["relay".to_owned()],
            max_frame: limits::FRAME_MAX,
            instance: instance(3),
            revocation_seq: 1,
        }
    }

    pub(crate) fn start(&self, role: Role) -> (Handshake, Bytes) {
        self.start_with(role, &self.config(), NOW)
    }

    fn start_with(&self, role: Role, config: &HelloConfig, now: WallTime) -> (Handshake, Bytes) {
        Handshake::start(role, config, &self.key, &binding(1), [self.peer().as_bytes()[0]; 32], now)
    }

    pub(crate) fn take(&self, handshake: &mut Handshake, frame: Bytes) -> Result<HelloStep, HelloError> {
        handshake.receive(frame, &self.key, &membership(), NOW)
    }
}

pub(crate) fn sent(step: HelloStep) -> Bytes {
    match step {
        HelloStep::Send(bytes) => bytes,
        other => panic!("expected something to send, got {other:?}"),
    }
}

fn done(step: HelloStep) -> PeerHello {
    match step {
        HelloStep::Done { send: None, peer } => *peer,
        other => panic!("expected the end, got {other:?}"),
    }
}

fn both(a: &Bytes, b: &Bytes) -> Bytes {
    [&a[..], b].concat().into()
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let (alice, bob) = (alice(), bob());
    let (mut dialer, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, hello_b) = bob.start(Role::Answerer);
    let auth_b = sent(bob.take(&mut answerer, hello_a).unwrap());
    let auth_a = sent(alice.take(&mut dialer, hello_b).unwrap());
    let at_alice = done(alice.take(&mut dialer, auth_b).unwrap());
    let at_bob = done(bob.take(&mut answerer, auth_a).unwrap());
    assert_eq!((at_alice.peer, at_alice.member.user.as_str()), (bob.peer(), "bob"));
    assert_eq!((at_bob.peer, at_bob.member.user.as_str()), (alice.peer(), "alice"));
    assert_eq!((at_bob.instance, at_bob.record_seq, at_bob.revocation_seq), (instance(3), 5, 1));
    assert_eq!(
        (at_bob.max_frame, at_bob.time, at_bob.capabilities),
        (limits::FRAME_MAX, NOW, vec!["relay".to_owned()])
    );
}

#[test]
fn hello_and_signature_may_come_in_one_frame() {
    let (alice, bob) = (alice(), bob());
    let (mut dialer, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, hello_b) = bob.start(Role::Answerer);
    let auth_b = sent(bob.take(&mut answerer, hello_a).unwrap());
    let HelloStep::Done { send: Some(auth_a), peer } = alice.take(&mut dialer, both(&hello_b, &auth_b)).unwrap() else {
        panic!("expected the end and a signature to send")
    };
    assert_eq!(peer.peer, bob.peer());
    assert_eq!(done(bob.take(&mut answerer, auth_a).unwrap()).peer, alice.peer());
}

fn refusal(change: impl FnOnce(&mut HelloConfig), time: WallTime) -> HelloError {
    let (alice, bob) = (alice(), bob());
    let mut config = alice.config();
    change(&mut config);
    let (_, hello) = alice.start_with(Role::Dialer, &config, time);
    let (mut answerer, _) = bob.start(Role::Answerer);
    let refused = bob.take(&mut answerer, hello).unwrap_err();

    let (mut dialer, _) = alice.start(Role::Dialer);
    let told = alice.take(&mut dialer, refused.send.clone().unwrap()).unwrap_err();
    assert_eq!((told.code, told.by_peer, told.send), (refused.code, true, None), "the other side can explain it");
    assert!(!refused.by_peer);
    refused
}

#[test]
fn refusals_have_a_reason_that_reaches_the_other_side() {
    let network = refusal(|c| c.network = NetworkId::new("team-red").unwrap(), NOW);
    assert_eq!(network.code, RejectCode::WrongNetwork);

    let a = alice();
    let token = |network: &str, now| {
        issue_self_token(&a.key, &NetworkId::new(network).unwrap(), &a.user, &a.peer(), now, DAY, [1; 16])
    };
    assert_eq!(refusal(|c| c.credential = token("team-blue", NOW.minus(2 * DAY)), NOW).code, RejectCode::Expired);
    assert_eq!(refusal(|c| c.credential = token("team-blue", NOW.plus(2 * DAY)), NOW).code, RejectCode::Clock);
    assert_eq!(refusal(|c| c.credential = token("team-red", NOW), NOW).code, RejectCode::WrongNetwork);
    assert_eq!(refusal(|c| c.credential = bob().token(), NOW).code, RejectCode::Protocol);
    assert_eq!(refusal(|c| c.credential.clear(), NOW).code, RejectCode::Protocol);
    assert_eq!(refusal(|c| c.max_frame = 100, NOW).code, RejectCode::Protocol);
    assert_eq!(refusal(|c| c.capabilities = vec!["with space".to_owned()], NOW).code, RejectCode::Protocol);

    let second = std::time::Duration::from_secs(1);
    assert_eq!(refusal(|_| (), NOW.plus(limits::CLOCK_SKEW + second)).code, RejectCode::Clock);
    assert_eq!(refusal(|_| (), NOW.minus(limits::CLOCK_SKEW + second)).code, RejectCode::Clock);
    assert_eq!(refusal(|_| (), WallTime::from_millis(i64::MAX)).code, RejectCode::Clock);
    assert_eq!(refusal(|_| (), WallTime::from_millis(i64::MIN)).code, RejectCode::Clock);
}

/// Alice's Hello with a change, from a version that does not exist.
fn changed(change: impl FnOnce(&mut proto::Hello)) -> Bytes {
    let (_, hello) = alice().start(Role::Dialer);
    let frame = proto::HelloFrame::decode_length_delimited(hello).unwrap();
    let Some(proto::hello_frame::Body::Hello(bytes)) = frame.body else { unreachable!() };
    let mut hello = proto::Hello::decode(bytes).unwrap();
    change(&mut hello);
    let body = Some(proto::hello_frame::Body::Hello(hello.encode_to_vec().into()));
    proto::HelloFrame { body }.encode_length_delimited_to_vec().into()
}

#[test]
fn versions_must_overlap() {
    let code = |hello| bob().take(&mut bob().start(Role::Answerer).0, hello).map_err(|e| e.code);
    assert_eq!(code(changed(|h| (h.version, h.min_version) = (3, 2))), Err(RejectCode::Version));
    assert_eq!(code(changed(|h| (h.version, h.min_version) = (0, 0))), Err(RejectCode::Version));
    assert!(code(changed(|h| (h.version, h.min_version) = (3, 1))).is_ok());
}

#[test]
fn a_short_nonce_key_or_instance_is_refused() {
    let code = |hello| bob().take(&mut bob().start(Role::Answerer).0, hello).map_err(|e| e.code);
    assert_eq!(code(changed(|h| h.nonce.truncate(31))), Err(RejectCode::Protocol));
    assert_eq!(code(changed(|h| h.peer_key.truncate(31))), Err(RejectCode::Protocol));
    assert_eq!(code(changed(|h| h.instance.truncate(15))), Err(RejectCode::Protocol));
}

#[test]
fn an_echo_of_ourselves_is_refused() {
    let alice = alice();
    let (mut dialer, hello) = alice.start(Role::Dialer);
    let refused = alice.take(&mut dialer, hello).unwrap_err();
    assert_eq!((refused.code, refused.text.as_str()), (RejectCode::Protocol, "this is our own key"));
}

#[test]
fn someone_in_the_middle_of_two_channels_is_found_out() {
    let (alice, bob) = (alice(), bob());
    let (mut dialer, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, hello_b) = Handshake::start(Role::Answerer, &bob.config(), &bob.key, &binding(2), [0; 32], NOW);
    let auth_b = sent(bob.take(&mut answerer, hello_a).unwrap());
    sent(alice.take(&mut dialer, hello_b).unwrap());
    assert_eq!(alice.take(&mut dialer, auth_b).unwrap_err().code, RejectCode::Protocol);
}

#[test]
fn the_kind_of_a_binding_counts_too() {
    let (alice, bob) = (alice(), bob());
    let (mut dialer, hello_a) = alice.start(Role::Dialer);
    let other = ChannelBinding::new(BindingKind::NoiseHash, binding(1).bytes);
    let (mut answerer, hello_b) = Handshake::start(Role::Answerer, &bob.config(), &bob.key, &other, [0; 32], NOW);
    let auth_b = sent(bob.take(&mut answerer, hello_a).unwrap());
    sent(alice.take(&mut dialer, hello_b).unwrap());
    assert!(alice.take(&mut dialer, auth_b).is_err());
}

#[test]
fn a_handshake_cannot_be_replayed() {
    let (alice, bob) = (alice(), bob());
    let (_, hello_a) = alice.start(Role::Dialer);
    let (mut dialer, _) = alice.start(Role::Dialer);
    let (mut answerer, hello_b) = bob.start(Role::Answerer);
    sent(bob.take(&mut answerer, hello_a.clone()).unwrap());
    let auth_a = sent(alice.take(&mut dialer, hello_b).unwrap());

    // Bob starts anew, with another nonce; the recording is worthless.
    let (mut answerer, _) = Handshake::start(Role::Answerer, &bob.config(), &bob.key, &binding(1), [99; 32], NOW);
    sent(bob.take(&mut answerer, hello_a).unwrap());
    assert_eq!(bob.take(&mut answerer, auth_a).unwrap_err().code, RejectCode::Protocol);
}

#[test]
fn a_signature_of_the_wrong_role_is_refused() {
    // Both claim to be the dialer.
    let (alice, bob) = (alice(), bob());
    let (mut a, hello_a) = alice.start(Role::Dialer);
    let (mut b, hello_b) = bob.start(Role::Dialer);
    let auth_b = sent(bob.take(&mut b, hello_a).unwrap());
    sent(alice.take(&mut a, hello_b).unwrap());
    assert!(alice.take(&mut a, auth_b).is_err());
}

#[test]
fn parts_out_of_turn_are_refused_and_end_it() {
    let (alice, bob) = (alice(), bob());
    let (_, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, _) = bob.start(Role::Answerer);
    let auth = proto::HelloFrame { body: Some(proto::hello_frame::Body::Auth(proto::HelloAuth::default())) };
    let auth = Bytes::from(auth.encode_length_delimited_to_vec());
    assert_eq!(bob.take(&mut answerer, auth).unwrap_err().text, "out of turn");
    assert!(bob.take(&mut answerer, hello_a.clone()).is_err(), "over");

    let (mut answerer, _) = bob.start(Role::Answerer);
    assert!(bob.take(&mut answerer, both(&hello_a, &hello_a)).is_err());
}

#[test]
fn parts_of_a_newer_version_are_skipped() {
    let (alice, bob) = (alice(), bob());
    let (_, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, _) = bob.start(Role::Answerer);
    let unknown = Bytes::from_static(&[0x03, 0x42, 0x01, 0x00]);
    assert_eq!(bob.take(&mut answerer, unknown.clone()).unwrap(), HelloStep::Wait);
    sent(bob.take(&mut answerer, both(&unknown, &hello_a)).unwrap());
}

#[test]
fn the_credential_must_be_for_the_network_of_the_membership() {
    let (alice, bob) = (alice(), bob());
    let (_, hello_a) = alice.start(Role::Dialer);
    let (mut answerer, _) = bob.start(Role::Answerer);
    let other = OpenMembership::new(NetworkId::new("team-red").unwrap());
    let refused = answerer.receive(hello_a, &bob.key, &other, NOW).unwrap_err();
    assert_eq!(refused.code, RejectCode::WrongNetwork);
}

#[test]
fn a_refusal_is_cut_and_cleaned() {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&reject(RejectCode::Full, &format!("\u{7}{}", "ü".repeat(500))));
    let (mut dialer, _) = alice().start(Role::Dialer);
    let told = alice().take(&mut dialer, frame.freeze()).unwrap_err();
    assert_eq!(told.code, RejectCode::Full);
    assert!(told.text.len() <= limits::TEXT_MAX && told.text.starts_with(" ü"), "{}", told.text);
    assert!(told.to_string().starts_with("the peer refused our hello (Full)"));
}

#[test]
fn a_membership_that_answers_for_another_device_is_not_believed() {
    #[derive(Debug)]
    struct Sloppy;
    impl byway_api::Membership for Sloppy {
        fn verify(&self, _: &str, _: &PeerId, now: WallTime) -> Result<byway_api::Member, byway_api::MembershipError> {
            let trust = byway_api::Trust::Issued;
            Ok(byway_api::Member::new(user("alice"), PeerId::from_bytes([0; 32]), trust, now.plus(DAY)))
        }
    }
    let (_, hello) = alice().start(Role::Dialer);
    let (mut answerer, _) = bob().start(Role::Answerer);
    assert!(answerer.receive(hello.clone(), &bob().key, &Sloppy, NOW).is_err());
    let record = alice().record();
    assert!(byway_wire::VerifiedRecord::verify(record.bytes(), &network(), &Sloppy, NOW).is_err());
}
