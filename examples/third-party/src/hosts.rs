//! Members by a text file that somebody edits: the `/etc/hosts` of a network.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use byway_api::{
    Announcement, DiscoveryStep, Lookup, Meter, NetworkId, PeerId, Route, Sightings, SignalAddress, StepError,
    StepErrorKind, UserId, async_trait,
};

const NAME: &str = "hosts";

/// The numbers of [`Hosts`].
#[derive(Clone, Copy, Debug)]
pub struct HostsConfig {
    /// How often `browse` looks whether the file has changed. Default 5 s.
    pub look: Duration,
    /// A longer file is refused. Default 1 MiB.
    pub longest: u64,
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self { look: Duration::from_secs(5), longest: 1 << 20 }
    }
}

/// Reads a file of lines `address device user`, where the user may have spaces:
///
/// ```text
/// # who is where in the office
/// [team-blue]
/// libp2p:/ip4/10.0.0.7/tcp/4001  12D3KooW...  bob
/// libp2p:/ip4/10.0.0.8/tcp/4001  12D3KooW...  Carol Danvers
/// ```
///
/// It is read again when it has changed. A line that makes no sense is named in the error, after all
/// others were reported. Nobody signs such a file, so its addresses have to be of transports that need no
/// signalling. Needs a tokio runtime with time.
#[derive(Debug)]
pub struct Hosts {
    path: PathBuf,
    config: HostsConfig,
    read: Mutex<Option<(Stamp, Arc<Lines>)>>,
    /// Our own device, as far as it has announced itself: it may well have a line too.
    me: Mutex<Option<PeerId>>,
}

/// What is different when a file has changed.
type Stamp = (Option<SystemTime>, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    network: NetworkId,
    user: UserId,
    route: Route,
}

#[derive(Debug, Default)]
struct Lines {
    good: Vec<Line>,
    /// Numbers of the lines that make no sense.
    bad: Vec<usize>,
}

impl Hosts {
    /// Members by this file.
    pub fn new(path: impl Into<PathBuf>, config: HostsConfig) -> Self {
        Self { path: path.into(), config, read: Mutex::default(), me: Mutex::default() }
    }

    fn lines(&self) -> Result<Arc<Lines>, StepError> {
        let unreachable = |e| self.error(StepErrorKind::Unreachable, "cannot be read").with_source(e);
        let about = fs::metadata(&self.path).map_err(unreachable)?;
        let stamp = (about.modified().ok(), about.len());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lines)) = read.as_ref().filter(|(then, _)| *then == stamp && stamp.0.is_some()) {
            return Ok(Arc::clone(lines));
        }
        let mut text = String::new();
        let file = fs::File::open(&self.path).map_err(unreachable)?;
        file.take(self.config.longest + 1).read_to_string(&mut text).map_err(unreachable)?;
        if text.len() as u64 > self.config.longest {
            return Err(self.error(StepErrorKind::BadAnswer, "is too long"));
        }
        let lines = Arc::new(parse(&text));
        *read = Some((stamp, Arc::clone(&lines)));
        Ok(lines)
    }

    /// Says which lines make no sense, so that whoever edits the file can see it in `explain()`.
    fn complain(&self, lines: &Lines) -> Result<(), StepError> {
        if lines.bad.is_empty() {
            return Ok(());
        }
        let first: Vec<_> = lines.bad.iter().take(5).map(ToString::to_string).collect();
        Err(self.error(StepErrorKind::BadAnswer, &format!("cannot read line {}", first.join(", "))))
    }

    fn error(&self, kind: StepErrorKind, what: &str) -> StepError {
        StepError::new(kind, NAME, format!("{}: {what}", self.path.display()))
    }
}

#[async_trait]
impl DiscoveryStep for Hosts {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let lines = self.lines()?;
        let query = lookup.query();
        for line in lines.good.iter().filter(|line| line.network == query.network && line.user == query.user) {
            if let ControlFlow::Break(()) = lookup.found(line.route.clone()) {
                return Ok(());
            }
        }
        self.complain(&lines)
    }

    /// Goes on until it is dropped: tells of each line once, also of those that are added later.
    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        let mut told = BTreeSet::new();
        loop {
            let lines = self.lines()?;
            let me = *self.me.lock().unwrap_or_else(PoisonError::into_inner);
            let here = |line: &&Line| line.network == *sightings.network() && Some(line.route.peer) != me;
            let now: BTreeSet<_> =
                lines.good.iter().filter(here).map(|line| (line.route.peer, line.route.address.clone())).collect();
            for (peer, address) in now.difference(&told) {
                if let ControlFlow::Break(()) = sightings.seen(Route::new(*peer, address.clone())) {
                    return Ok(());
                }
            }
            told = now;
            tokio::time::sleep(self.config.look).await;
        }
    }

    /// The file is edited by people; this only learns which line is our own.
    async fn announce(&self, me: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        *self.me.lock().unwrap_or_else(PoisonError::into_inner) = Some(me.peer);
        Ok(())
    }
}

fn parse(text: &str) -> Lines {
    let mut lines = Lines::default();
    let mut network = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            network = name.parse::<NetworkId>().ok();
            if network.is_none() {
                lines.bad.push(number + 1);
            }
            continue;
        }
        match member(network.as_ref(), line) {
            Some(line) => lines.good.push(line),
            None => lines.bad.push(number + 1),
        }
    }
    lines
}

fn member(network: Option<&NetworkId>, line: &str) -> Option<Line> {
    let (address, rest) = line.split_once(char::is_whitespace)?;
    let (peer, user) = rest.trim_start().split_once(char::is_whitespace)?;
    let address: SignalAddress = address.parse().ok()?;
    if address.is_signalling() {
        return None;
    }
    let route = Route::new(peer.parse().ok()?, address);
    Some(Line { network: network?.clone(), user: user.trim_start().parse().ok()?, route })
}
