use byway_api::{PeerId, Proof, WallTime};
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::at_most;
use crate::jws::{self, Jws, Present};
use crate::{DeviceKey, WireError, base64url, limits};

const TYP: &str = "dpop+jwt";

#[derive(Serialize)]
struct NewHeader {
    typ: &'static str,
    alg: &'static str,
    jwk: Jwk,
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
    #[serde(default)]
    crit: Present,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(default, skip_serializing)]
    d: Present,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    ath: String,
    nonce: String,
}

/// Proves to a server that we hold the key of `credential`, in the manner of RFC 9449 with EdDSA.
///
/// `method` is `GET`, `POST` or `WS`; `target` is the URL without query, or a listener's PeerId;
/// `nonce` is the server's; `jti` is random. The proof is good for [`limits::PROOF_AGE`].
pub fn make_proof(
    key: &DeviceKey,
    credential: &str,
    method: &str,
    target: &str,
    nonce: &str,
    now: WallTime,
    jti: [u8; 16],
) -> Proof {
    let x = base64url::encode(key.peer().as_bytes());
    let jwk = Jwk { kty: "OKP".to_owned(), crv: "Ed25519".to_owned(), x, d: Present(false) };
    let claims = Claims {
        jti: base64url::encode(&jti),
        htm: method.to_owned(),
        htu: target.to_owned(),
        iat: now.as_millis().div_euclid(1000),
        ath: base64url::encode(&sha256(credential.as_bytes())),
        nonce: nonce.to_owned(),
    };
    let proof = jws::sign(key, &NewHeader { typ: TYP, alg: jws::ALG, jwk }, &claims);
    Proof { credential: credential.to_owned(), proof }
}

/// Checks a proof and says which device made it. The caller then has its `Membership` verify the
/// credential for that device.
///
/// # Errors
/// [`WireError::TooLarge`], [`WireError::Malformed`] or [`WireError::BadSignature`] for what is no
/// proof, [`WireError::WrongTarget`] for another method or target, [`WireError::Mismatch`] for another
/// credential, [`WireError::Expired`] or [`WireError::NotYetValid`] outside [`limits::PROOF_AGE`],
/// [`WireError::WrongNonce`] last, so that a client is asked to prove again only if that can help.
pub fn check_proof(proof: &Proof, method: &str, target: &str, nonce: &str, now: WallTime) -> Result<PeerId, WireError> {
    at_most("credential", limits::CREDENTIAL_MAX, proof.credential.len())?;
    let jws = Jws::parse("proof", limits::PROOF_MAX, &proof.proof)?;
    let header: Header = jws.header()?;
    let jwk = &header.jwk;
    if header.typ != TYP || header.alg != jws::ALG || header.crit.0 {
        return Err(WireError::malformed("proof", "not a proof"));
    }
    if jwk.kty != "OKP" || jwk.crv != "Ed25519" || jwk.d.0 {
        return Err(WireError::malformed("proof", "jwk is no public Ed25519 key"));
    }
    let peer = PeerId::from_bytes(base64url::decode_array(&jwk.x)?);
    jws.verify(&peer)?;
    let claims: Claims = jws.claims()?;
    if claims.jti.is_empty() {
        return Err(WireError::malformed("proof", "jti"));
    }
    if claims.htm != method || claims.htu != target {
        return Err(WireError::WrongTarget);
    }
    if claims.ath != base64url::encode(&sha256(proof.credential.as_bytes())) {
        return Err(WireError::Mismatch { what: "ath" });
    }
    let made = WallTime::from_millis(claims.iat.saturating_mul(1000));
    if made > now.plus(limits::PROOF_AGE) {
        return Err(WireError::NotYetValid { what: "proof" });
    }
    if made < now.minus(limits::PROOF_AGE) {
        return Err(WireError::Expired { what: "proof" });
    }
    if claims.nonce != nonce {
        return Err(WireError::WrongNonce);
    }
    Ok(peer)
}
