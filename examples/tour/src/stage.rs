//! The world of one scenario: its directory, its registry behind the proxy, its processes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::child::process::Log;
use crate::child::{PATIENCE, Person, Process};
use crate::narrator::Narrator;
use crate::plugins::{Keep, Way};
use crate::proxy::{Kind, Mark, Proxy};
use crate::report::{Failure, Result};

/// The network of every scenario.
pub const NETWORK: &str = "tour";
/// Between two looks at numbers that are about to agree.
const AGREE_EVERY: Duration = Duration::from_millis(100);
/// Log lines of each process that are shown after a failure.
const LOG_LINES: usize = 40;

/// How a member is started. The same plan again starts the same member again: same name, same profile.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    user: String,
    registry: bool,
    listener: bool,
    quiet: bool,
    mdns: Option<u16>,
    transports: Vec<Way>,
    store: Option<Keep>,
    invites: Vec<String>,
    stolen: Option<String>,
}

impl Plan {
    /// A member that knows the registry and nothing else.
    pub fn with_registry(user: &str) -> Self {
        Self { registry: true, ..Self::without_registry(user) }
    }

    /// A member of a network without a registry.
    pub fn without_registry(user: &str) -> Self {
        Self {
            name: user.to_owned(),
            user: user.to_owned(),
            registry: false,
            listener: false,
            quiet: false,
            mdns: None,
            transports: Vec::new(),
            store: None,
            invites: Vec::new(),
            stolen: None,
        }
    }

    /// It serves a listener.
    #[must_use]
    pub const fn listening(mut self) -> Self {
        self.listener = true;
        self
    }

    /// It looks for members on this machine by multicast DNS, on this UDP port.
    #[must_use]
    pub const fn on_lan(mut self, port: u16) -> Self {
        self.mdns = Some(port);
        self
    }

    /// It looks for nobody unless it is told to, and does not read the registry's list: `anchors` is 0
    /// and `browse_after` is an hour.
    #[must_use]
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// It has these transports, the preferred one first.
    #[must_use]
    pub fn over(mut self, transports: &[Way]) -> Self {
        self.transports = transports.to_vec();
        self
    }

    /// It keeps messages and routes in this store.
    #[must_use]
    pub const fn keeping(mut self, store: Keep) -> Self {
        self.store = Some(store);
        self
    }

    /// It has an invite.
    #[must_use]
    pub fn invited(mut self, invite: &str) -> Self {
        self.invites.push(invite.to_owned());
        self
    }

    /// It shows somebody else's credential, and has a name of its own in the tour.
    #[must_use]
    pub fn by_impostor(mut self, name: &str, credential: &str) -> Self {
        self.name = name.to_owned();
        self.stolen = Some(credential.to_owned());
        self
    }

    fn args(&self, directory: &Path, registry: Option<String>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["member".into()];
        let mut arg = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            args.push(name.into());
            args.push(value.as_ref().to_owned());
        };
        arg("--user", &self.user);
        arg("--network", &NETWORK);
        arg("--profile", &directory.join(&self.name));
        if let Some(url) = registry.filter(|_| self.registry) {
            arg("--registry", &url);
        }
        if self.listener {
            arg("--listener", &"127.0.0.1:0");
        }
        if self.quiet {
            arg("--anchors", &"0");
            arg("--browse-after", &"3600");
        }
        if let Some(port) = self.mdns {
            arg("--mdns", &port.to_string());
        }
        for way in &self.transports {
            arg("--transport", &way.name());
        }
        if let Some(store) = self.store {
            arg("--store", &store.name());
        }
        for invite in &self.invites {
            arg("--invite", invite);
        }
        if let Some(credential) = &self.stolen {
            arg("--stolen", credential);
        }
        args
    }
}

/// The world of one scenario. Dropping it kills its processes.
#[derive(Debug)]
pub struct Stage {
    /// Tells what happens.
    pub narrator: Narrator,
    directory: PathBuf,
    registry: Option<Process>,
    proxy: Option<Proxy>,
    people: Vec<Person>,
    logs: Vec<(String, Log)>,
}

