//! The shape of every decision: inputs and time in, effects out.

use std::fmt;
use std::ops::Sub;
use std::time::Duration;

use byway_api::WallTime;

/// Monotonic time in milliseconds since some start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// This tick plus `d`, rounded up to a millisecond, saturating.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for Tick {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The time as a machine is told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Measures waits.
    pub tick: Tick,
    /// Goes into and is compared with what is signed or stored; it may jump.
    pub wall: WallTime,
}

/// Names one request; its answer repeats it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0)
    }
}

/// Names one authenticated connection, for as long as the node runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn{}", self.0)
    }
}

/// A pure state machine.
///
/// Effects go into the caller's buffer, so nothing has to be polled and nothing can be forgotten.
pub trait Machine {
    /// What it is told.
    type In;
    /// What it wants done.
    type Out;

    /// Handles one input. Never blocks; costs no more than the input is large.
    fn handle(&mut self, now: Now, input: Self::In, out: &mut Vec<Self::Out>);

    /// When it wants to be woken (with whatever its input for the passing of time is), if at all.
    fn deadline(&self) -> Option<Tick>;
}
