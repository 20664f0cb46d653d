use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway_api::{Carrier, Handoff, PeerId, RelayError, RelayErrorKind, Sealed, async_trait};

/// What a [`ScriptedCarrier`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The hop has taken it.
    Taken(Handoff),
    /// It has not, or cannot be asked.
    Refused(RelayErrorKind),
    /// Nothing, for ever.
    Never,
}

/// A carrier that writes down what it is handed and answers as told.
#[derive(Debug)]
pub struct ScriptedCarrier {
    answer: Answer,
    handed: Mutex<Vec<(PeerId, Sealed)>>,
    waiting: AtomicUsize,
}

impl ScriptedCarrier {
    /// A carrier that always gives this answer.
    pub const fn new(answer: Answer) -> Self {
        Self { answer, handed: Mutex::new(Vec::new()), waiting: AtomicUsize::new(0) }
    }

    /// To which hops what was handed over so far.
    pub fn handed(&self) -> Vec<(PeerId, Sealed)> {
        self.lock().clone()
    }

    /// How many calls wait for their answer now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(PeerId, Sealed)>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Carrier for ScriptedCarrier {
    async fn hand_over(&self, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        self.lock().push((hop, mail));
        match self.answer {
            Answer::Taken(handoff) => Ok(handoff),
            Answer::Refused(kind) => Err(RelayError::new(kind, "script", "as it was told")),
            Answer::Never => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _waiting = Waiting(&self.waiting);
                std::future::pending().await
            }
        }
    }
}
