//! How much is taken from whom.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{NOW, config, registry, someone, start};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn calls_of_a_device_are_limited_and_others_are_not_affected() {
    let mut config = config();
    config.limits.calls_per_minute = 10;
    config.limits.burst = 20;
    let (registry, alice, bob) = (start(config).await, someone("alice", 1), someone("bob", 2));
    let path = "/network/team/active-peers";
    let mut taken = 0;
    let refused = loop {
        let answer = registry.proved(&alice, Method::GET, path, &Value::Null).await;
        match answer.status.as_u16() {
            200 => taken += 1,
            _ => break answer,
        }
    };
    refused.is(429, "rate_limited");
    assert!((1..=6).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    assert!((20..=22).contains(&taken), "{taken}: the burst, and what came in meanwhile");
    registry.proved(&bob, Method::GET, path, &Value::Null).await.ok();
    registry.get(path).await.ok();
}

#[tokio::test]
async fn calls_without_a_proof_are_limited_by_address() {
    let mut config = config();
    config.limits.ip_calls_per_minute = 1;
    config.limits.ip_burst = 3;
    let (registry, alice) = (start(config).await, someone("alice", 1));
    let path = "/network/team/peer/alice";
    for _ in 0..3 {
        registry.get(path).await.ok();
    }
    registry.get(path).await.is(429, "rate_limited");
    registry.proved(&alice, Method::GET, path, &Value::Null).await.ok();
    assert_eq!(registry.get("/health").await.status, 200, "probes are never refused");
}

#[tokio::test]
async fn a_proxys_word_is_taken_only_if_it_is_trusted() {
    for trusted in [false, true] {
        let mut config = config();
        config.limits.ip_calls_per_minute = 1;
        config.limits.ip_burst = 1;
        config.trust_proxy = trusted;
        let registry = start(config).await;
        let mut taken = 0;
        for n in 0..5 {
            let from = format!("203.0.113.9, 198.51.100.{n}");
            let answer = registry.get_with("/network/team/peer/alice", "x-forwarded-for", &from).await;
            taken += usize::from(answer.status == 200);
        }
        assert_eq!(taken, if trusted { 5 } else { 1 });
    }
}

#[tokio::test]
async fn failed_proofs_of_an_address_are_limited() {
    let mut config = config();
    config.limits.failed_auths_per_minute = 5;
    let (registry, alice) = (start(config).await, someone("alice", 1));
    let path = "/network/team/active-peers";
    for _ in 0..5 {
        let wrong = alice.prove_at("POST", &registry.url(path), "nonce", NOW);
        registry.with_proof(&wrong, Method::GET, path, &Value::Null).await.is(401, "invalid_dpop_proof");
    }
    registry.proved(&alice, Method::GET, path, &Value::Null).await.is(429, "rate_limited");
    registry.get(path).await.ok();
}

#[tokio::test]
async fn connections_are_bounded_and_a_silent_one_gives_way() {
    let mut config = config();
    config.limits.connections = 2;
    config.times.idle = Duration::from_millis(300);
    let registry = start(config).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(registry.running.addr()).await.unwrap();
        stream.write_all(b"GET /health HT").await.unwrap();
        silent.push(stream);
    }
    // The third waits until one of the two has been given up.
    let answer = tokio::time::timeout(Duration::from_secs(20), registry.get("/health")).await.unwrap();
    assert_eq!(answer.status, 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn broken_requests_do_not_harm_the_next() {
    let registry = registry().await;
    for garbage in [
        &b"\0\0\0\0"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /network/team/announce HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(registry.running.addr()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    registry.get("/network/team/active-peers").await.ok();
}
