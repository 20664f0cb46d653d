//! A line-based terminal chat: who is there and how, messages with delivery ticks, and why.
//!
//! ```text
//! byway-chat alice --registry http://127.0.0.1:8080
//! byway-chat bob --invite byway1:...
//! ```

mod screen;

use std::error::Error;
use std::io::BufRead as _;
use std::path::PathBuf;

use byway::presets::{Lan, Standard};
use byway::{Inbox, Network, Node};
use clap::Parser;
use tokio::sync::mpsc;

use screen::Screen;

const HELP: &str = "\
/msg USER TEXT   send a message; later lines without a slash go to the same user
/who             who is there, and by which path
/explain USER    why the last search for a user took the path it took
/invite          a text by which others find you without a server
/block USER      refuse a user; /unblock USER admits it again
/metrics         numbers since the start
/quit            leave
… sent   ✓ delivered   ✓✓ read";

/// A line-based terminal chat.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Your name in the network
    user: String,
    /// The network to join
    #[arg(long, default_value = "demo")]
    network: String,
    /// The directory of your keys and messages; your name if not given
    #[arg(long)]
    profile: Option<PathBuf>,
    /// A registry, as http(s)://host:port; without one, members meet by invites
    #[arg(long, env = "BYWAY_REGISTRY")]
    registry: Option<String>,
    /// An invite of a member; may be given several times
    #[arg(long)]
    invite: Vec<String>,
    /// Where to listen for members that have no other way, such as 0.0.0.0:0
    #[arg(long)]
    listener: Option<String>,
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = run(Options::parse()).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let (node, mut inbox) = start(&options).await?;
    println!("You are {} in {}. /help tells what you can do.", options.user, options.network);

    let mut screen = Screen::default();
    let mut lines = lines();
    let mut members = node.members();
    let mut events = node.events();
    screen.members(&members.current());
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) if line.trim() == "/quit" => break,
                Some(line) => {
                    if let Err(problem) = obey(&node, &mut screen, line.trim()).await {
                        println!("! {problem}");
                    }
                }
                None => break,
            },
            Some(message) = inbox.next() => {
                screen.message(&message);
                message.read().await?;
                message.done().await?;
            }
            Some(roster) = members.changed() => screen.members(&roster),
            Some(event) = events.next() => screen.event(&event),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    Ok(node.shutdown().await?)
}

async fn start(options: &Options) -> Result<(Node, Inbox), byway::BuildError> {
    let mut builder = match &options.registry {
        Some(url) => Node::builder(Standard::registry(url)),
        None => Node::builder(Lan),
    };
    builder = builder
        .profile(options.profile.clone().unwrap_or_else(|| options.user.clone().into()))
        .join(Network::open(&options.network), &options.user);
    for invite in &options.invite {
        builder = builder.bootstrap(invite);
    }
    if let Some(address) = &options.listener {
        builder = builder.listener(address);
    }
    builder.spawn().await
}

async fn obey(node: &Node, screen: &mut Screen, line: &str) -> Result<(), Box<dyn Error>> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match command {
        "" => {}
        "/help" => println!("{HELP}"),
        "/msg" => {
            let (user, text) = rest.split_once(' ').ok_or("/msg USER TEXT")?;
            say(node, screen, user, text).await?;
        }
        "/who" => print!("{}", node.members().current()),
        "/explain" => match node.explain(rest).await? {
            Some(explanation) => println!("{explanation}"),
            None => println!("{rest} was not searched yet."),
        },
        "/invite" => println!("{}", node.invite()?),
        "/block" => node.block(rest).await?,
        "/unblock" => node.unblock(rest).await?,
        "/metrics" => println!("{}", node.metrics().await?),
        _ if command.starts_with('/') => println!("! unknown; /help tells what there is"),
        _ => {
            let user = screen.partner().ok_or("to whom? /msg USER TEXT")?;
            say(node, screen, &user, line).await?;
        }
    }
    Ok(())
}

async fn say(node: &Node, screen: &mut Screen, user: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let sent = node.chat(user)?.send(text).await?;
    screen.sent(user, text, &sent);
    Ok(())
}

/// The lines of standard input. A thread of its own reads them, because such a read cannot be given up.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
