//! Self-signed tokens and proofs.

use std::time::Duration;

use byway_api::{Membership as _, MembershipErrorKind as Kind, NetworkId, Proof, Trust, WallTime};
use byway_wire::{OpenMembership, WireError, base64url, check_proof, issue_self_token, limits, make_proof, thumbprint};
use serde_json::{Value, json};

use crate::common::*;

fn verify(token: &str, now: WallTime) -> Result<byway_api::Member, Kind> {
    membership().verify(token, &alice().peer(), now).map_err(|e| e.kind())
}

/// A JWS of any header and claims, signed by alice.
fn jws(header: &Value, claims: &Value) -> String {
    jws_text(&header.to_string(), &claims.to_string())
}

fn jws_text(header: &str, claims: &str) -> String {
    use ed25519_dalek::Signer as _;
    let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(claims.as_bytes()));
    let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(signed.as_bytes());
    format!("{signed}.{}", base64url::encode(&signature.to_bytes()))
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "byway-self+jwt", "kid": alice().peer().to_string()})
}

fn claims() -> Value {
    let iat = NOW.as_millis() / 1000;
    json!({
        "iss": alice().peer().to_string(), "sub": "alice", "aud": "team-blue", "iat": iat, "exp": iat + 3600,
        "jti": "AA", "cnf": {"jkt": thumbprint(&alice().peer())},
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

#[test]
fn a_device_names_its_user() {
    let member = verify(&alice().token(), NOW).unwrap();
    assert_eq!((member.user.as_str(), member.peer, member.trust), ("alice", alice().peer(), Trust::Unverified));
    assert_eq!((member.authorized_by, member.expires_at), (None, NOW.plus(WEEK)));
    assert_eq!(member.roles, ["member", "relay"]);
}

#[test]
fn a_device_authorises_another_one() {
    let (alice, phone) = (alice(), person("alice", 9));
    let token = issue_self_token(&alice.key, &network(), &alice.user, &phone.peer(), NOW, DAY, [1; 16]);
    let member = membership().verify(&token, &phone.peer(), NOW).unwrap();
    assert_eq!((member.peer, member.authorized_by), (phone.peer(), Some(alice.peer())));
    assert_eq!(verify(&token, NOW).unwrap_err(), Kind::WrongKey);
}

#[test]
fn tokens_of_any_jwt_library_are_read() {
    assert!(verify(&jws(&header(), &claims()), NOW).is_ok());
    // Headers besides alg, typ and kid are ignored, and so are further claims.
    let more = with(with(header(), "x5u", json!("https://attacker.example")), "jwk", json!({}));
    assert!(verify(&jws(&more, &with(claims(), "roles", json!(["admin"]))), NOW).is_ok());
}

#[test]
fn crit_refuses_whatever_it_says() {
    for crit in [json!(["exp"]), json!([]), Value::Null, json!("x")] {
        assert_eq!(verify(&jws(&with(header(), "crit", crit), &claims()), NOW).unwrap_err(), Kind::Malformed);
    }
}

#[test]
fn the_header_is_exact() {
    let bob = bob().peer().to_string();
    for (name, value, kind) in [
        ("alg", json!("none"), Kind::Malformed),
        ("alg", json!("ES256"), Kind::Malformed),
        ("alg", json!("eddsa"), Kind::Malformed),
        ("typ", json!("JWT"), Kind::Malformed),
        ("typ", json!("byway-member+jwt"), Kind::Malformed),
        ("typ", json!("dpop+jwt"), Kind::Malformed),
        ("kid", json!("somebody"), Kind::Malformed),
        ("kid", json!(bob), Kind::BadSignature),
    ] {
        let got = verify(&jws(&with(header(), name, value.clone()), &claims()), NOW).unwrap_err();
        assert_eq!(got, kind, "{name}: {value}");
        assert_eq!(verify(&jws(&without(header(), name), &claims()), NOW).unwrap_err(), Kind::Malformed);
    }
}

#[test]
fn every_claim_is_needed_and_checked() {
    let iat = NOW.as_millis() / 1000;
    for (name, value, kind) in [
        ("iss", json!("me"), Kind::Malformed),
        ("sub", json!(""), Kind::Malformed),
        ("sub", json!("a\nb"), Kind::Malformed),
        ("aud", json!("team-red"), Kind::WrongNetwork),
        ("aud", json!(["team-blue"]), Kind::Malformed),
        ("jti", json!(""), Kind::Malformed),
        ("cnf", json!({"jkt": thumbprint(&bob().peer())}), Kind::WrongKey),
        ("cnf", json!({}), Kind::Malformed),
        ("exp", json!(iat), Kind::Malformed),
        ("exp", json!("soon"), Kind::Malformed),
        ("exp", json!(i64::MAX), Kind::Malformed),
        ("iat", json!(i64::MIN), Kind::Malformed),
        ("exp", json!(iat + limits::CREDENTIAL_LIFE.as_secs() as i64 + 1), Kind::Malformed),
    ] {
        let got = verify(&jws(&header(), &with(claims(), name, value.clone())), NOW).unwrap_err();
        assert_eq!(got, kind, "{name}: {value}");
        assert_eq!(verify(&jws(&header(), &without(claims(), name)), NOW).unwrap_err(), Kind::Malformed);
    }
}

#[test]
fn doubled_members_are_refused() {
    let claims = claims().to_string();
    let doubled = claims.replacen('{', r#"{"sub":"bob","#, 1);
    assert_eq!(verify(&jws_text(&header().to_string(), &doubled), NOW).unwrap_err(), Kind::Malformed);
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let token = jws(&header(), &claims());
    let skew = limits::CREDENTIAL_SKEW;
    let second = Duration::from_secs(1);
    let end = NOW.plus(Duration::from_secs(3600));
    assert!(verify(&token, NOW.minus(skew)).is_ok());
    assert_eq!(verify(&token, NOW.minus(skew + second)).unwrap_err(), Kind::NotYetValid);
    assert!(verify(&token, end.plus(skew - second)).is_ok());
    assert_eq!(verify(&token, end.plus(skew)).unwrap_err(), Kind::Expired);
}

#[test]
fn the_life_of_a_token_is_the_callers_up_to_thirty_days() {
    let a = alice();
    let expiry = |life| {
        let token = issue_self_token(&a.key, &network(), &a.user, &a.peer(), NOW, life, [0; 16]);
        verify(&token, NOW).unwrap().expires_at
    };
    assert_eq!(expiry(DAY), NOW.plus(DAY));
    assert_eq!(expiry(Duration::MAX), NOW.plus(limits::CREDENTIAL_LIFE));
}

#[test]
fn the_longest_user_name_fits_into_a_token() {
    let name = user(&"\"".repeat(128));
    let a = alice();
    let network = NetworkId::new(&"n".repeat(64)).unwrap();
    let token = issue_self_token(&a.key, &network, &name, &a.peer(), NOW, DAY, [0; 16]);
    assert!(token.len() <= limits::CREDENTIAL_MAX);
    assert_eq!(OpenMembership::new(network).verify(&token, &a.peer(), NOW).unwrap().user, name);
}

const TARGET: &str = "https://registry.example/network/team-blue/announce";

fn proof() -> Proof {
    make_proof(&alice().key, &alice().token(), "POST", TARGET, "n-1", NOW, [5; 16])
}

fn check(proof: &Proof) -> Result<byway_api::PeerId, WireError> {
    check_proof(proof, "POST", TARGET, "n-1", NOW)
}

#[test]
fn a_proof_names_the_device_for_one_request() {
    let proof = proof();
    assert_eq!(check(&proof), Ok(alice().peer()));
    assert_eq!(check_proof(&proof, "GET", TARGET, "n-1", NOW), Err(WireError::WrongTarget));
    assert_eq!(check_proof(&proof, "POST", "https://evil.example", "n-1", NOW), Err(WireError::WrongTarget));
    assert_eq!(check_proof(&proof, "POST", TARGET, "n-2", NOW), Err(WireError::WrongNonce));
    let other = Proof { credential: bob().token(), ..proof.clone() };
    assert_eq!(check(&other), Err(WireError::Mismatch { what: "ath" }));
    let second = Duration::from_secs(1);
    let at = |now| check_proof(&proof, "POST", TARGET, "n-1", now);
    assert!(at(NOW.plus(limits::PROOF_AGE)).is_ok() && at(NOW.minus(limits::PROOF_AGE)).is_ok());
    assert_eq!(at(NOW.plus(limits::PROOF_AGE + second)), Err(WireError::Expired { what: "proof" }));
    assert_eq!(at(NOW.minus(limits::PROOF_AGE + second)), Err(WireError::NotYetValid { what: "proof" }));
}

fn proof_parts() -> (Value, Value) {
    let proof = proof();
    let mut parts = proof.proof.split('.').map(|part| base64url::decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

#[test]
fn a_proof_has_the_form_of_rfc_9449() {
    let (header, claims) = proof_parts();
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("EdDSA")));
    let x = base64url::encode(alice().peer().as_bytes());
    assert_eq!(header["jwk"], json!({"kty": "OKP", "crv": "Ed25519", "x": x}));
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!(TARGET)));
    let proof = Proof { proof: jws(&header, &claims), ..proof() };
    assert_eq!(check(&proof), Ok(alice().peer()));
}

#[test]
fn malformed_proofs_are_refused() {
    let (header, claims) = proof_parts();
    let refused = |header: &Value, claims: &Value| check(&Proof { proof: jws(header, claims), ..proof() }).is_err();
    for (name, value) in [
        ("typ", json!("JWT")),
        ("alg", json!("none")),
        ("crit", json!([])),
        ("jwk", json!({"kty": "OKP", "crv": "X25519", "x": header["jwk"]["x"]})),
        ("jwk", json!({"kty": "EC", "crv": "Ed25519", "x": header["jwk"]["x"]})),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": header["jwk"]["x"], "d": "AAAA"})),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(bob().peer().as_bytes())})),
    ] {
        assert!(refused(&with(header.clone(), name, value.clone()), &claims), "{name}: {value}");
    }
    for name in ["jti", "htm", "htu", "iat", "ath", "nonce"] {
        assert!(refused(&header, &without(claims.clone(), name)), "{name}");
    }
    assert!(refused(&header, &with(claims.clone(), "jti", json!(""))));
    assert!(refused(&header, &with(claims, "iat", json!(i64::MAX))));
}

#[test]
fn a_token_is_no_proof_and_a_proof_no_token() {
    let token = alice().token();
    assert!(check(&Proof { credential: token.clone(), proof: token }).is_err());
    assert_eq!(verify(&proof().proof, NOW).unwrap_err(), Kind::Malformed);
}
