#![allow(missing_docs, clippy::all)]
use byway_testkit::delay::*;
use byway_testkit::transport::TransportFixture;
use byway_transport_webrtc::WebRtc;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn t() -> Arc<dyn byway_api::Transport> {
    Arc::new(WebRtc::default().bind("127.0.0.1:0".parse().unwrap()).loopback(true))
}

async fn run(ms: Option<u64>) {
    let d = UdpDelayer::start(DelayConfig::new(Duration::from_millis(ms.unwrap_or(0)))).unwrap();
    let f = TransportFixture::new(if ms.is_some() { Arc::new(Delayed::new(t(), &d)) } else { t() });
    let [pair, _] = f.pairs().await.unwrap();
    let (a, b) = pair.connect().await.unwrap();
    let frame = bytes::Bytes::from(vec![1u8; 16 << 10]);
    for _ in 0..3 {
        let s = Instant::now();
        tokio::join!(
            async {
                for _ in 0..200 {
                    a.send(frame.clone()).await.unwrap();
                }
            },
            async {
                for _ in 0..200 {
                    b.recv().await.unwrap();
                }
            }
        );
        println!("{ms:?} 3.2 MB in {:?} {:?}", s.elapsed(), d.stats());
    }
}
#[tokio::test]
async fn delayed() {
    run(None).await;
    run(Some(0)).await;
    run(Some(1)).await;
    run(Some(10)).await;
    run(Some(25)).await;
}

#[tokio::test]
async fn raw() {
    let d = UdpDelayer::start(DelayConfig::new(Duration::from_millis(25))).unwrap();
    let a = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let b = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let front = d.front(b.local_addr().unwrap()).unwrap();
    let n = 20000;
    let s = Instant::now();
    let w = async {
        for i in 0..n {
            a.send_to(&[0u8; 1200], front).await.unwrap();
            if i % 32 == 31 {
                tokio::task::yield_now().await;
            }
        }
    };
    let r = async {
        let mut buf = [0; 2000];
        let mut got = 0;
        while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(300), b.recv_from(&mut buf)).await {
            got += 1;
        }
        got
    };
    let (_, got) = tokio::join!(w, r);
    println!("raw {got}/{n} in {:?} {:?}", s.elapsed(), d.stats());
}
