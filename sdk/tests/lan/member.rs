//! One member in a process of its own: this test program again, inside a network namespace.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use byway::presets::Lan;
use byway::{MemoryKeys, MemoryStore, Network, Node};

use crate::PATIENCE;

const USER: &str = "BYWAY_LAN_USER";
const OTHERS: &str = "BYWAY_LAN_OTHERS";
const DONE: &str = "everybody has heard me, and I them";

/// The process of a member. Dropping it kills it.
pub(crate) struct Child {
    user: String,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Child {
    /// Starts `user` on this machine; it writes to all `others` and waits for word of each.
    pub(crate) fn start(machine: &str, user: &str, others: &[&str]) -> Self {
        let mut process = Command::new("ip")
            .args(["netns", "exec", machine])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "member::plays_a_member", "--nocapture"])
            .env(USER, user)
            .env(OTHERS, others.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = sync_channel(64);
        let stdout = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { user: user.to_owned(), stdin: process.stdin.take(), process, lines }
    }

    /// Waits until it has heard of everybody and everybody of it.
    pub(crate) fn until_done(self) -> Self {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(DONE) => return self,
                Ok(line) => said.push(line),
                Err(e) => panic!("{} does not get there ({e}): {said:#?}", self.user),
            }
        }
    }

    /// Lets it shut down.
    pub(crate) fn stop(&mut self) {
        drop(self.stdin.take());
        assert!(self.process.wait().unwrap().success(), "{}", self.user);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What runs inside the process; nothing in an ordinary run of the tests.
#[test]
fn plays_a_member() {
    let (Ok(user), Ok(others)) = (std::env::var(USER), std::env::var(OTHERS)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut others: Vec<&str> = others.split(',').collect();
        let builder = Node::builder(Lan).join(Network::open("lan"), &user);
        let (node, mut inbox) = builder.store(MemoryStore::new()).keys(MemoryKeys::new()).spawn().await.unwrap();
        println!("{user} is at {:?}", node.addresses());
        let talk = async {
            let mut sent = Vec::new();
            for other in &others {
                sent.push(node.chat(*other).unwrap().send(format!("hello from {user}")).await.unwrap());
            }
            while !others.is_empty() {
                let message = inbox.next().await.unwrap();
                println!("{user} reads {:?}", message.text());
                others.retain(|other| message.text() != Some(&format!("hello from {other}")));
                message.done().await.unwrap();
            }
            for sent in sent {
                sent.delivered().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE / 2, talk).await.is_err() {
            for other in others {
                println!("{user} seeks {other}: {:?}", node.explain(other).await.unwrap().map(|why| why.to_string()));
            }
            std::process::exit(1);
        }
        assert_eq!(node.metrics().await.unwrap().registry_calls, 0);
        println!("{user}: {DONE}");
        // the others may not be that far
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        node.shutdown().await.unwrap();
    });
}
