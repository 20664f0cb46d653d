//! Memberships that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use byway_api::{Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId, Trust, UserId, WallTime};

use super::fixture::{Claims, LIFE, Limits, MembershipFixture, device, network};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Says that the device is another one.
    MixesUpDevices,
    /// Takes a credential for any device.
    AnyDevice,
    /// Takes a credential of any network.
    AnyNetwork,
    /// Takes a credential before its start.
    TooEarly,
    /// Takes a credential after its end.
    TooLate,
    /// Grants no difference of clocks at the end.
    ToTheSecond,
    /// Takes a decomposed name for one without its marks.
    StripsMarks,
    /// Grants a further role every other time.
    Wavers,
    /// Works only inside a runtime.
    NeedsARuntime,
    /// Waits before it accepts.
    Blocks,
    /// Takes any JSON object for a credential.
    AcceptsJson,
    /// Takes no notice of padding behind a credential.
    IgnoresPadding,
    /// Takes no notice of the last character of a credential.
    IgnoresTheLastCharacter,
    /// Repeats in a refusal what it was shown.
    Echoes,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::MixesUpDevices, &["the_right_device_is_a_member"]),
        (Self::AnyDevice, &["a_credential_is_for_one_device"]),
        (Self::AnyNetwork, &["a_credential_is_for_one_network"]),
        (Self::TooEarly, &["a_credential_is_good_from_its_start"]),
        (Self::TooLate, &["a_credential_is_good_until_its_end"]),
        (Self::ToTheSecond, &["a_credential_is_good_until_its_end"]),
        (Self::StripsMarks, &["names_are_in_one_form"]),
        (Self::Wavers, &["the_same_is_judged_alike"]),
        (Self::NeedsARuntime, &["the_same_is_judged_alike"]),
        (Self::Blocks, &["verify_does_not_block"]),
        (Self::AcceptsJson, &["garbage_is_refused"]),
        (Self::IgnoresPadding, &["a_cut_or_longer_credential_is_refused"]),
        (Self::IgnoresTheLastCharacter, &["every_flipped_bit_is_noticed"]),
        (Self::Echoes, &["refusals_are_short"]),
    ];
}

/// A fixture whose memberships have one [`Fault`].
#[derive(Debug)]
pub struct BrokenFixture<F> {
    inner: Arc<F>,
    fault: Fault,
    issued: Arc<Issued>,
}

/// What the faults have to know of the credentials that were made.
#[derive(Debug, Default)]
struct Issued {
    credentials: Mutex<BTreeSet<String>>,
    decomposed: Mutex<BTreeSet<String>>,
    judged: AtomicU64,
}

impl<F> BrokenFixture<F> {
    /// Breaks the memberships of a sound fixture.
    pub fn new(inner: F, fault: Fault) -> Self {
        Self { inner: Arc::new(inner), fault, issued: Arc::default() }
    }
}

impl<F: MembershipFixture + std::fmt::Debug> MembershipFixture for BrokenFixture<F> {
    fn membership(&self, network: &NetworkId) -> Arc<dyn Membership> {
        let inner = self.inner.membership(network);
        let fixture = Arc::clone(&self.inner);
        Arc::new(BrokenMembership { inner, fixture, fault: self.fault, issued: Arc::clone(&self.issued) })
    }

