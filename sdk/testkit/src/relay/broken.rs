//! Relays that break one promise each, by wrapping a sound one.
//!
//! They show that the suite can fail: each fails exactly the tests of its promise.

#![expect(clippy::disallowed_methods, reason = "a task that nobody ends is what is broken here")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{
    Bytes, Carrier, EnvelopeId, Handoff, Held, PeerId, Relay, RelayError, RelayErrorKind, Sealed, StoredUntil,
    WallTime, async_trait,
};
use tokio::sync::Semaphore;

use super::fixture::{Limits, RelayFixture};

/// Which promise is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Has two names.
    ChangesItsName,
    /// Admits nothing.
    AdmitsNothing,
    /// Admits everything.
    AdmitsAll,
    /// Refuses as if something had failed.
    MisnamesRefusals,
    /// Takes its time to decide.
    Ponders,
    /// Decides only inside a runtime.
    NeedsARuntime,
    /// Hands over twice.
    HandsOverTwice,
    /// Hands over something else than it got.
    Alters,
    /// Chooses another hop.
    ChoosesTheHop,
    /// Says `Forwarded` whatever the hop said.
    SaysForwarded,
    /// Every failure is of the same kind.
    MisnamesFailures,
    /// Tries again by itself.
    TriesAgain,
    /// A dropped forward leaves a task.
    LeavesATask,
    /// Forwards one after the other.
    OneByOne,
    /// Says that it holds mail, and does not. Only over a relay that holds nothing.
    PretendsToHold,
    /// Promises for longer than an envelope lives.
    PromisesTooMuch,
    /// Yields the mail of all devices as that of one.
    OneBox,
    /// Removes what it yields.
    RemovesWhatItYields,
    /// Pages have no bound.
    EndlessPages,
    /// Keeps what is held twice two times.
    KeepsCopies,
    /// Releases all that it has yielded.
    ReleasesTooMuch,
    /// Yields nothing that was held before it was opened.
    ForgetsOnReopening,
    /// Yields what has expired.
    GivesExpired,
    /// Promises what there is no room for.
    PromisesWithoutRoom,
}

impl Fault {
    /// All of them, with the promises that each breaks.
    pub const ALL: &[(Self, &[&str])] = &[
        (Self::ChangesItsName, &["the_name_is_constant"]),
        (Self::AdmitsNothing, &["admitted_mail_is_let_through"]),
        (Self::AdmitsAll, &["other_mail_is_refused"]),
        (Self::MisnamesRefusals, &["other_mail_is_refused"]),
        (Self::Ponders, &["admit_is_quick"]),
        (Self::NeedsARuntime, &["admit_needs_no_runtime"]),
        (Self::HandsOverTwice, &["forward_hands_over_once_and_unchanged"]),
        (Self::Alters, &["forward_hands_over_once_and_unchanged"]),
        (Self::ChoosesTheHop, &["forward_hands_over_once_and_unchanged"]),
        (Self::SaysForwarded, &["forward_returns_the_hops_answer"]),
        (Self::MisnamesFailures, &["forward_reports_a_refusal_as_it_is"]),
        (Self::TriesAgain, &["forward_reports_a_refusal_as_it_is"]),
        (Self::LeavesATask, &["a_dropped_forward_stops"]),
        (Self::OneByOne, &["forwards_run_at_once"]),
        (Self::PretendsToHold, &["a_relay_that_holds_nothing_says_so"]),
        (Self::PromisesTooMuch, &["what_was_held_is_fetched_in_order"]),
        (Self::OneBox, &["what_was_held_is_fetched_in_order"]),
        (Self::RemovesWhatItYields, &["fetch_removes_nothing"]),
        (Self::EndlessPages, &["pages_together_are_the_whole"]),
        (Self::KeepsCopies, &["holding_again_keeps_one_copy"]),
        (Self::ReleasesTooMuch, &["release_forgets_what_was_named"]),
        (Self::ForgetsOnReopening, &["held_mail_survives_reopening"]),
        (Self::GivesExpired, &["mail_that_has_expired_is_not_given"]),
        (Self::PromisesWithoutRoom, &["a_full_box_is_quota"]),
    ];
}

/// A fixture whose relays have one [`Fault`].
#[derive(Debug)]
pub struct BrokenFixture<F> {
    inner: F,
    fault: Fault,
    opened: AtomicU64,
}

