//! Why the last lookup of a member took the path it took, in words.

use std::fmt;
use std::ops::Deref;

use byway_core::view::{self, LookupOutcome};

use crate::members::Span;

/// The trace of the last lookup of a member: each step, its time and outcome, each attempt to connect,
/// and what waits. Its `Display` is meant to be read by people; the fields are for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation(view::Explanation);

impl From<view::Explanation> for Explanation {
    fn from(view: view::Explanation) -> Self {
        Self(view)
    }
}

impl Deref for Explanation {
    type Target = view::Explanation;

    fn deref(&self) -> &view::Explanation {
        &self.0
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view::Explanation { user, took, outcome, steps, dials, queued, next_try, .. } = &self.0;
        write!(f, "{user}: ")?;
        match outcome {
            LookupOutcome::Running => f.write_str("the search goes on")?,
            LookupOutcome::AlreadyConnected => f.write_str("connected, nothing had to be searched")?,
            LookupOutcome::Connected { peer, transport } => {
                write!(f, "connected over {transport} to ..{}", peer.short())?;
            }
            LookupOutcome::Queued => f.write_str("not connected, messages wait")?,
            other => write!(f, "{other:?}")?,
        }
        if let Some(took) = took {
            write!(f, " (after {})", Span(*took))?;
        }
        for step in steps {
            write!(f, "\n  {:<18}", step.name)?;
            match (step.started, step.took) {
                (Some(at), Some(took)) => write!(f, "at {:>6}, {:>6}: ", span(at), span(took))?,
                (Some(at), None) => write!(f, "at {:>6},      …: ", span(at))?,
                (None, _) => f.write_str("not tried: ")?,
            }
            f.write_str(&step.outcome)?;
            match step.routes {
                0 => {}
                1 => f.write_str(", 1 route")?,
                n => write!(f, ", {n} routes")?,
            }
        }
        for dial in dials {
            write!(f, "\n  dial ..{} at {} ", dial.peer.short(), span(dial.started))?;
            write!(f, "(by {}, {}): {}", dial.step, dial.address, dial.outcome)?;
        }
        match (queued, next_try) {
            (0, _) => Ok(()),
            (n, Some(next)) => write!(f, "\n  {n} waiting, next try in {}", Span(*next)),
            (n, None) => write!(f, "\n  {n} waiting"),
        }
    }
}

fn span(duration: std::time::Duration) -> String {
    Span(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway_api::{PeerId, UserId, WallTime};
    use byway_core::view::{DialTrace, StepTrace};
    use std::time::Duration;

    #[test]
    fn an_explanation_tells_each_step_each_dial_and_what_waits() {
        let ms = Duration::from_millis;
        let peer = PeerId::from_bytes([3; 32]);
        let explanation = Explanation::from(view::Explanation {
            user: UserId::new("bob").unwrap(),
            started: WallTime::from_millis(0),
            took: Some(ms(43)),
            outcome: LookupOutcome::Queued,
            steps: vec![
                StepTrace {
                    name: "cache",
                    started: Some(ms(0)),
                    took: Some(ms(2)),
                    routes: 1,
                    outcome: "finished".into(),
                },
                StepTrace { name: "registry", started: None, took: None, routes: 0, outcome: "no budget".into() },
            ],
            dials: vec![DialTrace {
                peer,
                address: "mem:7".into(),
                step: "cache",
                started: ms(2),
                outcome: "no answer in time".into(),
            }],
            queued: 2,
            next_try: Some(Duration::from_secs(30)),
        });
        let text = explanation.to_string();
        for part in [
            "bob: not connected, messages wait (after 43 ms)",
            "finished, 1 route",
            "registry          not tried: no budget",
            "(by cache, mem:7): no answer in time",
            "2 waiting, next try in 30.0 s",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(explanation.queued, 2);
    }
}
