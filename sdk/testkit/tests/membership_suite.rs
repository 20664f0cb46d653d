//! The suite for memberships itself: a sound one passes it, and each broken one fails exactly the
//! promise that it breaks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use byway_api::{Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId, Trust, UserId, WallTime};
use byway_testkit::membership::broken::{BrokenFixture, Fault};
use byway_testkit::membership::{Claims, MembershipFixture, PROMISES, boxed};
use byway_testkit::membership_conformance;
use byway_wire::{OpenMembership, issue_self_token};
use support::trial;

const NONE: [&str; 0] = [];

/// The open membership. For a name that no token can carry it makes a text that is no token.
#[derive(Debug)]
struct Open;

impl MembershipFixture for Open {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        Arc::new(OpenMembership::new(network.clone()))
    }

    fn credential(&self, claims: &Claims) -> Option<String> {
        let Claims { device, network, from, life, .. } = claims;
        let token = |user| issue_self_token(device, network, &user, &device.peer(), *from, *life, [7; 16]);
        Some(claims.user.parse().map_or_else(|_| format!("no token can name {}", claims.user), token))
    }
}

/// A membership of plain texts with a sum: nobody is kept from making one, but it is judged in no time.
#[derive(Debug)]
struct Plain;

#[derive(Debug)]
struct PlainMembership(NetworkId);

fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl MembershipFixture for Plain {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        Arc::new(PlainMembership(network.clone()))
    }

    fn credential(&self, claims: &Claims) -> Option<String> {
        let (from, to) = (claims.from.as_millis(), claims.from.plus(claims.life).as_millis());
        let text = format!("{}|{}|{}|{from}|{to}", claims.network, claims.user, claims.device.peer());
        Some(format!("{text}|{:016x}", sum(&text)))
    }
}

impl Membership for PlainMembership {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        use MembershipErrorKind::{BadSignature, Expired, Malformed, NotYetValid, WrongKey, WrongNetwork};
        let no = |kind| MembershipError::new(kind, "plain", "");
        let (text, there) = credential.rsplit_once('|').ok_or_else(|| no(Malformed))?;
        if there != format!("{:016x}", sum(text)) {
            return Err(no(BadSignature));
        }
        let parts: [&str; 5] = text.split('|').collect::<Vec<_>>().try_into().map_err(|_| no(Malformed))?;
        let [network, user, peer, from, to] = parts;
        let time = |text: &str| text.parse().map(WallTime::from_millis).map_err(|_| no(Malformed));
        let (user, from, to) = (UserId::new(user).map_err(|_| no(Malformed))?, time(from)?, time(to)?);
        let skew = byway_wire::limits::CREDENTIAL_SKEW;
        let refusals = [
            (network != self.0.as_str(), WrongNetwork),
            (peer != key.to_string(), WrongKey),
            (now.plus(skew) < from, NotYetValid),
            (now.minus(skew) >= to, Expired),
        ];
        match refusals.into_iter().find(|(holds, _)| *holds) {
            Some((_, kind)) => Err(no(kind)),
            None => Ok(Member::new(user, *key, Trust::Issued, to)),
        }
    }
}

#[test]
fn a_sound_membership_keeps_every_promise() {
    for verdicts in [trial(PROMISES, || boxed(Open)), trial(PROMISES, || boxed(Plain))] {
        assert_eq!(verdicts, (NONE.to_vec(), NONE.to_vec()));
    }
}

#[test]
fn each_broken_membership_fails_exactly_its_promise() {
    for (fault, promises) in Fault::ALL {
        println!("{fault:?}");
        let (broken, _) = trial(PROMISES, || boxed(BrokenFixture::new(Plain, *fault)));
        assert_eq!(&broken, promises, "{fault:?}");
    }
}

#[test]
fn every_promise_is_broken_by_some_fault() {
    for promise in PROMISES {
        let fault = Fault::ALL.iter().find(|(_, breaks)| breaks.contains(&promise.name()));
        assert!(fault.is_some(), "nothing shows that {} can fail", promise.name());
    }
}

// One fixture through the macro, as an author of a membership writes it.
membership_conformance!(by_macro, Open);
