//! The requests of the core that take time, each a task that the driver can abort and whose end it
//! always learns, also when a plugin panics.

use std::collections::HashMap;

use byway_api::{Handoff, RelayErrorKind, Retry, Row, Sealed, StepErrorKind, StoreErrorKind};
use byway_core::OpId;
use byway_core::io::{DialError, SealFailure, StepOutcome};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::handshake::Established;
use super::runtime::Runtime;

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dial,
    Run,
    Browse,
    Announce,
    Load,
    Seal,
    Relay,
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    Dialed(Result<Box<Established>, DialError>),
    Run(StepOutcome),
    Browsed(StepOutcome),
    Announced(bool),
    Loaded(Result<Vec<Row>, StoreErrorKind>),
    Sealed(Result<Sealed, SealFailure>),
    Relayed(Result<Handoff, RelayErrorKind>),
}

/// The running requests.
#[derive(Debug)]
pub(super) struct Ops {
    runtime: Runtime,
    tasks: JoinSet<Ended>,
    running: HashMap<Id, (OpId, Kind)>,
    aborts: HashMap<OpId, AbortHandle>,
}

impl Ops {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self { runtime, tasks: JoinSet::new(), running: HashMap::new(), aborts: HashMap::new() }
    }

    /// Begins one.
    pub(super) fn start(&mut self, op: OpId, kind: Kind, work: impl Future<Output = Ended> + Send + 'static) {
        let abort = self.runtime.spawn_into(&mut self.tasks, work);
        self.running.insert(abort.id(), (op, kind));
        self.aborts.insert(op, abort);
    }

    /// Aborts one; its end comes out of [`Self::next`] like any other.
    pub(super) fn cancel(&self, op: OpId) {
        if let Some(abort) = self.aborts.get(&op) {
            abort.abort();
        }
    }

    /// Aborts all but the announcements, which say goodbye.
    pub(super) fn cancel_all(&self) {
        for (op, kind) in self.running.values() {
            if *kind != Kind::Announce {
                self.cancel(*op);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next end; pending while nothing runs. Cancel-safe.
    pub(super) async fn next(&mut self) -> (OpId, Ended) {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(end) => {
                    if let Some(end) = self.ended(end) {
                        return end;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// An end that is there already.
    pub(super) fn try_next(&mut self) -> Option<(OpId, Ended)> {
        let end = self.tasks.try_join_next_with_id()?;
        self.ended(end)
    }

    /// Aborts what still runs and waits for it.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn ended(&mut self, end: Result<(Id, Ended), JoinError>) -> Option<(OpId, Ended)> {
        let id = match &end {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let (op, kind) = self.running.remove(&id)?;
        self.aborts.remove(&op);
        let ended = match end {
            Ok((_, ended)) => ended,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(target: "byway::engine", ?op, ?kind, "a plugin panicked");
                }
                failed(kind, error.is_panic())
            }
        };
        Some((op, ended))
    }
}

/// The end of a request that did not say itself how it ended.
fn failed(kind: Kind, panicked: bool) -> Ended {
    let text = if panicked { "it panicked" } else { "cancelled" };
    let outcome = || match panicked {
        true => StepOutcome::Failed(StepErrorKind::Other, text.to_owned()),
        false => StepOutcome::Cancelled,
    };
    match kind {
        Kind::Dial => Ended::Dialed(Err(DialError { retry: Retry::Later, superseded: false, text: text.to_owned() })),
        Kind::Run => Ended::Run(outcome()),
        Kind::Browse => Ended::Browsed(outcome()),
        Kind::Announce => Ended::Announced(false),
        Kind::Load => Ended::Loaded(Err(StoreErrorKind::Io)),
        Kind::Seal => Ended::Sealed(Err(SealFailure::Other)),
        Kind::Relay => Ended::Relayed(Err(RelayErrorKind::Other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Clock;

    #[tokio::test]
    async fn a_panic_and_a_cancel_are_answered_too() {
        let mut ops = Ops::new(Runtime::new(Clock::System));
        ops.start(OpId(1), Kind::Run, async { panic!("a plugin's own fault") });
        let (op, ended) = ops.next().await;
        assert_eq!(op, OpId(1));
        assert!(matches!(ended, Ended::Run(StepOutcome::Failed(StepErrorKind::Other, _))));

        ops.start(OpId(2), Kind::Browse, std::future::pending());
        ops.cancel(OpId(2));
        let (op, ended) = ops.next().await;
        assert_eq!(op, OpId(2));
        assert!(matches!(ended, Ended::Browsed(StepOutcome::Cancelled)));
        assert!(ops.is_empty() && ops.try_next().is_none());
    }
}
