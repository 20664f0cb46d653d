use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{Announcement, DiscoveryStep, PeerId, UserId, async_trait};

use super::script::Script;

/// What the suite grants a step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 30 s.
    pub deadline: Duration,
    /// A call ends, with whatever result. Default 10 s.
    pub patience: Duration,
    /// After this long without an event the suite takes it that none will come. Default 300 ms.
    pub quiet: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), patience: Duration::from_secs(10), quiet: Duration::from_millis(300) }
    }
}

/// Prepares worlds for a step.
#[async_trait]
pub trait StepFixture: Send + Sync + 'static {
    /// A fresh step in a fresh world.
    async fn world(&self) -> World;

    /// What the suite grants this step.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

type Calls = Box<dyn Fn() -> u64 + Send + Sync>;

/// A step, and what there is for it to find.
pub struct World {
    /// The step.
    pub step: Arc<dyn DiscoveryStep>,
    /// Neighbours, their answers, and what is remembered: whatever the step draws on through its
    /// lookup. What it draws on by itself, such as a server, belongs to [`keeping`](Self::keeping).
    pub script: Script,
    /// A user whom the step finds.
    pub known: UserId,
    /// Exactly the devices that it finds for him. None for a step that never finds any.
    pub devices: Vec<PeerId>,
    /// A user of whom nobody knows.
    pub stranger: UserId,
    pub(super) announcement: Option<Announcement>,
    pub(super) members: Option<Vec<PeerId>>,
    pub(super) calls: Option<Calls>,
    pub(super) kill: Option<Box<dyn Fn() + Send + Sync>>,
    _kept: Box<dyn Any + Send + Sync>,
}

impl World {
    /// A world in which `step` finds `devices` for the user `known`, and nobody for `stranger`.
    pub fn new(
        step: Arc<dyn DiscoveryStep>,
        script: Script,
        known: UserId,
        devices: Vec<PeerId>,
        stranger: UserId,
    ) -> Self {
        Self {
            step,
            script,
            known,
            devices,
            stranger,
            announcement: None,
            members: None,
            calls: None,
            kill: None,
            _kept: Box::new(()),
        }
    }

    /// Says how many calls the step's server has seen so far. Without it a metered step's promises
    /// about calls are skipped.
    #[must_use]
    pub fn counting(mut self, calls: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.calls = Some(Box::new(calls));
        self
    }

    /// What the step may announce. Without it the promise about announcing is skipped.
    #[must_use]
    pub fn announcing(mut self, announcement: Announcement) -> Self {
        self.announcement = Some(announcement);
        self
    }

    /// Exactly the devices that `browse` reports: those of this network, and not our own (the suite browses
    /// without having announced; a step that knows its device only from there is tested without it). What stands
    /// beside them in the world, such as the members of another network, must not be reported. Without it
    /// the promise about whom browsing reports is skipped.
    #[must_use]
    pub fn browsing(mut self, members: Vec<PeerId>) -> Self {
        self.members = Some(members);
        self
    }

    /// Makes the step's own source (a server, a file) unreachable from now on. Without it the promise
    /// about a dead source rests on the script alone.
    #[must_use]
    pub fn killed_by(mut self, kill: impl Fn() + Send + Sync + 'static) -> Self {
        self.kill = Some(Box::new(kill));
        self
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.as_ref().map_or(0, |calls| calls())
    }

    /// Keeps something alive as long as the world: a server, a temporary directory.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self._kept = Box::new((self._kept, kept));
        self
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("step", &self.step)
            .field("script", &self.script)
            .field("known", &self.known)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}