    fn credential(&self, claims: &Claims) -> Option<String> {
        let credential = self.inner.credential(claims)?;
        insert(&self.issued.credentials, &credential);
        if claims.user.contains('\u{308}') {
            insert(&self.issued.decomposed, &credential);
        }
        Some(credential)
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

#[derive(Debug)]
struct BrokenMembership<F> {
    inner: Arc<dyn Membership>,
    fixture: Arc<F>,
    fault: Fault,
    issued: Arc<Issued>,
}

impl<F: MembershipFixture + std::fmt::Debug> BrokenMembership<F> {
    /// The first moment at which the inner membership accepts, of some that lie half a life apart.
    fn at_another_time(&self, credential: &str, key: &PeerId, times: impl Iterator<Item = WallTime>) -> Option<Member> {
        times.into_iter().find_map(|now| self.inner.verify(credential, key, now).ok())
    }

    fn for_another_device(&self, credential: &str, key: &PeerId, now: WallTime) -> Option<Member> {
        let mut member = (1..4).find_map(|n| self.inner.verify(credential, &device(n).peer(), now).ok())?;
        member.peer = *key;
        Some(member)
    }

    fn without_the_last(&self, credential: &str, key: &PeerId, now: WallTime) -> Option<Member> {
        let stem = |text: &str| text.char_indices().next_back().map(|(at, _)| text[..at].to_owned());
        let issued = self.issued.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |other: &&String| other.len() == credential.len() && stem(other) == stem(credential);
        let whole = issued.iter().find(near)?;
        self.inner.verify(whole, key, now).ok()
    }

    fn mistaken(&self, credential: &str, key: &PeerId, now: WallTime, kind: MembershipErrorKind) -> Option<Member> {
        use MembershipErrorKind as Kind;
        let half = |n: u32| LIFE / 2 * n;
        // a little, ten lives, and a billion seconds away
        let steps = || [1, 20, 21].into_iter().chain(277_770..277_790);
        match (self.fault, kind) {
            (Fault::AnyDevice, Kind::WrongKey) => self.for_another_device(credential, key, now),
            (Fault::AnyNetwork, Kind::WrongNetwork) => {
                self.fixture.membership(&network("blue")).verify(credential, key, now).ok()
            }
            (Fault::TooEarly, Kind::NotYetValid) => {
                self.at_another_time(credential, key, steps().map(|n| now.plus(half(n))))
            }
            (Fault::TooLate, Kind::Expired) => {
                self.at_another_time(credential, key, steps().map(|n| now.minus(half(n))))
            }
            (Fault::StripsMarks, _) if contains(&self.issued.decomposed, credential) => {
                let user = UserId::new("Jurgen").ok()?;
                Some(Member::new(user, *key, Trust::Unverified, now.plus(LIFE)))
            }
            (Fault::AcceptsJson, _) if credential == "{\"sub\":\"alice\"}" => {
                let user = UserId::new("alice").ok()?;
                Some(Member::new(user, *key, Trust::Unverified, now.plus(LIFE)))
            }
            (Fault::IgnoresPadding, _) => self.inner.verify(credential.trim_end_matches('='), key, now).ok(),
            (Fault::IgnoresTheLastCharacter, _) => self.without_the_last(credential, key, now),
            _ => None,
        }
    }
}

impl<F: MembershipFixture + std::fmt::Debug> Membership for BrokenMembership<F> {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Member, MembershipError> {
        /// Longer than any judgement takes.
        const NAP: Duration = Duration::from_millis(60);
        let refused = |why: &str| MembershipError::new(MembershipErrorKind::Malformed, "broken", why);
        if self.fault == Fault::NeedsARuntime && tokio::runtime::Handle::try_current().is_err() {
            return Err(refused("no runtime"));
        }
        let mut member = match self.inner.verify(credential, key, now) {
            Ok(member) => member,
            Err(e) if self.fault == Fault::Echoes => return Err(MembershipError::new(e.kind(), "broken", credential)),
            Err(e) => return self.mistaken(credential, key, now, e.kind()).ok_or(e),
        };
        match self.fault {
            Fault::MixesUpDevices => member.peer = device(9).peer(),
            Fault::Wavers if self.issued.judged.fetch_add(1, Ordering::Relaxed) % 2 == 1 => {
                member.roles.push("admin".to_owned());
            }
            Fault::Blocks => std::thread::sleep(NAP),
            Fault::ToTheSecond if now >= member.expires_at => {
                return Err(MembershipError::new(MembershipErrorKind::Expired, "broken", ""));
            }
            _ => {}
        }
        Ok(member)
    }
}

fn insert(set: &Mutex<BTreeSet<String>>, text: &str) {
    set.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
}

fn contains(set: &Mutex<BTreeSet<String>>, text: &str) -> bool {
    set.lock().unwrap_or_else(PoisonError::into_inner).contains(text)
}
