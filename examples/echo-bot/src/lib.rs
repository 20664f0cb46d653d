//! A bot that answers every message with itself.
//!
//! ```text
//! byway-echo-bot --profile ./echo --registry http://127.0.0.1:8080
//! byway-echo-bot --profile ./echo --listener 127.0.0.1:0 --invite byway1:...
//! ```

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;

use byway::presets::{Lan, Standard};
use byway::{Inbox, Message, Network, Node};
use clap::Parser;
use serde_json::{Value, json};

/// What the bot is told on its command line.
#[derive(Clone, Debug, Parser)]
#[command(version, about = "A bot that answers every message with itself")]
pub struct Options {
    /// Its name in the network
    #[arg(long, default_value = "echo")]
    pub user: String,
    /// The network to join
    #[arg(long, default_value = "demo")]
    pub network: String,
    /// The directory of its keys and messages
    #[arg(long, default_value = "echo-profile")]
    pub profile: PathBuf,
    /// A registry, as http(s)://host:port; without one, members meet by invites
    #[arg(long, env = "BYWAY_REGISTRY")]
    pub registry: Option<String>,
    /// An invite of a member; may be given several times
    #[arg(long)]
    pub invite: Vec<String>,
    /// Where to listen for members that have no other way, such as 0.0.0.0:0
    #[arg(long)]
    pub listener: Option<String>,
    /// The URL under which others reach the listener, such as ws://203.0.113.7:7777
    #[arg(long, requires = "listener")]
    pub advertise: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Runs the bot until `stop` ends.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    let (node, mut inbox) = start(&options).await?;
    let invite = node.invite().map(|invite| invite.to_string()).ok();
    report(
        &options,
        json!({"event": "ready", "user": options.user, "peer": node.peer().to_string(), "invite": invite}),
    );

    tokio::select! {
        answered = answer(&options, &mut inbox) => answered?,
        () = stop => {}
    }

    node.shutdown().await?;
    report(&options, json!({"event": "stopped"}));
    Ok(())
}

async fn start(options: &Options) -> Result<(Node, Inbox), byway::BuildError> {
    let mut builder = match &options.registry {
        Some(url) => Node::builder(Standard::registry(url)),
        None => Node::builder(Lan),
    };
    builder = builder.profile(&options.profile).join(Network::open(&options.network), &options.user);
    for invite in &options.invite {
        builder = builder.bootstrap(invite);
    }
    if let Some(address) = &options.listener {
        builder = builder.listener(address);
    }
    if let Some(url) = &options.advertise {
        builder = builder.advertise(url);
    }
    builder.spawn().await
}

async fn answer(options: &Options, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
    while let Some(message) = inbox.next().await {
        report(options, about(&message));
        message.read().await?;
        // Two bots must not answer each other's answers for ever.
        if message.reply_to().is_none() {
            message.reply(message.bytes()).await?;
        }
        message.done().await?;
    }
    Ok(())
}

fn about(message: &Message) -> Value {
    json!({"event": "message", "from": message.from().as_str(), "id": message.id().to_string(), "text": message.text()})
}

fn report(options: &Options, event: Value) {
    if options.json {
        println!("{event}");
        return;
    }
    match event["event"].as_str() {
        Some("ready") => {
            println!("{} answers every message in {}. Ctrl-C stops it.", options.user, options.network);
            if let Some(invite) = event["invite"].as_str() {
                println!("Invite: {invite}");
            }
        }
        Some("message") => println!("{}: {}", event["from"].as_str().unwrap_or("?"), event["text"]),
        _ => {}
    }
}
