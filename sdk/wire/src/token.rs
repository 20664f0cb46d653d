use std::time::Duration;

use byway_api::{Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId, Trust, UserId, WallTime};
use serde::{Deserialize, Serialize};

use crate::jws::{self, Jws, Present};
use crate::{DeviceKey, WireError, base64url, limits, thumbprint};

const TYP: &str = "byway-self+jwt";

#[derive(Serialize)]
struct NewHeader<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(default)]
    crit: Present,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    cnf: Confirmation,
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    jkt: String,
}

/// Makes the credential of an open network: `key` says that `device` belongs to `user`.
///
/// A device signs its first token itself; a further device carries one signed by an earlier device of
/// the same user. `life` is counted from `now` in whole seconds and cut to
/// [`limits::CREDENTIAL_LIFE`]. `jti` is random.
pub fn issue_self_token(
    key: &DeviceKey,
    network: &NetworkId,
    user: &UserId,
    device: &PeerId,
    now: WallTime,
    life: Duration,
    jti: [u8; 16],
) -> String {
    let signer = key.peer().to_string();
    let iat = now.as_millis().div_euclid(1000);
    let life = life.min(limits::CREDENTIAL_LIFE).as_secs() as i64;
    let claims = Claims {
        sub: user.as_str().to_owned(),
        aud: network.as_str().to_owned(),
        iat,
        exp: iat.saturating_add(life),
        jti: base64url::encode(&jti),
        cnf: Confirmation { jkt: thumbprint(device) },
        iss: signer.clone(),
    };
    jws::sign(key, &NewHeader { alg: jws::ALG, typ: TYP, kid: &signer }, &claims)
}

/// The membership of an open network: anyone may name themselves.
///
/// It proves that the device was named by the key that signed the token, and nothing about the
/// user: [`Trust::Unverified`]. [`Member::authorized_by`] is the signer when that is another device;
/// whether the signer is a device of the user is the node's decision (first use pins).
#[derive(Clone, Debug)]
pub struct OpenMembership {
    network: NetworkId,
}

impl OpenMembership {
    /// The membership of `network`.
    pub const fn new(network: NetworkId) -> Self {
        Self { network }
    }

    fn check(&self, token: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        use MembershipErrorKind as Kind;
        let jws = Jws::parse("token", limits::CREDENTIAL_MAX, token).map_err(refusal)?;
        let header: Header = jws.header().map_err(refusal)?;
        if header.alg != jws::ALG || header.typ != TYP || header.crit.0 {
            return Err(error(Kind::Malformed, "not a self-signed token"));
        }
        let signer: PeerId = header.kid.parse().map_err(|_| error(Kind::Malformed, "kid is no peer id"))?;
        jws.verify(&signer).map_err(refusal)?;
        let claims: Claims = jws.claims().map_err(refusal)?;
        let user = UserId::new(&claims.sub).map_err(|e| error(Kind::Malformed, &e.to_string()))?;
        if claims.iss != header.kid || claims.jti.is_empty() {
            return Err(error(Kind::Malformed, "iss or jti"));
        }
        if claims.aud != self.network.as_str() {
            return Err(error(Kind::WrongNetwork, ""));
        }
        if claims.cnf.jkt != thumbprint(key) {
            return Err(error(Kind::WrongKey, ""));
        }
        let life = claims.exp.saturating_sub(claims.iat);
        if life <= 0 || life > limits::CREDENTIAL_LIFE.as_secs() as i64 {
            return Err(error(Kind::Malformed, "a life of more than 30 days, or none"));
        }
        let (from, to) = (seconds(claims.iat), seconds(claims.exp));
        if from > now.plus(limits::CREDENTIAL_SKEW) {
            return Err(error(Kind::NotYetValid, ""));
        }
        if to <= now.minus(limits::CREDENTIAL_SKEW) {
            return Err(error(Kind::Expired, ""));
        }
        let mut member = Member::new(user, *key, Trust::Unverified, to);
        member.authorized_by = (signer != *key).then_some(signer);
        Ok(member)
    }
}

impl Membership for OpenMembership {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        self.check(credential, key, now)
    }
}

const fn seconds(s: i64) -> WallTime {
    WallTime::from_millis(s.saturating_mul(1000))
}

fn error(kind: MembershipErrorKind, detail: &str) -> MembershipError {
    MembershipError::new(kind, "open", detail)
}

fn refusal(e: WireError) -> MembershipError {
    let kind = match e {
        WireError::BadSignature { .. } => MembershipErrorKind::BadSignature,
        _ => MembershipErrorKind::Malformed,
    };
    error(kind, &e.to_string())
}
