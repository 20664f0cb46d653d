//! An app in a process of its own: a node that obeys JSON lines.
//!
//! What makes it different from an app of yours: it speaks over loopback only; a wrapper around its
//! transport can keep pairs of devices apart; and an impostor can be told to show somebody else's
//! credential, as an attacker's program would.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use byway::api::{Member as Proved, Membership, MembershipError, MembershipErrorKind};
use byway::discovery::mdns::{Interfaces, MdnsConfig};
use byway::discovery::{CarrierConfig, SocketCarrier, standard_steps};
use byway::presets::{Bare, Standard};
use byway::{Delivery, Inbox, Mdns, Message, MessageId, Network, Node, PeerId, Roster, Sent, Trust, UserId, WallTime};
use byway_testkit::faults::Refusals;
use clap::Parser;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::child::protocol::{Command, Line, Listed, Numbers, Request, Shown};
use crate::child::{PATIENCE, stdin_lines};
use crate::plugins::{Keep, Way};

/// What a member is told on its command line.
#[derive(Debug, Parser)]
pub struct Options {
    /// Its name
    #[arg(long)]
    pub user: String,
    /// The network
    #[arg(long)]
    pub network: String,
    /// The directory of its keys and its database
    #[arg(long)]
    pub profile: PathBuf,
    /// The registry; without one, members meet by invites
    #[arg(long)]
    pub registry: Option<String>,
    /// Where it listens for members that have no other way
    #[arg(long)]
    pub listener: Option<SocketAddr>,
    /// It looks for members on this machine by multicast DNS, on this UDP port
    #[arg(long, value_name = "PORT")]
    pub mdns: Option<u16>,
    /// A transport, the preferred one first [default: webrtc]
    #[arg(long = "transport", value_name = "NAME")]
    pub transports: Vec<Way>,
    /// Where messages and routes are kept [default: sqlite, as Byway's presets do]
    #[arg(long, value_name = "NAME")]
    pub store: Option<Keep>,
    /// An invite of another member
    #[arg(long)]
    pub invite: Vec<String>,
    /// Neighbours that it looks for without being asked to [default: Byway's]
    #[arg(long)]
    pub anchors: Option<usize>,
    /// After this time without neighbours it reads the registry's list [default: Byway's]
    #[arg(long, value_name = "SECONDS")]
    pub browse_after: Option<u64>,
    /// Somebody else's credential, to be shown as if it were its own
    #[arg(long)]
    pub stolen: Option<String>,
}

type Failed = Box<dyn Error + Send + Sync>;

