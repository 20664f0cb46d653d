//! Which discovery step runs when, for one lookup.
//!
//! Free steps are hedged: they start together or after a short head start. Metered steps (servers)
//! start when the free ones and their dials have ended, or at a fixed time, whichever is first. A
//! budget ends the *wait* for a step, not the dials that it led to.

use std::time::Duration;

use byway_api::WallTime;

use crate::io::StepOutcome;
use crate::machine::{OpId, Tick};
use crate::tuning::Tuning;
use crate::view::StepTrace;

/// One rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// Its name, unique in the ladder.
    pub name: &'static str,
    /// It costs calls to a server.
    pub metered: bool,
}

/// When a step starts and how long it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Schedule {
    after: Duration,
    wait: Duration,
}

impl Schedule {
    fn of(spec: &StepSpec, tuning: &Tuning) -> Self {
        if spec.metered {
            Self { after: tuning.metered_after, wait: tuning.metered_wait }
        } else if spec.name == "coordinators" {
            Self { after: tuning.coordinators_after, wait: tuning.coordinators_wait }
        } else {
            Self { after: Duration::ZERO, wait: tuning.step_wait }
        }
    }
}

/// The step that is no search: the outbox keeps the message. It ends the ladder.
pub const STORE_AND_FORWARD: &str = "store-and-forward";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rung {
    Waiting,
    Running { op: OpId, until: Tick },
    Ended,
}

/// What the ladder wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run this step; tell its name with [`Ladder::running`].
    Run(usize),
    /// Its time is up.
    Cancel(OpId),
    /// Every step and every dial has ended without a connection.
    Exhausted,
}

/// One lookup's way up the ladder.
#[derive(Debug)]
pub struct Ladder {
    started: Tick,
    started_wall: WallTime,
    rungs: Vec<(StepSpec, Schedule, Rung)>,
    traces: Vec<StepTrace>,
    strict: bool,
    dials: usize,
    exhausted: bool,
}

impl Ladder {
    /// A lookup that begins now.
    pub fn new(specs: &[StepSpec], tuning: &Tuning, now: Tick, wall: WallTime) -> Self {
        let rungs = specs.iter().map(|s| (s.clone(), Schedule::of(s, tuning), Rung::Waiting)).collect();
        let traces = specs
            .iter()
            .map(|s| StepTrace { name: s.name, started: None, took: None, routes: 0, outcome: "not reached".into() })
            .collect();
        Self { started: now, started_wall: wall, rungs, traces, strict: tuning.strict, dials: 0, exhausted: false }
    }

    /// When it began.
    pub const fn started(&self) -> Tick {
        self.started
    }

    /// When it began, by the clock on the wall.
    pub const fn started_wall(&self) -> WallTime {
        self.started_wall
    }

    /// What each step did.
    pub fn traces(&self) -> &[StepTrace] {
        &self.traces
    }

    /// Whether a metered step was run.
    pub fn reached_metered(&self) -> bool {
        self.rungs.iter().zip(&self.traces).any(|((s, _, _), t)| s.metered && t.started.is_some())
    }

    /// The step of `index` runs as `op`.
    pub fn running(&mut self, index: usize, op: OpId, now: Tick) {
        if let Some((_, schedule, rung)) = self.rungs.get_mut(index) {
            *rung = Rung::Running { op, until: now.plus(schedule.wait) };
            self.traces[index].started = Some(now - self.started);
            self.traces[index].outcome = "running".into();
        }
    }

