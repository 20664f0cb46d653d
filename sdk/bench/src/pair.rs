//! Two endpoints of one transport, without nodes above them, and connections between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_api::{Bytes, CloseCode, Connection, Endpoint, Incoming, PeerId, Received, SignalAddress};
use tokio::task::JoinSet;

use crate::Failure;
use crate::cost::Cost;

/// The messages are its beginning.
pub(crate) static BODY: [u8; 1 << 16] = [7; 1 << 16];

/// About what a node writes at once when it has much to say.
const FULL: usize = 60_000;

/// Two endpoints. The near one dials.
#[derive(Debug)]
pub(crate) struct Endpoints {
    near: Arc<dyn Endpoint>,
    far: Arc<dyn Endpoint>,
    peer: PeerId,
    at: SignalAddress,
}

impl Endpoints {
    /// `far` is the device `peer`, to be dialled at `at`.
    pub(crate) fn new(near: Arc<dyn Endpoint>, far: Arc<dyn Endpoint>, peer: PeerId, at: SignalAddress) -> Self {
        Self { near, far, peer, at }
    }

    /// Returns when both ends have the connection.
    pub(crate) async fn connect(&self) -> Result<Pair, Failure> {
        let accept = async {
            loop {
                match self.far.next().await {
                    Some(Incoming::Connection(connection)) => return Ok::<_, Failure>(connection),
                    Some(_) => {}
                    None => return Err("the endpoint has closed".into()),
                }
            }
        };
        let dial = async { Ok(self.near.dial(self.peer, &self.at).await?) };
        let (near, far) = tokio::try_join!(dial, accept)?;
        Ok(Pair { near, far })
    }

    pub(crate) async fn close(&self) {
        tokio::join!(self.near.close(), self.far.close());
    }
}

/// Two ends of one connection.
#[derive(Debug)]
pub(crate) struct Pair {
    near: Arc<dyn Connection>,
    far: Arc<dyn Connection>,
}

impl Pair {
    /// So many messages from one end to the other, each its own frame.
    pub(crate) async fn flood(&self, size: usize, messages: usize) -> Result<Cost, Failure> {
        // What it costs a program to make a message is no part of this, here as with the rivals.
        let body = Bytes::from_static(&BODY[..size]);
        Cost::of(messages, self.carry(messages, move || body.clone())).await
    }

    /// So many messages from one end to the other, packed into frames as a node packs them: a frame is
    /// filled before it is sent, and taken apart by the receiver.
    pub(crate) async fn packed(&self, size: usize, messages: usize) -> Result<Cost, Failure> {
        let (near, far) = (Arc::clone(&self.near), Arc::clone(&self.far));
        let mut ends = JoinSet::new();
        Cost::of(messages, async {
            ends.spawn(async move {
                let mut seen = 0;
                while seen < messages {
                    seen += unpack(&frame(&*far).await?);
                }
                Ok::<_, Failure>(())
            });
            ends.spawn(async move {
                let mut left = messages;
                while left > 0 {
                    near.send(pack(size, &mut left)).await?;
                }
                Ok(())
            });
            while let Some(ended) = ends.join_next().await {
                ended??;
            }
            Ok(())
        })
        .await
    }

    /// So many frames from one end to the other.
    pub(crate) async fn carry(
        &self,
        frames: usize,
        mut next: impl FnMut() -> Bytes + Send + 'static,
    ) -> Result<(), Failure> {
        let (near, far) = (Arc::clone(&self.near), Arc::clone(&self.far));
        let mut ends = JoinSet::new();
        ends.spawn(async move {
            for _ in 0..frames {
                std::hint::black_box(frame(&*far).await?);
            }
            Ok::<_, Failure>(())
        });
        ends.spawn(async move {
            for _ in 0..frames {
                near.send(next()).await?;
            }
            Ok(())
        });
        while let Some(ended) = ends.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// So many times one message there and back, one after the other.
    pub(crate) async fn round_trips(&self, size: usize, times: usize) -> Result<Vec<Duration>, Failure> {
        let far = Arc::clone(&self.far);
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            for _ in 0..times {
                far.send(frame(&*far).await?).await?;
            }
            Ok::<_, Failure>(())
        });
        let body = Bytes::from_static(&BODY[..size]);
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            self.near.send(body.clone()).await?;
            std::hint::black_box(frame(&*self.near).await?);
            took.push(start.elapsed());
        }
        echo.join_all().await.into_iter().collect::<Result<(), _>>()?;
        Ok(took)
    }

    /// Returns when both ends know that it is over.
    pub(crate) async fn hang_up(self) {
        let heard = async { while matches!(self.far.recv().await, Ok(Received::Frame(_))) {} };
        tokio::join!(self.near.close(CloseCode::NORMAL), heard);
    }
}

/// Fills a frame with messages of `size`, each behind its length, and counts them off.
fn pack(size: usize, left: &mut usize) -> Bytes {
    let mut frame = Vec::with_capacity(FULL);
    while *left > 0 && frame.len() + 4 + size <= FULL {
        frame.extend_from_slice(&(size as u32).to_be_bytes());
        frame.extend_from_slice(&BODY[..size]);
        *left -= 1;
    }
    frame.into()
}

/// Looks at each message where it lies.
fn unpack(frame: &[u8]) -> usize {
    let (mut rest, mut seen) = (frame, 0);
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let Some((message, tail)) = tail.split_at_checked(u32::from_be_bytes(*head) as usize) else { break };
        std::hint::black_box(message);
        (rest, seen) = (tail, seen + 1);
    }
    seen
}

async fn frame(connection: &dyn Connection) -> Result<Bytes, Failure> {
    match connection.recv().await? {
        Received::Frame(frame) => Ok(frame),
        _ => Err("the connection has ended".into()),
    }
}