/// What the process does.
pub async fn run(options: Options) -> ExitCode {
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("member: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options) -> Result<(), Failed> {
    let mut lines = stdin_lines();
    let refusals = Refusals::new();
    let (node, mut inbox) = start(&options, &refusals).await?;
    let mut members = node.members();
    let mut events = node.events();
    let mut app = App { node: node.clone(), refusals, held: BTreeMap::new(), sent: BTreeMap::new() };
    let mut tasks = JoinSet::new();
    say(&Line::Ready { peer: node.peer().to_string() });
    say(&roster(&members.current()));

    let stopped = loop {
        tokio::select! {
            line = lines.recv() => match line {
                None => break None,
                Some(line) => {
                    let Request { n, command } = serde_json::from_str(&line)?;
                    if matches!(command, Command::Stop) {
                        break Some(n);
                    }
                    app.obey(n, command, &mut tasks).await;
                }
            },
            Some(message) = inbox.next() => app.show(message),
            Some(list) = members.changed() => say(&roster(&list)),
            Some(event) = events.next() => say(&Line::Event { text: format!("{event:?}") }),
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    };
    tasks.shutdown().await;
    let shut = node.shutdown().await;
    if let Some(n) = stopped {
        answer(n, shut.map_err(Failed::from));
    }
    Ok(())
}

async fn start(options: &Options, refusals: &Refusals) -> Result<(Node, Inbox), Failed> {
    // Nothing leaves this machine, so the presets for a real network are of no use here.
    let mut builder = match &options.registry {
        Some(url) => Node::builder(Standard::registry(url)),
        None => Node::builder(Bare)
            .discovery(|_| standard_steps(None).into())
            .signaling(SocketCarrier::new(CarrierConfig::default(), Vec::new())),
    };
    let transports = if options.transports.is_empty() { &[Way::Webrtc][..] } else { &options.transports };
    for way in transports {
        builder = way.add(builder, refusals);
    }
    if let Some(keep) = options.store {
        builder = keep.add(builder, &options.profile)?;
    }
    builder = builder.profile(&options.profile).join(Network::open(&options.network), &options.user).tuning(|tuning| {
        tuning.anchors = options.anchors.unwrap_or(tuning.anchors);
        tuning.browse_after = options.browse_after.map_or(tuning.browse_after, Duration::from_secs);
    });
    if let Some(address) = options.listener {
        builder = builder.listener(address);
    }
    if let Some(port) = options.mdns {
        let mut config = MdnsConfig::default();
        config.interfaces = Interfaces::Loopback;
        config.port = port;
        builder = builder.discovery(|ladder| ladder.after("cache", Mdns::new(config)));
    }
    for invite in &options.invite {
        builder = builder.bootstrap(invite);
    }
    if let Some(credential) = &options.stolen {
        builder = builder.membership(Credulous, credential);
    }
    Ok(builder.spawn().await?)
}

/// The member while it runs.
struct App {
    node: Node,
    refusals: Refusals,
    /// Shown and not done.
    held: BTreeMap<MessageId, Message>,
    /// Sent by this process.
    sent: BTreeMap<MessageId, Sent>,
}

impl App {
    fn show(&mut self, message: Message) {
        say(&Line::Message(Shown {
            id: message.id().to_string(),
            from: message.from().to_string(),
            text: message.text().unwrap_or("(no text)").to_owned(),
            reply_to: message.reply_to().map(|id| id.to_string()),
        }));
        self.held.insert(message.id(), message);
    }

    /// Carries a command out; what takes time goes on in `tasks`.
    async fn obey(&mut self, n: u64, command: Command, tasks: &mut JoinSet<()>) {
        let node = self.node.clone();
        match command {
            Command::Send { to, text } => answer(n, self.send(&to, text).await),
            Command::Status { id } => answer(n, self.status(&id).await),
            Command::WaitDelivered { ids } => match self.find_all(&ids).await {
                Ok(sent) => spawn(tasks, n, async move {
                    for message in sent {
                        message.delivered().await?;
                    }
                    Ok(())
                }),
                Err(error) => answer(n, Err::<(), _>(error)),
            },
            Command::WaitRead { id } => match self.find(&id).await {
                Ok(sent) => spawn(tasks, n, async move { Ok(sent.read().await?) }),
                Err(error) => answer(n, Err::<(), _>(error)),
            },
            Command::Connect { to, within_ms } => {
                spawn(tasks, n, async move { Ok(node.chat(to)?.connect(Duration::from_millis(within_ms)).await?) })
            }
            Command::Read { id } => answer(n, self.read(&id).await),
            Command::Done { id } => answer(n, self.done(&id).await),
            Command::Metrics => answer(n, self.numbers().await),
            Command::Explain { user } => {
                spawn(tasks, n, async move { Ok(node.explain(user).await?.map(|explanation| explanation.to_string())) })
            }
            Command::Refuse { a, b } => answer(n, pair(&a, &b).map(|(a, b)| self.refusals.refuse(a, b))),
            Command::Allow { a, b } => answer(n, pair(&a, &b).map(|(a, b)| self.refusals.permit(a, b))),
            Command::Invite => answer(n, node.invite().map(|invite| invite.to_string()).map_err(Failed::from)),
            Command::Stop => {}
        }
    }

    async fn send(&mut self, to: &str, text: String) -> Result<String, Failed> {
        let sent = self.node.chat(to)?.send(text).await?;
        let id = sent.id();
        self.sent.insert(id, sent);
        Ok(id.to_string())
    }

    async fn status(&mut self, id: &str) -> Result<&'static str, Failed> {
        Ok(match self.find(id).await?.status() {
            Delivery::Sending => "sending",
            Delivery::Relayed => "relayed",
            Delivery::Expired => "expired",
            Delivery::Delivered => "delivered",
            Delivery::Read => "read",
            _ => "other",
        })
    }

    /// A message that was sent by this process, or by an earlier one with this profile.
    async fn find(&mut self, id: &str) -> Result<Sent, Failed> {
        let id: MessageId = id.parse()?;
        if let Some(sent) = self.sent.get(&id) {
            return Ok(sent.clone());
        }
        let sent = self.node.sent(id).await?.ok_or("this message is not in the outbox")?;
        self.sent.insert(id, sent.clone());
        Ok(sent)
    }

    async fn find_all(&mut self, ids: &[String]) -> Result<Vec<Sent>, Failed> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            all.push(self.find(id).await?);
        }
        Ok(all)
    }

    async fn read(&self, id: &str) -> Result<(), Failed> {
        let message = self.held.get(&id.parse()?).ok_or("no such message is shown")?;
        Ok(message.read().await?)
    }

    async fn done(&mut self, id: &str) -> Result<(), Failed> {
        let message = self.held.remove(&id.parse()?).ok_or("no such message is shown")?;
        Ok(message.done().await?)
    }

    async fn numbers(&self) -> Result<Numbers, Failed> {
        let metrics = self.node.metrics().await?;
        let core = &metrics.core;
        Ok(Numbers {
            sent: core.sent,
            delivered: core.delivered,
            received: core.received,
            duplicates: core.duplicates,
            connects: core.connects,
            lookups: core.lookups,
            lookups_metered: core.lookups_metered,
            relayed: core.relayed,
            registry_calls: metrics.registry_calls,
            registry_signals: metrics.registry_signals,
            neighbour_signals: metrics.neighbour_signals,
            listener_signals: metrics.listener_signals,
            handshakes_failed: metrics.handshakes_failed,
        })
    }
}

