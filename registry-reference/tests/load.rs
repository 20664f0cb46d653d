//! How much many sockets cost: `cargo test --release -p byway-registry --test load -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use byway_socket::Client;
use common::{Someone, config, mail, start};

const SOCKETS: usize = 1_000;
const MESSAGES: u32 = 20_000;

/// Resident memory of this process in KiB: both ends of every socket live in it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn a_thousand_sockets() {
    let mut config = config();
    config.hub.frames_per_second = u32::MAX;
    config.hub.burst = u32::MAX;
    let registry = start(config).await;
    let people: Vec<Someone> = (0..SOCKETS).map(numbered).collect();
    let before = resident();
    let begun = Instant::now();
    let mut clients: Vec<Client> = Vec::new();
    for who in &people {
        clients.push(registry.attach(who).await);
    }
    let attached = begun.elapsed();
    let after = resident();
    if let (Some(before), Some(after)) = (before, after) {
        println!("{} KiB per socket, both ends", (after - before) / SOCKETS as u64);
    }
    println!("{:.0} sockets a second, one after the other", SOCKETS as f64 / attached.as_secs_f64());
    let (a, b) = (&clients[0], &clients[1]);
    let to = people[1].peer();
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        let (sent, received) = tokio::join!(a.send(to, mail(to, "x")), b.recv());
        sent.unwrap();
        received.unwrap();
    }
    println!(
        "{:.1} us a message, sent, received and confirmed",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(MESSAGES)
    );
    assert_eq!(clients.iter().filter(|client| client.ended().is_some()).count(), 0);
}

fn numbered(n: usize) -> Someone {
    common::keyed(&format!("user{n}"), n as u64 + 1_000)
}
