//! The own driver against the stock `webrtc` crate, in the same run on the same machine.
//!
//! `cargo run --release -p byway-transport-webrtc --features webrtc-shell --example webrtc-bench`
//! prints a table, with `-- --json` one JSON object per line and figure. Only ratios mean anything:
//! both sides of every comparison run one after the other in this process, over loopback.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark stops at the first thing that fails")]

mod measure;
mod report;
mod signals;
mod turn_server;

use std::sync::Arc;

use byway_api::Transport;
use byway_transport_webrtc::{Config, WebRtc, WebRtcShell};

use measure::Lab;
use report::Report;

/// Limits on OFFERs are per device, and here one device dials all the time.
fn own(change: impl FnOnce(WebRtc) -> WebRtc) -> WebRtc {
    let mut config = Config::default();
    config.offer_burst = u32::MAX;
    config.offers = 256;
    config.accept_queue = 256;
    change(WebRtc::new(config).bind(([127, 0, 0, 1], 0).into()))
}

/// Medians of rounds in turn, so that a slow moment of the machine meets both.
async fn in_turn(measure: impl AsyncFn(&Lab) -> f64, own: &Lab, stock: &Lab) -> (f64, f64) {
    const ROUNDS: usize = 7;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(measure(own).await);
        theirs.push(measure(stock).await);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    (median(mine), median(theirs))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // in a task, as apps are: the thread of `main` is not one of those that connections run on
    tokio::spawn(run()).await.unwrap();
}

async fn run() {
    let mut report = Report::new(std::env::args().any(|arg| arg == "--json"));
    let (server, address) = turn_server::start().await;
    let plain = own(|it| it);
    let relayed = own(|it| it.turn(&address, "bench", turn_server::PASSWORD).relay_only(true));
    let stock = |transport: &WebRtc| Arc::new(WebRtcShell::new(transport.clone()).stock()) as Arc<dyn Transport>;

    let lab = Lab::bind(&plain, &plain).await;
    let stock_lab = Lab::bind(&*stock(&plain), &*stock(&plain)).await;
    let (mine, theirs) = (lab.connects(100).await, stock_lab.connects(20).await);
    report.at_most("connect p50", "ms", mine.p50, theirs.p50, None);
    report.at_most("connect p95", "ms", mine.p95, theirs.p95, Some(1.0 / 8.0));

    let (mine, theirs) = in_turn(async |lab: &Lab| lab.round_trips(2_000).await.p50, &lab, &stock_lab).await;
    report.at_most("round trip of 100 B, p50", "us", mine * 1e3, theirs * 1e3, Some(1.0 / 2.0));
    // stock falls into stalls of whole seconds with small messages: a few are enough
    let (mine, theirs) = (lab.throughput(100, 200_000).await, stock_lab.throughput(100, 40_000).await);
    report.at_least("100 B one way", "MB/s", mine, theirs, None);
    let (mine, theirs) = in_turn(async |lab: &Lab| lab.throughput(1024, 100_000).await, &lab, &stock_lab).await;
    report.at_least("1 KiB one way", "MB/s", mine, theirs, Some(3.0));
    let (mine, theirs) = in_turn(async |lab: &Lab| lab.throughput(65_536, 2_000).await, &lab, &stock_lab).await;
    report.at_least("64 KiB one way", "MB/s", mine, theirs, None);
    stock_lab.close().await;

    let lab_turn = Lab::bind(&relayed, &plain).await;
    let mine = lab_turn.round_trips(2_000).await;
    lab_turn.close().await;
    let stock_turn = Lab::bind(&*stock(&relayed), &*stock(&plain)).await;
    let theirs = stock_turn.round_trips(15).await;
    stock_turn.close().await;
    report.at_most("round trip through TURN, p50", "ms", mine.p50, theirs.p50, Some(1.0 / 50.0));
    server.close().await.unwrap();

    report.exactly("early messages lost in 100 connects", lab.early_messages_lost(100).await, 0);
    lab.close().await;
    let (left, sockets) = measure::left_after_connects(&plain, 500).await;
    report.exactly("table entries left after 500 connects", left, 0);
    report.exactly("sockets of the endpoint after 500 connects", sockets, 1);
    report.exactly("peers on one socket", measure::peers_on_one_socket(&plain, 150).await, 150);
    report.finish();
}
