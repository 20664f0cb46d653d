//! What is measured.

use std::sync::Arc;
use std::time::Instant;

use byway_api::{Bytes, CloseCode, Connection, Endpoint, Incoming, PeerId, Received, Transport};
use byway_transport_webrtc::{WebRtc, WebRtcEndpoint};

use crate::signals::{Exchange, address, peer};

/// Two bound endpoints. The first dials.
pub(crate) struct Lab {
    near: Arc<dyn Endpoint>,
    far: Arc<dyn Endpoint>,
}

/// Percentiles in milliseconds.
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        Self { p50: at(0.5), p95: at(0.95) }
    }
}

type Ends = (Arc<dyn Connection>, Arc<dyn Connection>);

impl Lab {
    pub(crate) async fn bind(near: &dyn Transport, far: &dyn Transport) -> Self {
        let exchange = Exchange::default();
        Self {
            near: near.bind(exchange.context(peer(1))).await.unwrap(),
            far: far.bind(exchange.context(peer(2))).await.unwrap(),
        }
    }

    async fn connect(&self) -> Ends {
        connect(&*self.near, &*self.far, peer(2)).await
    }

    /// Time from `dial` until both sides have the open connection.
    pub(crate) async fn connects(&self, count: usize) -> Times {
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            let (near, far) = self.connect().await;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            hang_up(&near, &far).await;
        }
        Times::of(times)
    }

    /// 100 bytes there and back.
    pub(crate) async fn round_trips(&self, count: usize) -> Times {
        let (near, far) = self.connect().await;
        let echo = tokio::spawn({
            let far = Arc::clone(&far);
            async move {
                while let Ok(Received::Frame(frame)) = far.recv().await {
                    if far.send(frame).await.is_err() {
                        break;
                    }
                }
            }
        });
        let payload = Bytes::from(vec![7; 100]);
        let warm = count.min(200) / 10;
        let mut times = Vec::new();
        for round in 0..warm + count {
            let start = Instant::now();
            near.send(payload.clone()).await.unwrap();
            assert_eq!(frame(&*near).await, payload);
            if round >= warm {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        near.close(CloseCode::NORMAL).await;
        echo.await.unwrap();
        Times::of(times)
    }

    /// Frames one way, in MB/s.
    pub(crate) async fn throughput(&self, size: usize, count: usize) -> f64 {
        let (near, far) = self.connect().await;
        let start = Instant::now();
        let reader = tokio::spawn({
            let far = Arc::clone(&far);
            async move {
                for _ in 0..count {
                    assert_eq!(frame(&*far).await.len(), size);
                }
                Instant::now()
            }
        });
        // the transport owns each frame's buffer, as it does in the product
        for _ in 0..count {
            near.send(Bytes::from(vec![7; size])).await.unwrap();
        }
        let elapsed = reader.await.unwrap().duration_since(start).as_secs_f64();
        hang_up(&near, &far).await;
        (size * count) as f64 / elapsed / 1e6
    }

    /// Both sides speak the moment they have the connection.
    pub(crate) async fn early_messages_lost(&self, connects: usize) -> usize {
        const EACH: u8 = 3;
        let mut lost = 0;
        for _ in 0..connects {
            let (near, far) = self.connect().await;
            let speak = |connection: Arc<dyn Connection>| async move {
                for n in 0..EACH {
                    connection.send(Bytes::from(vec![n; 50])).await.unwrap();
                }
                let mut got = 0;
                while got < usize::from(EACH) {
                    let next = tokio::time::timeout(std::time::Duration::from_secs(2), connection.recv()).await;
                    if !matches!(next, Ok(Ok(Received::Frame(_)))) {
                        break;
                    }
                    got += 1;
                }
                usize::from(EACH) - got
            };
            let (a, b) = tokio::join!(speak(Arc::clone(&near)), speak(Arc::clone(&far)));
            lost += a + b;
            hang_up(&near, &far).await;
        }
        lost
    }

    pub(crate) async fn close(self) {
        tokio::join!(self.near.close(), self.far.close());
    }
}

/// Connects and closes; then the entries left in the tables of both endpoints, and the sockets of one.
pub(crate) async fn left_after_connects(transport: &WebRtc, count: usize) -> (usize, usize) {
    let exchange = Exchange::default();
    let near = transport.open(exchange.context(peer(1))).await.unwrap();
    let far = transport.open(exchange.context(peer(2))).await.unwrap();
    for _ in 0..count {
        let (here, there) = connect(&near, &far, peer(2)).await;
        hang_up(&here, &there).await;
    }
    let left = [near.stats(), far.stats()].map(|stats| {
        stats.connections
            + stats.attempts
            + stats.sessions
            + stats.ufrags
            + stats.transactions
            + stats.remotes
            + stats.timers
            + stats.accept_queue
    });
    let sockets = near.stats().sockets;
    tokio::join!(near.close(), far.close());
    let after = [near.stats(), far.stats()].map(|stats| stats.sockets + stats.tasks);
    (left.iter().chain(&after).sum(), sockets)
}

/// So many devices connect to one endpoint at once and are all heard; how many were, on its one socket.
pub(crate) async fn peers_on_one_socket(transport: &WebRtc, count: u32) -> usize {
    let exchange = Exchange::default();
    let center: WebRtcEndpoint = transport.open(exchange.context(peer(1))).await.unwrap();
    let mut dials = Vec::new();
    for n in 0..count {
        let (exchange, transport) = (exchange.clone(), transport.clone());
        dials.push(tokio::spawn(async move {
            let endpoint = transport.open(exchange.context(peer(100 + n))).await.unwrap();
            let connection = endpoint.dial(peer(1), &address(peer(1))).await.unwrap();
            connection.send(Bytes::from_static(b"here")).await.unwrap();
            (endpoint, connection)
        }));
    }
    let mut accepted = Vec::new();
    for _ in 0..count {
        let connection = accept(&center).await;
        assert_eq!(frame(&*connection).await, "here");
        accepted.push(connection);
    }
    let stats = center.stats();
    center.close().await;
    for dial in dials {
        let (endpoint, _) = dial.await.unwrap();
        endpoint.close().await;
    }
    if stats.sockets == 1 { stats.connections } else { 0 }
}

async fn connect(near: &dyn Endpoint, far: &dyn Endpoint, to: PeerId) -> Ends {
    let at = address(to);
    let (dialled, accepted) = tokio::join!(near.dial(to, &at), accept(far));
    (dialled.unwrap(), accepted)
}

async fn accept(endpoint: &dyn Endpoint) -> Arc<dyn Connection> {
    loop {
        if let Incoming::Connection(connection) = endpoint.next().await.unwrap() {
            return connection;
        }
    }
}

async fn frame(connection: &dyn Connection) -> Bytes {
    match connection.recv().await.unwrap() {
        Received::Frame(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}

/// Closes one end and waits until the other has heard it.
async fn hang_up(near: &Arc<dyn Connection>, far: &Arc<dyn Connection>) {
    let heard = async { while matches!(far.recv().await, Ok(Received::Frame(_))) {} };
    tokio::join!(near.close(CloseCode::NORMAL), heard);
}