impl<F> BrokenFixture<F> {
    /// Breaks the relays of a sound fixture.
    pub const fn new(inner: F, fault: Fault) -> Self {
        Self { inner, fault, opened: AtomicU64::new(0) }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<F: RelayFixture> RelayFixture for BrokenFixture<F> {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(BrokenRelay {
            inner: self.inner.open(),
            fault: self.fault,
            // the second one is the restarted process
            restarted: self.opened.fetch_add(1, Ordering::Relaxed) > 0,
            refused: self.inner.refused(),
            named: AtomicU64::new(0),
            lane: Semaphore::new(1),
            seen: Mutex::default(),
        })
    }

    fn holds(&self) -> bool {
        self.inner.holds()
    }

    fn admitted(&self) -> Option<(PeerId, Sealed)> {
        self.inner.admitted()
    }

    fn refused(&self) -> Option<(PeerId, Sealed)> {
        self.inner.refused()
    }

    fn now(&self) -> WallTime {
        self.inner.now()
    }

    fn pass(&self, time: Duration) -> bool {
        self.inner.pass(time)
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

#[derive(Debug)]
struct BrokenRelay {
    inner: Arc<dyn Relay>,
    fault: Fault,
    restarted: bool,
    refused: Option<(PeerId, Sealed)>,
    named: AtomicU64,
    lane: Semaphore,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    held: Vec<Sealed>,
    twice: Vec<Sealed>,
    yielded: BTreeMap<u64, Held>,
}

impl BrokenRelay {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(kind: RelayErrorKind) -> RelayError {
    RelayError::new(kind, "broken", "")
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Relay for BrokenRelay {
    fn name(&self) -> &'static str {
        match self.fault {
            Fault::ChangesItsName if self.named.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => "another",
            _ => self.inner.name(),
        }
    }

    fn admit(&self, from: PeerId, mail: &Sealed) -> Result<(), RelayError> {
        /// Longer than any admission may take.
        const THOUGHT: Duration = Duration::from_micros(300);
        let to_be_refused = self.refused.as_ref().is_some_and(|refused| *refused == (from, mail.clone()));
        match self.fault {
            Fault::AdmitsNothing => return Err(error(RelayErrorKind::Refused)),
            Fault::AdmitsAll => return Ok(()),
            Fault::MisnamesRefusals if to_be_refused => return Err(error(RelayErrorKind::Timeout)),
            Fault::Ponders => std::thread::sleep(THOUGHT),
            Fault::NeedsARuntime if tokio::runtime::Handle::try_current().is_err() => {
                return if to_be_refused { Ok(()) } else { Err(error(RelayErrorKind::Refused)) };
            }
            _ => {}
        }
        self.inner.admit(from, mail)
    }

    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mut mail: Sealed) -> Result<Handoff, RelayError> {
        let _lane = match self.fault {
            Fault::OneByOne => self.lane.acquire().await.ok(),
            _ => None,
        };
        let (mut hop, copy) = (hop, mail.clone());
        match self.fault {
            Fault::Alters => mail.envelope = Bytes::from([&mail.envelope[..], &[0]].concat()),
            Fault::ChoosesTheHop => hop = mail.to,
            Fault::LeavesATask => drop(tokio::spawn(std::future::pending::<()>())),
            _ => {}
        }
        let answer = self.inner.forward(by, hop, mail).await;
        match (self.fault, answer) {
            (Fault::HandsOverTwice, Ok(_)) | (Fault::TriesAgain, Err(_)) => self.inner.forward(by, hop, copy).await,
            (Fault::SaysForwarded, Ok(_)) => Ok(Handoff::Forwarded),
            (Fault::MisnamesFailures, Err(_)) => Err(error(RelayErrorKind::Other)),
            (_, answer) => answer,
        }
    }

    async fn hold(&self, mail: Sealed) -> Result<StoredUntil, RelayError> {
        /// Longer than any envelope lives.
        const TOO_LONG: Duration = Duration::from_secs(30 * 86_400);
        if self.fault == Fault::PretendsToHold {
            return Ok(StoredUntil(WallTime::default()));
        }
        let held = self.inner.hold(mail.clone()).await;
        match (self.fault, held) {
            (Fault::PromisesTooMuch, Ok(StoredUntil(until))) => Ok(StoredUntil(until.plus(TOO_LONG))),
            (Fault::PromisesWithoutRoom, Err(e)) if e.kind() == RelayErrorKind::Quota => {
                Ok(StoredUntil(WallTime::from_millis(i64::MAX)))
            }
            (Fault::KeepsCopies, held) => {
                let mut seen = self.seen();
                if seen.held.contains(&mail) {
                    seen.twice.push(mail.clone());
                }
                seen.held.push(mail);
                held
            }
            (_, held) => held,
        }
    }

    async fn fetch(&self, device: PeerId, after: u64, max: usize) -> Result<Vec<Held>, RelayError> {
        if self.fault == Fault::ForgetsOnReopening && self.restarted {
            return Ok(Vec::new());
        }
        let max = if self.fault == Fault::EndlessPages { usize::MAX } else { max };
        let mut held = self.inner.fetch(device, after, max).await?;
        match self.fault {
            Fault::OneBox if held.is_empty() && after == 0 => {
                // a device that nobody wrote to gets what is for another one
                for other in 1..8 {
                    held = self.inner.fetch(PeerId::from_bytes([other; 32]), after, max).await?;
                    held.iter_mut().for_each(|held| held.mail.to = device);
                    if !held.is_empty() {
                        break;
                    }
                }
            }
            Fault::RemovesWhatItYields if after == 0 && held.len() == 6 => {
                let ids: Vec<EnvelopeId> = held.iter().map(|held| held.id).collect();
                self.inner.release(&ids).await?;
            }
            Fault::KeepsCopies => {
                let twice = self.seen().twice.clone();
                let last = held.last().map_or(0, |held| held.n);
                let copies =
                    (last + 1..).zip(twice).map(|(n, mail)| Held::new(n, EnvelopeId::from_bytes([n as u8; 32]), mail));
                held.extend(copies);
            }
            Fault::ReleasesTooMuch | Fault::GivesExpired => {
                let mut seen = self.seen();
                seen.yielded.extend(held.iter().map(|held| (held.n, held.clone())));
                if self.fault == Fault::GivesExpired && after == 0 && held.len() == 1 && seen.yielded.len() == 2 {
                    held = seen.yielded.values().cloned().collect();
                }
            }
            _ => {}
        }
        Ok(held)
    }

    async fn release(&self, ids: &[EnvelopeId]) -> Result<(), RelayError> {
        let mut ids = ids.to_vec();
        if self.fault == Fault::ReleasesTooMuch {
            ids.extend(self.seen().yielded.values().map(|held| held.id));
        }
        self.inner.release(&ids).await
    }
}