    /// A running step reported a route.
    pub fn found(&mut self, op: OpId) -> Option<&'static str> {
        let index = self.index(op)?;
        self.traces[index].routes += 1;
        Some(self.traces[index].name)
    }

    /// A step has ended.
    pub fn ended(&mut self, op: OpId, outcome: &StepOutcome, now: Tick) {
        let Some(index) = self.index(op) else { return };
        self.rungs[index].2 = Rung::Ended;
        let trace = &mut self.traces[index];
        trace.took = trace.started.map(|s| (now - self.started).saturating_sub(s));
        trace.outcome = match outcome {
            StepOutcome::Finished if trace.routes == 0 => "found nothing".into(),
            StepOutcome::Finished => "found routes".into(),
            StepOutcome::Failed(_, text) => text.clone(),
            StepOutcome::Cancelled => "time was up".into(),
        };
    }

    /// A dial of a route of this lookup began.
    pub fn dial_started(&mut self) {
        self.dials += 1;
    }

    /// It ended without a connection.
    pub fn dial_ended(&mut self) {
        self.dials = self.dials.saturating_sub(1);
    }

    fn index(&self, op: OpId) -> Option<usize> {
        self.rungs.iter().position(|(_, _, r)| matches!(r, Rung::Running { op: o, .. } if *o == op))
    }

    /// Running steps, to cancel them when the lookup ends.
    pub fn operations(&self) -> Vec<OpId> {
        let op = |r: &Rung| if let Rung::Running { op, .. } = r { Some(*op) } else { None };
        self.rungs.iter().filter_map(|(_, _, r)| op(r)).collect()
    }

    /// What is due now. Call it after every change and at [`Self::deadline`].
    pub fn advance(&mut self, now: Tick, out: &mut Vec<Step>) {
        if self.exhausted {
            return;
        }
        for ((_, _, rung), trace) in self.rungs.iter_mut().zip(&mut self.traces) {
            if let Rung::Running { op, until } = *rung
                && until <= now
            {
                *rung = Rung::Ended;
                trace.took = trace.started.map(|s| (now - self.started).saturating_sub(s));
                trace.outcome = if trace.routes == 0 { "no answer in time".into() } else { "found routes".into() };
                out.push(Step::Cancel(op));
            }
        }
        for index in 0..self.rungs.len() {
            if self.rungs[index].2 == Rung::Waiting && self.due(index, now) {
                if self.rungs[index].0.name == STORE_AND_FORWARD {
                    self.rungs[index].2 = Rung::Ended;
                    self.traces[index].started = Some(now - self.started);
                    self.traces[index].took = Some(Duration::ZERO);
                    self.traces[index].outcome = "the outbox keeps the messages".into();
                    continue;
                }
                // marked as running by the caller
                self.rungs[index].2 = Rung::Running { op: OpId(u64::MAX), until: now };
                out.push(Step::Run(index));
            }
        }
        if self.dials == 0 && self.rungs.iter().all(|(_, _, r)| *r == Rung::Ended) {
            self.exhausted = true;
            out.push(Step::Exhausted);
        }
    }

    /// Whether everything below `index` has ended.
    fn below_ended(&self, index: usize) -> bool {
        self.rungs[..index].iter().all(|(_, _, r)| *r == Rung::Ended)
    }

    fn due(&self, index: usize, now: Tick) -> bool {
        let (spec, schedule, _) = &self.rungs[index];
        let ended = self.below_ended(index);
        if spec.name == STORE_AND_FORWARD || self.strict {
            return ended && (self.dials == 0 || !self.strict);
        }
        let timed = now >= self.started.plus(schedule.after);
        if spec.metered {
            let free_ended = self.rungs[..index].iter().all(|(s, _, r)| s.metered || *r == Rung::Ended);
            return (free_ended && self.dials == 0) || timed;
        }
        timed || (schedule.after > Duration::ZERO && ended && self.dials == 0)
    }

    /// When [`Self::advance`] is due without another event.
    pub fn deadline(&self) -> Option<Tick> {
        if self.exhausted {
            return None;
        }
        self.rungs
            .iter()
            .filter_map(|(spec, schedule, rung)| match rung {
                Rung::Waiting if !self.strict && spec.name != STORE_AND_FORWARD => {
                    Some(self.started.plus(schedule.after))
                }
                Rung::Running { until, .. } => Some(*until),
                _ => None,
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use byway_api::StepErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn specs() -> Vec<StepSpec> {
        ["existing", "neighbours", "cache", "coordinators", "registry", STORE_AND_FORWARD]
            .map(|name| StepSpec { name, metered: name == "registry" })
            .to_vec()
    }

    /// Drives a ladder and gives each step a name of its own.
    struct Climb {
        ladder: Ladder,
        next: u64,
        log: Vec<(u64, String)>,
        ops: Vec<(OpId, usize)>,
    }

    impl Climb {
        fn new(tuning: &Tuning) -> Self {
            let mut climb = Self {
                ladder: Ladder::new(&specs(), tuning, Tick(0), WallTime::default()),
                next: 0,
                log: vec![],
                ops: vec![],
            };
            climb.at(0);
            climb
        }

        fn at(&mut self, ms: u64) {
            let mut out = vec![];
            self.ladder.advance(Tick(ms), &mut out);
            for step in out {
                match step {
                    Step::Run(i) => {
                        self.next += 1;
                        self.ladder.running(i, OpId(self.next), Tick(ms));
                        self.ops.push((OpId(self.next), i));
                        self.log.push((ms, specs()[i].name.to_owned()));
                    }
                    Step::Cancel(op) => {
                        let (_, i) = self.ops.iter().find(|(o, _)| *o == op).unwrap();
                        self.log.push((ms, format!("cancel {}", specs()[*i].name)));
                    }
                    Step::Exhausted => self.log.push((ms, "exhausted".into())),
                }
            }
        }

        fn end(&mut self, ms: u64, name: &str) {
            let (op, _) = *self.ops.iter().find(|(_, i)| specs()[*i].name == name).unwrap();
            self.ladder.ended(op, &StepOutcome::Finished, Tick(ms));
            self.at(ms);
        }

        fn when(&self, what: &str) -> Option<u64> {
            self.log.iter().find(|(_, w)| w == what).map(|(t, _)| *t)
        }
    }

    #[test]
    fn a_first_start_reaches_the_registry_at_once() {
        let mut c = Climb::new(&Tuning::default());
        for name in ["existing", "neighbours", "cache"] {
            c.end(0, name);
        }
        c.end(0, "coordinators");
        assert_eq!(c.when("registry"), Some(0), "{:?}", c.log);
    }

    #[test]
    fn the_registry_waits_for_dials_but_not_for_ever() {
        let mut c = Climb::new(&Tuning::default());
        c.ladder.dial_started();
        for name in ["existing", "neighbours", "cache"] {
            c.end(1, name);
        }
        c.at(150);
        c.end(151, "coordinators");
        c.at(699);
        assert_eq!(c.when("registry"), None);
        c.at(700);
        assert_eq!(c.when("registry"), Some(700));
    }

    #[test]
    fn budgets_end_the_wait_and_not_the_dial() {
        let mut c = Climb::new(&Tuning::default());
        c.end(0, "existing");
        c.ladder.dial_started();
        for t in [150, 600, 700, 850, 1_900] {
            c.at(t);
        }
        assert_eq!(c.when("cancel neighbours"), Some(600));
        assert_eq!(c.when("cancel coordinators"), Some(850));
        assert_eq!(c.when("cancel registry"), Some(1_900));
        assert_eq!(c.when("exhausted"), None, "a dial still runs");
        c.ladder.dial_ended();
        c.at(5_000);
        assert_eq!(c.when("exhausted"), Some(5_000));
    }

    #[test]
    fn strict_runs_one_after_the_other() {
        let mut c = Climb::new(&Tuning { strict: true, ..Tuning::default() });
        for (t, name) in [(1, "existing"), (2, "neighbours"), (3, "cache"), (4, "coordinators"), (5, "registry")] {
            assert_eq!(c.when(name), Some(t - 1));
            c.end(t, name);
        }
        assert_eq!(c.when("exhausted"), Some(5));
    }

    #[test]
    fn a_failed_step_says_why() {
        let mut c = Climb::new(&Tuning::default());
        let op = c.ops[1].0;
        c.ladder.ended(op, &StepOutcome::Failed(StepErrorKind::KnownDown, "registry is down".into()), Tick(3));
        assert_eq!(c.ladder.traces()[1].outcome, "registry is down");
        assert_eq!(c.ladder.traces()[1].took, Some(Duration::from_millis(3)));
    }

    proptest! {
        /// Whatever ends when, each step runs at most once, nothing outlives its budget by more than
        /// the time between two wake-ups, and the ladder always ends.
        #[test]
        fn every_climb_ends(ends in proptest::collection::vec((0u64..2_500, 0usize..5), 0..12), strict: bool) {
            let tuning = Tuning { strict, ..Tuning::default() };
            let mut c = Climb::new(&tuning);
            let mut ends = ends;
            ends.sort_unstable();
            let mut ends = ends.into_iter().peekable();
            let mut now = 0;
            while c.when("exhausted").is_none() {
                let deadline = c.ladder.deadline().map(|t| t.0);
                match (ends.peek().copied(), deadline) {
                    (Some((t, i)), d) if d.is_none_or(|d| t <= d) => {
                        ends.next();
                        now = now.max(t);
                        if let Some((op, _)) = c.ops.iter().find(|(_, s)| *s == i).copied() {
                            c.ladder.ended(op, &StepOutcome::Finished, Tick(now));
                        }
                        c.at(now);
                    }
                    (_, Some(d)) => { now = now.max(d); c.at(now); }
                    (_, None) => prop_assert!(false, "stuck: {:?}", c.log),
                }
            }
            for spec in specs() {
                prop_assert!(c.log.iter().filter(|(_, w)| w == spec.name).count() <= 1);
            }
            let longest = if strict { 4_000 } else { 2_500 };
            prop_assert!(now <= longest, "{now}");
        }
    }
}
