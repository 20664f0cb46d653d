//! The WebRTC transport against the crate that it drives and against the stock `webrtc` crate, and nodes over it.

mod endpoints;
pub(crate) mod idle;
mod raw;

use std::time::{Duration, Instant};

use byway_transport_webrtc::WebRtcShell;

use crate::cost::{Cost, Rounds};
use crate::pair::Endpoints;
use crate::stats::{median, percentile};
use crate::table::Row;
use crate::{Failure, nodes, process};

const ROUNDS: usize = 5;
const CHILDREN: usize = 3;
const PROFILED: usize = 3_000_000;

/// In each round.
const CONNECTS: usize = 20;
/// Each takes about half a second.
const STOCK_CONNECTS: usize = 5;
const ROUND_TRIPS: usize = 2_000;
const MESSAGES: usize = 50_000;
/// For one round. The stock crate stands still for whole seconds now and then.
const PATIENCE: Duration = Duration::from_secs(30);

const CONNECT: f64 = 1.0 / 8.0;
const ROUND_TRIP: f64 = 1.0 / 2.0;
const ONE_WAY: f64 = 3.0;

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    rows.extend(against_stock().await?);
    for (size, messages) in [(100, 300_000), (1_024, 100_000)] {
        rows.extend(against_raw(size, messages).await?);
    }
    rows.push(memory().await?);
    rows.push(node_to_node().await?);
    Ok(rows)
}

/// Nanoseconds of processor time per message of 100 B, for a profiler.
pub(crate) async fn flood_raw() -> Result<f64, Failure> {
    Ok(raw::Pair::connect()?.flood(100, PROFILED).await?.cpu_each())
}

/// The same of ours.
pub(crate) async fn flood_byway() -> Result<f64, Failure> {
    let transport = endpoints::transport();
    let endpoints = endpoints::bind(&transport, &transport).await?;
    Ok(endpoints.connect().await?.flood(100, PROFILED).await?.cpu_each())
}

async fn against_stock() -> Result<Vec<Row>, Failure> {
    let transport = endpoints::transport();
    let shell = WebRtcShell::new(transport.clone()).stock();
    let (own, stock) = (endpoints::bind(&transport, &transport).await?, endpoints::bind(&shell, &shell).await?);
    let (mut mine, mut theirs) = (Round::default(), Round::default());
    for _ in 0..ROUNDS {
        mine.add(&own, CONNECTS).await?;
        theirs.add(&stock, STOCK_CONNECTS).await?;
    }
    tokio::join!(own.close(), stock.close());
    let connects = format!(
        "medians of {ROUNDS} rounds in turn of {CONNECTS} and {STOCK_CONNECTS} connects over loopback, both ends open; \
         signals in this process"
    );
    let milliseconds = |it: f64| format!("{:.1} ms", it * 1e3);
    let microseconds = |it: f64| format!("{:.0} µs", it * 1e6);
    let megabytes = |it: f64| format!("{:.0} MB/s", it / 1e6);
    Ok(vec![
        at_most("connect p50", None, mine.connect_p50(), theirs.connect_p50(), milliseconds, connects.clone()),
        at_most("connect p95", Some(CONNECT), mine.connect_p95(), theirs.connect_p95(), milliseconds, connects),
        at_most(
            "round trip of 100 B, p50",
            Some(ROUND_TRIP),
            median(&mine.round_trip),
            median(&theirs.round_trip),
            microseconds,
            format!("medians of {ROUNDS} rounds in turn of {ROUND_TRIPS} round trips over loopback"),
        ),
        at_least(
            "1 KiB one way",
            ONE_WAY,
            median(&mine.one_way),
            median(&theirs.one_way),
            megabytes,
            format!(
                "medians of {ROUNDS} rounds in turn of {MESSAGES} messages over loopback, a new connection in each"
            ),
        ),
    ])
}

/// What the rounds of one side gave. Seconds, and bytes a second.
#[derive(Debug, Default)]
struct Round {
    connect: Vec<[f64; 2]>,
    round_trip: Vec<f64>,
    one_way: Vec<f64>,
}

impl Round {
    async fn add(&mut self, endpoints: &Endpoints, connects: usize) -> Result<(), Failure> {
        tokio::time::timeout(PATIENCE, self.measure(endpoints, connects)).await?
    }

