//! What can go wrong, and what to do about it.

use std::fmt;
use std::time::Duration;

use byway_api::{IdError, Retry, StoreErrorKind};
use byway_core::io::Refusal;
use thiserror::Error;

use crate::engine::CommandError;

/// The part of the configuration that a [`Problem`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// `.join(..)`: the network, the user, the credential.
    Membership,
    /// `.profile(..)`: the directory.
    Profile,
    /// `.keys(..)`: the device's secrets.
    Keys,
    /// `.store(..)`: the durable store.
    Store,
    /// `.transport(..)`.
    Transport,
    /// `.discovery(..)`: the ladder.
    Discovery,
    /// `.signaling(..)` and the preset's registry.
    Signaling,
    /// `.listener(..)` and `.advertise(..)`.
    Listener,
    /// `.bootstrap(..)`.
    Bootstrap,
    /// `.tuning(..)`.
    Tuning,
    /// The runtime that `spawn` was called on.
    Runtime,
}

/// One reason why a node could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What it is about.
    pub part: Part,
    /// What is wrong.
    pub text: String,
    /// What a person can do.
    pub advice: String,
    /// Whether the same configuration may work later.
    pub retry: Retry,
}

impl Problem {
    /// A problem that stays until the configuration changes.
    pub(crate) fn new(part: Part, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { part, text: text.into(), advice: advice.into(), retry: Retry::Never }
    }

    /// The same problem with other retry advice.
    pub(crate) fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, self.advice)
    }
}

/// Why a node could not start: every problem that was found, not only the first.
///
/// Nothing is left running, open or locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    problems: Vec<Problem>,
}

impl BuildError {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems, in the order in which the builder's parts come.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether the same configuration may work later: only if that holds for every problem.
    pub fn retry(&self) -> Retry {
        let worst = |retry| self.problems.iter().any(|p| p.retry == retry);
        if worst(Retry::Never) {
            Retry::Never
        } else if worst(Retry::Later) {
            Retry::Later
        } else {
            Retry::LocalFault
        }
    }
}

impl From<Problem> for BuildError {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the node cannot start: {one}"),
            many => {
                write!(f, "the node cannot start, {} problems:", many.len())?;
                many.iter().enumerate().try_for_each(|(i, problem)| write!(f, "\n  {}. {problem}", i + 1))
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// Why a message was not taken. Nothing was stored.
///
/// That a recipient cannot be reached is not among them: such a message waits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// 10,000 messages or 64 MiB wait already.
    #[error("the outbox is full: send again when some of the waiting messages were delivered or have expired")]
    QueueFull,
    /// The message is too long.
    #[error("a message has at most {max} bytes and this one has {got}: split it, or send a link to it")]
    TooLarge {
        /// The most a message may have, in bytes.
        max: usize,
        /// What this one has.
        got: usize,
    },
    /// The expiry is out of bounds.
    #[error("a message lives more than nothing and at most {max:?}; {got:?} was asked for")]
    Expiry {
        /// The longest life.
        max: Duration,
        /// What was asked for.
        got: Duration,
    },
    /// The recipient is blocked.
    #[error("the recipient is blocked: unblock it first")]
    Blocked,
    /// The store failed.
    #[error("the message could not be stored ({0:?}): see the node's log, and send again with the same id")]
    Store(StoreErrorKind),
    /// The node has stopped.
    #[error("the node has stopped: start it again")]
    Stopped,
}

impl SendError {
    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::QueueFull => Retry::Later,
            Self::Store(kind) => store_retry(*kind),
            _ => Retry::Never,
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Not the name of a user.
    #[error(transparent)]
    User(#[from] IdError),
    /// The store failed.
    #[error("the change could not be stored ({0:?}): see the node's log, and try again")]
    Store(StoreErrorKind),
    /// The node has stopped.
    #[error("the node has stopped: start it again")]
    Stopped,
}

impl NodeError {
    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(kind) => store_retry(*kind),
            Self::User(_) | Self::Stopped => Retry::Never,
        }
    }
}

impl From<CommandError> for NodeError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(Refusal::Store(kind)) => Self::Store(kind),
            _ => Self::Stopped,
        }
    }
}

/// Why [`Sent::delivered`](crate::Sent::delivered) or [`Sent::read`](crate::Sent::read) ended without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The message has expired undelivered.
    #[error("the message expired before it was delivered: send it again, with a longer life if it matters")]
    Expired,
    /// The node has stopped. The message is durable and goes on when the node starts again.
    #[error("the node has stopped; the message is kept and goes on when the node starts again")]
    Stopped,
}

impl DeliveryError {
    /// Whether waiting again makes sense.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Expired => Retry::Never,
            Self::Stopped => Retry::Later,
        }
    }
}

/// Why [`Chat::connect`](crate::Chat::connect) made no connection. Messages are delivered all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Every way was tried.
    #[error("no way to the member works now: explain() says what was tried; messages are queued and tried again")]
    Unreachable,
    /// Nothing was decided in the given time. The search goes on.
    #[error("no connection yet; the search goes on")]
    Timeout,
    /// The node has stopped.
    #[error("the node has stopped: start it again")]
    Stopped,
}

impl ConnectError {
    /// Whether the same call may succeed later.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Unreachable | Self::Timeout => Retry::Later,
            Self::Stopped => Retry::Never,
        }
    }
}

const fn store_retry(kind: StoreErrorKind) -> Retry {
    match kind {
        StoreErrorKind::Busy | StoreErrorKind::DiskFull | StoreErrorKind::Io => Retry::Later,
        _ => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_error_lists_every_problem_with_its_advice() {
        let error = BuildError::new(vec![
            Problem::new(Part::Transport, "no transport", "add .transport(..)"),
            Problem::new(Part::Store, "the store is busy", "stop the other process").with_retry(Retry::Later),
        ]);
        let text = error.to_string();
        assert!(text.contains("2 problems"), "{text}");
        assert!(text.contains("1. no transport: add .transport(..)"), "{text}");
        assert!(text.contains("2. the store is busy: stop the other process"), "{text}");
        assert_eq!(error.retry(), Retry::Never);
    }

    #[test]
    fn a_busy_store_alone_may_be_tried_again() {
        let busy = Problem::new(Part::Store, "busy", "wait").with_retry(Retry::Later);
        assert_eq!(BuildError::from(busy).retry(), Retry::Later);
        assert_eq!(SendError::Store(StoreErrorKind::DiskFull).retry(), Retry::Later);
        assert_eq!(SendError::Store(StoreErrorKind::Corrupt).retry(), Retry::Never);
    }
}
