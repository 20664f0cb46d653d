//! The rival: one data channel of the same transport, without a node above it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use byway::WebRtc;
use byway::api::{
    BindContext, Bytes, CloseCode, Connection, Endpoint, Incoming, MessageId, NetworkId, PeerId, Received, Transport,
    WallTime,
};
use byway_testkit::signals::{Switchboard, switchboard};
use byway_wire::{Batch, Direct, Frame, limits};

use crate::Failure;
use crate::world;

/// Two endpoints and an open channel.
pub(crate) struct Raw {
    endpoints: [Arc<dyn Endpoint>; 2],
    pub(crate) here: Arc<dyn Connection>,
    pub(crate) there: Arc<dyn Connection>,
}

impl Raw {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let board = switchboard();
        let transport = world::loopback();
        let (one, two) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
        let a = bind(&transport, &board, one).await?;
        let b = bind(&transport, &board, two).await?;
        let accept = async {
            loop {
                match b.next().await {
                    Some(Incoming::Connection(connection)) => return Ok::<_, Failure>(connection),
                    Some(_) => {}
                    None => return Err("the endpoint has closed".into()),
                }
            }
        };
        let dial = async { Ok(a.dial(two, &Switchboard::address(two)).await?) };
        let (here, there) = tokio::try_join!(dial, accept)?;
        Ok(Self { endpoints: [a, b], here, there })
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.here.close(CloseCode::NORMAL).await;
        for endpoint in self.endpoints {
            endpoint.close().await;
        }
    }

    /// Sends and waits for the echo, so many times. The echo runs in a task of its own.
    pub(crate) async fn echo(&self, body: &Bytes, times: usize) -> Result<Vec<Duration>, Failure> {
        let there = Arc::clone(&self.there);
        let echo = tokio::spawn(async move {
            for _ in 0..times {
                let Received::Frame(frame) = there.recv().await? else { return Err("the channel has closed".into()) };
                there.send(frame).await?;
            }
            Ok::<_, Failure>(())
        });
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            self.here.send(body.clone()).await?;
            let Received::Frame(_) = self.here.recv().await? else { return Err("the channel has closed".into()) };
            took.push(start.elapsed());
        }
        echo.await??;
        Ok(took)
    }

    /// Messages a second, one way, in full frames of the node's own format, each message encoded.
    pub(crate) async fn coalesced(&self, body: &Bytes, messages: usize) -> Result<f64, Failure> {
        let mut batch = Batch::new(limits::FRAME_MAX);
        let mut seq = 0;
        while batch.push(&direct(body, seq)) {
            seq += 1;
        }
        let per_frame = seq as usize;
        drop(batch.take());
        let mut batch = Batch::new(limits::FRAME_MAX);
        let fill = move || {
            let first = seq;
            seq += per_frame as u64;
            let fits = (first..seq).all(|seq| batch.push(&direct(body, seq)));
            debug_assert!(fits, "the frames before were as long");
            batch.take()
        };
        self.flood(messages, per_frame, fill).await
    }

    /// Messages a second, one way, packed back to back: not even a length with them.
    pub(crate) async fn packed(&self, body: &Bytes, messages: usize) -> Result<f64, Failure> {
        let per_frame = limits::FRAME_MAX / body.len();
        let frame: Bytes = body.repeat(per_frame).into();
        self.flood(messages, per_frame, move || frame.clone()).await
    }

    async fn flood(&self, messages: usize, per_frame: usize, mut fill: impl FnMut() -> Bytes) -> Result<f64, Failure> {
        let frames = messages.div_ceil(per_frame);
        let there = Arc::clone(&self.there);
        let start = Instant::now();
        let sink = tokio::spawn(async move {
            for _ in 0..frames {
                let Received::Frame(_) = there.recv().await? else { return Err("the channel has closed".into()) };
            }
            Ok::<_, Failure>(())
        });
        for _ in 0..frames {
            self.here.send(fill()).await?;
        }
        sink.await??;
        Ok((frames * per_frame) as f64 / start.elapsed().as_secs_f64())
    }
}

async fn bind(transport: &WebRtc, board: &Switchboard, me: PeerId) -> Result<Arc<dyn Endpoint>, Failure> {
    let context = BindContext::new(me, NetworkId::new("figures")?).with_signals(board.port(me, transport.name()));
    Ok(transport.bind(context).await?)
}

/// What a node writes for a message, numbers of usual length in it.
fn direct(body: &Bytes, seq: u64) -> Frame {
    const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);
    Frame::Direct(Direct {
        message: MessageId::from_bytes([7; 16]),
        epoch: u64::MAX >> 1,
        seq: 100_000 + seq,
        floor: 100_000,
        sent_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(7 * 24 * 60 * 60)),
        reply_to: None,
        body: body.clone(),
    })
}