    async fn measure(&mut self, endpoints: &Endpoints, connects: usize) -> Result<(), Failure> {
        const SIZE: usize = 1024;
        let mut took = Vec::new();
        for _ in 0..connects {
            let start = Instant::now();
            let pair = endpoints.connect().await?;
            took.push(start.elapsed().as_secs_f64());
            pair.hang_up().await;
        }
        self.connect.push([percentile(&took, 50), percentile(&took, 95)]);

        let pair = endpoints.connect().await?;
        pair.round_trips(100, ROUND_TRIPS / 10).await?;
        let took = pair.round_trips(100, ROUND_TRIPS).await?;
        self.round_trip.push(percentile(&took.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(), 50));
        pair.hang_up().await;

        let pair = endpoints.connect().await?;
        self.one_way.push(pair.flood(SIZE, MESSAGES).await?.rate() * SIZE as f64);
        pair.hang_up().await;
        Ok(())
    }

    fn connect_p50(&self) -> f64 {
        median(&self.connect.iter().map(|[p50, _]| *p50).collect::<Vec<_>>())
    }

    fn connect_p95(&self) -> f64 {
        median(&self.connect.iter().map(|[_, p95]| *p95).collect::<Vec<_>>())
    }
}

/// Less is better.
fn at_most(what: &str, target: Option<f64>, mine: f64, theirs: f64, show: impl Fn(f64) -> String, how: String) -> Row {
    Row {
        figure: format!("webrtc: {what}, against the stock crate"),
        target: target.map(|target| format!("≤ 1/{:.0}", 1.0 / target)).unwrap_or_default(),
        value: format!("1/{:.1} ({} against {})", theirs / mine, show(mine), show(theirs)),
        met: target.is_none_or(|target| mine <= target * theirs),
        how,
    }
}

/// More is better.
fn at_least(what: &str, target: f64, mine: f64, theirs: f64, show: impl Fn(f64) -> String, how: String) -> Row {
    Row {
        figure: format!("webrtc: {what}, against the stock crate"),
        target: format!("≥ {target:.0} ×"),
        value: format!("{:.1} × ({} against {})", mine / theirs, show(mine), show(theirs)),
        met: mine >= target * theirs,
        how,
    }
}

async fn against_raw(size: usize, messages: usize) -> Result<[Row; 2], Failure> {
    let transport = endpoints::transport();
    let endpoints = endpoints::bind(&transport, &transport).await?;
    let (mut rival, ours) = (raw::Pair::connect()?, endpoints.connect().await?);
    rival.flood(size, messages / 10).await?;
    ours.flood(size, messages / 10).await?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let theirs = rival.flood(size, messages).await?;
        rounds.add(ours.flood(size, messages).await?, theirs);
    }
    ours.hang_up().await;
    endpoints.close().await;
    let (rate, cpu) = (rounds.medians(Cost::rate), rounds.medians(Cost::cpu_each));
    let row = |figure: String, value: String| Row {
        figure,
        target: String::new(),
        value,
        met: true,
        how: format!(
            "medians of {ROUNDS} rounds in turn, {messages} messages one way, both ends in this process: ours over \
             UDP on loopback with tasks on two threads or more, `rtc` in memory on one thread"
        ),
    };
    Ok([
        row(
            format!("webrtc: messages/s of {size} B, against `rtc` alone"),
            format!("{:.0} % ({:.0} k against {:.0} k)", rate.share * 100.0, rate.own / 1e3, rate.theirs / 1e3),
        ),
        row(
            format!("webrtc: processor time per message of {size} B, both ends, against `rtc` alone"),
            format!("{:.0} % ({:.0} ns against {:.0} ns)", cpu.share * 100.0, cpu.own, cpu.theirs),
        ),
    ])
}

async fn node_to_node() -> Result<Row, Failure> {
    let transport = endpoints::transport();
    let endpoints = endpoints::bind(&transport, &transport).await?;
    let bare = endpoints.connect().await?;
    let row = nodes::measure("webrtc", &bare, endpoints::of_node).await?;
    bare.hang_up().await;
    endpoints.close().await;
    Ok(row)
}

async fn memory() -> Result<Row, Failure> {
    let (mut rival, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..CHILDREN {
        rival.push(process::child("webrtc-idle-raw").await?);
        ours.push(process::child("webrtc-idle-byway").await?);
    }
    let (rival, ours) = (median(&rival), median(&ours));
    Ok(Row {
        figure: "webrtc: memory of an idle connection, both ends, against `rtc` alone".to_owned(),
        target: String::new(),
        value: format!("{:.2} × ({ours:.0} KiB against {rival:.0} KiB)", ours / rival),
        met: true,
        how: format!(
            "medians of {CHILDREN} processes each, growth of VmRSS over {} connections to one endpoint, with what \
             the endpoint at the other end of each has touched",
            idle::CONNECTIONS
        ),
    })
}
