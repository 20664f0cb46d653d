//! The strict profile of JWS compact (RFC 7515) that tokens and proofs share: EdDSA only (RFC 8037).

use byway_api::PeerId;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::error::at_most;
use crate::identity::verify_plain;
use crate::{DeviceKey, WireError, base64url};

/// The only `alg`.
pub(crate) const ALG: &str = "EdDSA";

/// A JWS in its parts. Nothing in it is verified yet.
pub(crate) struct Jws<'a> {
    what: &'static str,
    signed: &'a str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: [u8; 64],
}

impl<'a> Jws<'a> {
    pub(crate) fn parse(what: &'static str, max: usize, text: &'a str) -> Result<Self, WireError> {
        at_most(what, max, text.len())?;
        let parts = || WireError::malformed(what, "not three parts");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(parts)?;
        let (header, claims) = signed.split_once('.').ok_or_else(parts)?;
        Ok(Self {
            what,
            signed,
            header: base64url::decode(header)?,
            claims: base64url::decode(claims)?,
            signature: base64url::decode_array(signature)?,
        })
    }

    pub(crate) fn header<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        serde_json::from_slice(&self.header).map_err(|e| WireError::malformed(self.what, e))
    }

    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        serde_json::from_slice(&self.claims).map_err(|e| WireError::malformed(self.what, e))
    }

    pub(crate) fn verify(&self, signer: &PeerId) -> Result<(), WireError> {
        verify_plain(signer, self.what, self.signed.as_bytes(), &self.signature)
    }
}

pub(crate) fn sign(key: &DeviceKey, header: &impl Serialize, claims: &impl Serialize) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.sign_plain(signed.as_bytes());
    format!("{signed}.{}", base64url::encode(&signature))
}

fn part(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value);
    base64url::encode(&json.unwrap_or_else(|e| unreachable!("texts and numbers have a JSON form: {e}")))
}

/// Whether a member was there at all, even as `null`.
#[derive(Default)]
pub(crate) struct Present(pub(crate) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}