fn pair(a: &str, b: &str) -> Result<(PeerId, PeerId), Failed> {
    Ok((a.parse()?, b.parse()?))
}

fn roster(roster: &Roster) -> Line {
    let listed = |member: &byway::Member| Listed {
        user: member.user.to_string(),
        icon: member.status().icon().to_owned(),
        path: member.path(),
    };
    Line::Roster { members: roster.iter().map(listed).collect() }
}

/// Answers when the work is done, or when it has taken too long.
fn spawn<T: Serialize>(
    tasks: &mut JoinSet<()>,
    n: u64,
    work: impl Future<Output = Result<T, Failed>> + Send + 'static,
) {
    tasks.spawn(async move {
        let result = tokio::time::timeout(PATIENCE, work).await;
        answer(n, result.unwrap_or_else(|_| Err("it has not happened in time".into())));
    });
}

fn answer<T: Serialize>(n: u64, result: Result<T, Failed>) {
    let value = result.and_then(|value| Ok(serde_json::to_value(value)?));
    say(&match value {
        Ok(ok) => Line::Done { re: n, ok },
        Err(error) => Line::Failed { re: n, error: error.to_string() },
    });
}

fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_else(|error| json!({"event": error.to_string()}).to_string());
    // When nobody reads any more, stdin is closed too, and that ends the process.
    let _ = writeln!(stdout().lock(), "{text}");
}

/// An attacker's judgement: every credential is good for everybody.
#[derive(Debug)]
struct Credulous;

impl Membership for Credulous {
    fn verify(&self, credential: &str, key: &PeerId, now: WallTime) -> Result<Proved, MembershipError> {
        let malformed = || MembershipError::new(MembershipErrorKind::Malformed, "credulous", "no token");
        let user = named_in(credential).and_then(|user| UserId::new(&user).ok()).ok_or_else(malformed)?;
        Ok(Proved::new(user, *key, Trust::Unverified, now.plus(Duration::from_secs(24 * 60 * 60))))
    }
}

/// The user that a token names, whoever has signed it.
fn named_in(credential: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(credential.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thief_reads_whom_a_token_is_for() {
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(r#"{"sub":"alice"}"#));
        assert_eq!(named_in(&token).as_deref(), Some("alice"));
        assert_eq!(named_in("nonsense"), None);
    }
}