impl Stage {
    /// An empty one. `directory` is made and belongs to it.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(directory: PathBuf, narrator: Narrator) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { narrator, directory, registry: None, proxy: None, people: Vec::new(), logs: Vec::new() })
    }

    /// A directory for one member.
    pub fn profile(&self, user: &str) -> PathBuf {
        self.directory.join(user)
    }

    /// Starts a registry, behind the counting proxy.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start_registry(&mut self) -> Result<()> {
        let proxy = Proxy::start().await?;
        let url = proxy.url();
        let mut args: Vec<OsString> = vec!["registry".into()];
        for arg in ["--open", "--exit-with-stdin", "--listen", "127.0.0.1:0", "--public-url", &url, "--db"] {
            args.push(arg.into());
        }
        args.push(self.directory.join("registry.db").into());
        let (process, mut lines) = self.start_process("registry", &args)?;
        let first = first_line("registry", &mut lines).await?;
        let address: SocketAddr = first["listening"]
            .as_str()
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| Failure::new(format!("the registry says {first} instead of where it listens")))?;
        proxy.forward_to(address);
        self.narrator.fact(format!("a registry runs at {url}, {process}"));
        self.registry = Some(process);
        self.proxy = Some(proxy);
        Ok(())
    }

    /// `kill -9` for the registry. What the members call it stays where it was, and counts.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn kill_registry(&mut self) -> Result<()> {
        if let Some(registry) = self.registry.take() {
            registry.kill().await?;
            self.narrator.fact(format!("kill -9: the registry is dead, process {}", registry.pid()));
        }
        Ok(())
    }

    /// The proxy before the registry.
    ///
    /// # Errors
    /// [`Failure`] if there was never a registry.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().ok_or_else(|| Failure::new("this scenario has no registry"))
    }

    /// Starts another process of this program.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_process(&mut self, name: &str, args: &[OsString]) -> Result<(Process, mpsc::Receiver<String>)> {
        let (process, lines) = Process::start(name, args)?;
        self.logs.push((name.to_owned(), process.log().clone()));
        Ok((process, lines))
    }

    /// Starts a member and waits until its node runs.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start(&mut self, plan: &Plan) -> Result<Person> {
        let registry = self.proxy.as_ref().map(Proxy::url);
        let person = Person::start(&plan.name, &plan.args(&self.directory, registry)).await?;
        self.logs.push((plan.name.clone(), person.process().log().clone()));
        self.people.push(person.clone());
        self.narrator.fact(format!("{} runs, process {}", plan.name, person.process().pid()));
        Ok(person)
    }

    /// Starts a member that knows the registry, and waits until the registry knows it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start_announced(&mut self, plan: &Plan) -> Result<Person> {
        let mark = self.proxy()?.mark();
        let person = self.start(plan).await?;
        let (name, proxy) = (person.name(), self.proxy()?);
        for kind in [Kind::Announce, Kind::Socket] {
            let wanted = |call: &crate::proxy::Call| call.kind == kind && call.succeeded() && call.is_of(person.peer());
            proxy.until(&format!("{kind} of {name}"), mark, wanted).await?;
        }
        Ok(person)
    }

    /// Waits until the calls that the proxy has seen since `mark` are as many as these members, all of
    /// which have started since, have counted.
    ///
    /// # Errors
    /// [`Failure`] with both numbers.
    pub async fn agree(&self, mark: Mark, people: &[&Person]) -> Result<u64> {
        let proxy = self.proxy()?;
        let both = async {
            loop {
                let mut counted = 0;
                for person in people {
                    counted += person.metrics().await?.registry_calls;
                }
                let seen = proxy.since(mark);
                if counted == seen.all() {
                    return Ok(counted);
                }
                // A call is counted by its member a moment before it goes by.
                proxy.changed(AGREE_EVERY).await;
            }
        };
        match timeout(PATIENCE, both).await {
            Ok(agreed) => agreed,
            Err(_) => Err(self.disagreement(mark, people).await),
        }
    }

    async fn disagreement(&self, mark: Mark, people: &[&Person]) -> Failure {
        let mut counted = Vec::new();
        for person in people {
            let calls = person.metrics().await.map_or(0, |numbers| numbers.registry_calls);
            counted.push(format!("{} {calls}", person.name()));
        }
        let seen = self.proxy().map(|proxy| proxy.since(mark).to_string()).unwrap_or_default();
        Failure::new(format!("the proxy has seen {seen}; the members have counted {}", counted.join(", ")))
    }

    /// What can be known about a failure: why the senders' lookups took their paths, the member lists,
    /// and the ends of all logs.
    pub async fn autopsy(&self) -> String {
        let mut text = String::new();
        for person in self.people.iter().filter(|person| person.process().is_alive()) {
            for user in person.written_to() {
                let why = match person.explain(&user).await {
                    Ok(why) => why.unwrap_or_else(|| "there was no lookup".to_owned()),
                    Err(failure) => failure.to_string(),
                };
                text += &format!("--- why, asked of {}: {why}\n", person.name());
            }
            let roster: Vec<_> = person.roster().iter().map(|listed| format!("  {listed}\n")).collect();
            text += &format!("--- {}'s list:\n{}", person.name(), roster.concat());
            if let Ok(numbers) = person.metrics().await {
                text += &format!("--- {}'s numbers: {numbers:?}\n", person.name());
            }
        }
        if let Some(proxy) = &self.proxy {
            text += &format!("--- calls to the registry: {}\n", proxy.since(Mark::default()));
        }
        for (name, log) in &self.logs {
            text += &format!("--- the end of the log of {name}:\n");
            for line in log.tail(LOG_LINES) {
                text += &format!("  {line}\n");
            }
        }
        text
    }

    /// Writes the logs of all processes, as far as they are kept, into a directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_logs(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for (n, (name, log)) in self.logs.iter().enumerate() {
            std::fs::write(directory.join(format!("{n}-{name}.log")), log.tail(usize::MAX).join("\n") + "\n")?;
        }
        Ok(())
    }

    /// Kills everything that still runs and removes the directory.
    pub async fn clear(self) {
        let Self { directory, registry, proxy, people, .. } = self;
        for process in people.iter().map(Person::process).chain(&registry) {
            // Not in order: a scenario that wants that has stopped its members itself.
            let _ = process.kill().await;
        }
        drop(proxy);
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// The first line of a process, as JSON.
///
/// # Errors
/// [`Failure`] if it says nothing in time.
pub async fn first_line(name: &str, lines: &mut mpsc::Receiver<String>) -> Result<Value> {
    match timeout(PATIENCE, lines.recv()).await {
        Ok(Some(line)) => Ok(serde_json::from_str(&line)?),
        _ => Err(Failure::new(format!("{name} does not start"))),
    }
}
