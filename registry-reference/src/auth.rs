//! Who calls: the proof of RFC 9449, the credential behind it, and how often they may.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use byway_api::{NetworkId, PeerId, Proof};
use byway_socket::{Challenge, Device, Gate, Refusal};
use byway_wire::{OpenMembership, WireError, base64url, check_proof, limits};

use crate::app::App;
use crate::base::Base;
use crate::door::Ends;
use crate::limiter::{Wait, household};
use crate::problem::Problem;

/// The header of RFC 9449 with the proof.
const DPOP: &str = "dpop";

pub(crate) const OPEN_DISABLED: &str = "this registry does not serve open networks; start it with --open to allow \
                                        networks in which everybody may name themselves";

/// Whoever calls: a device, if the call carries a proof.
#[derive(Debug)]
pub(crate) struct Caller {
    /// What the caller calls us.
    pub(crate) base: Base,
    /// The device that has proved itself.
    pub(crate) device: Option<Device>,
}

impl Caller {
    /// The proved device, which must be of `network`.
    pub(crate) fn must_prove(&self, network: &NetworkId, what: &str) -> Result<&Device, Problem> {
        let message = || {
            format!(
                "{what} needs a proof: Authorization: DPoP <credential> and DPoP: <proof> over the nonce of this answer"
            )
        };
        let device = self.device.as_ref().ok_or_else(|| Problem::unauthorized("use_dpop_nonce", message()))?;
        self.must_fit(network)?;
        Ok(device)
    }

    /// A proof for another network is good for nothing here.
    pub(crate) fn must_fit(&self, network: &NetworkId) -> Result<(), Problem> {
        match &self.device {
            Some(device) if device.network != *network => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "wrong_network",
                format!("the credential is for the network {}, the call for {network}", device.network),
            )),
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let (ip, base) = origin(parts, app)?;
        if !app.config.open {
            return Err(Problem::new(StatusCode::FORBIDDEN, "open_networks_disabled", OPEN_DISABLED));
        }
        let Some(proof) = proof_of(&parts.headers)? else {
            app.ip_calls.take(&ip).map_err(|wait| too_fast(&wait))?;
            return Ok(Self { base, device: None });
        };
        app.failed_auths.check(&ip).map_err(|wait| {
            Problem::too_many(
                "too many failed proofs from this address; check the device's credential and clock",
                wait.0,
            )
        })?;
        let target = format!("{}{}", base.http, parts.uri.path());
        match prove(app, &proof, parts.method.as_str(), &target) {
            Ok(device) => {
                app.calls.take(&device).map_err(|wait| too_fast(&wait))?;
                Ok(Self { base, device: Some(device) })
            }
            Err(Unproved::Nonce) => {
                app.ip_calls.take(&ip).map_err(|wait| too_fast(&wait))?;
                let message = "make the proof over the nonce in this answer's DPoP-Nonce header and call again";
                Err(Problem::unauthorized("use_dpop_nonce", message))
            }
            Err(Unproved::Bad(why)) => {
                let _ = app.failed_auths.take(&ip);
                app.metrics.failed_auth();
                Err(Problem::unauthorized("invalid_dpop_proof", why))
            }
        }
    }
}

/// Where the call comes from, and what the caller calls us.
pub(crate) fn origin(parts: &Parts, app: &App) -> Result<(IpAddr, Base), Problem> {
    let ConnectInfo(ends) = parts.extensions.get::<ConnectInfo<Ends>>().ok_or_else(Problem::internal)?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    let base = app.public.clone().unwrap_or_else(|| Base::of_connection(ends.local, host));
    let forwarded = app.config.trust_proxy.then(|| forwarded_for(&parts.headers)).flatten();
    Ok((household(forwarded.unwrap_or_else(|| ends.remote.ip())), base))
}

/// The entry that the nearest proxy added.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn proof_of(headers: &HeaderMap) -> Result<Option<Proof>, Problem> {
    let Some(authorization) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let wrong = || {
        let message = "send Authorization: DPoP <credential> together with DPoP: <proof> (RFC 9449), or neither";
        Problem::unauthorized("invalid_dpop_proof", message)
    };
    let (scheme, credential) = authorization.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(wrong)?;
    let mut proofs = headers.get_all(DPOP).iter();
    match (proofs.next(), proofs.next()) {
        (Some(proof), None) if scheme.eq_ignore_ascii_case("dpop") => {
            let proof = proof.to_str().map_err(|_| wrong())?.to_owned();
            Ok(Some(Proof { credential: credential.trim().to_owned(), proof }))
        }
        _ => Err(wrong()),
    }
}

enum Unproved {
    /// Another nonce would help.
    Nonce,
    Bad(String),
}

fn prove(app: &App, proof: &Proof, method: &str, target: &str) -> Result<Device, Unproved> {
    let now = app.config.clock.now();
    let nonce = unverified_claim(&proof.proof, "nonce").unwrap_or_default();
    // Everything else first, so that nobody is asked to try again in vain.
    let peer = check_proof(proof, method, target, &nonce, now).map_err(|e| match e {
        WireError::WrongTarget => Unproved::Bad(format!(
            "the proof is for another request than {method} {target}; a registry behind a proxy needs --public-url"
        )),
        e => Unproved::Bad(format!("{e}; check the device's clock and key")),
    })?;
    if !app.nonces.is_good(&nonce, now) {
        return Err(Unproved::Nonce);
    }
    let network = network_of(&proof.credential).map_err(Unproved::Bad)?;
    let membership = OpenMembership::new(network.clone());
    byway_api::Membership::verify(&membership, &proof.credential, &peer, now)
        .map_err(|e| Unproved::Bad(format!("{e}; get a new credential")))?;
    Ok(Device::new(network, peer))
}

/// The network that a credential says it is for. Verifying it for that network then proves it.
fn network_of(credential: &str) -> Result<NetworkId, String> {
    let network = unverified_claim(credential, "aud").ok_or("the credential is not a token with an audience")?;
    NetworkId::new(&network).map_err(|e| format!("the credential's audience: {e}"))
}

/// A text claim of a JWT whose signature is still to be checked.
fn unverified_claim(jwt: &str, name: &str) -> Option<String> {
    if jwt.len() > limits::CREDENTIAL_MAX.max(limits::PROOF_MAX) {
        return None;
    }
    let claims = base64url::decode(jwt.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get(name)?.as_str()?.to_owned())
}

pub(crate) fn too_fast(wait: &Wait) -> Problem {
    Problem::too_many(format!("too many calls; try again in {} s", wait.0), wait.0)
}

/// The gate of the signalling socket: a proof over a nonce of its own, bound to the socket's URL.
#[derive(Debug)]
pub(crate) struct SocketGate {
    pub(crate) nonces: Arc<crate::nonce::Nonces>,
    pub(crate) clock: Arc<dyn crate::Clock>,
    pub(crate) open: bool,
}

impl Gate for SocketGate {
    /// `host` is our base as the client knows it. The nonce is good for a call as well.
    fn challenge(&self, claimed: PeerId, host: Option<&str>) -> Challenge {
        let target = format!("{}/{claimed}", host.unwrap_or_default());
        Challenge { nonce: self.nonces.make(self.clock.now()), target }
    }

    fn admit(&self, challenge: &Challenge, proof: &Proof) -> Result<Device, Refusal> {
        if !self.open {
            return Err(Refusal(OPEN_DISABLED.to_owned()));
        }
        let network = network_of(&proof.credential).map_err(Refusal)?;
        let member = challenge.check(proof, &OpenMembership::new(network.clone()), self.clock.now())?;
        Ok(Device::new(network, member.peer))
    }
}
