use std::sync::Arc;

use async_trait::async_trait;
use byway_api::{
    BindingKind, Bytes, ChannelBinding, CloseCode, Connection, PathInfo, PathKind, PeerId, Received, TransportError,
    TransportErrorKind,
};

use crate::MemoryConfig;
use crate::pipe::Pipe;
use crate::switchboard::address;
use crate::transport::error;

/// Which of its two ends holds a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer = 0,
    Answerer = 1,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Answerer,
            Self::Answerer => Self::Dialer,
        }
    }
}

/// Who is at one end of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) peer: PeerId,
    pub(crate) endpoint: u64,
}

/// What both ends of a connection share: a pipe for each direction.
#[derive(Debug)]
pub(crate) struct Channel {
    number: u64,
    ends: [End; 2],
    /// By the side that sends.
    pipes: [Pipe; 2],
    max_frame: usize,
}

impl Channel {
    pub(crate) fn new(number: u64, dialer: End, answerer: End, config: &MemoryConfig) -> Self {
        let pipe = || Pipe::new(config.queued_frames, config.queued_bytes);
        Self { number, ends: [dialer, answerer], pipes: [pipe(), pipe()], max_frame: config.max_frame }
    }

    pub(crate) const fn end(&self, side: Side) -> End {
        self.ends[side as usize]
    }

    pub(crate) fn joins(&self, a: PeerId, b: PeerId) -> bool {
        let [x, y] = self.ends;
        (x.peer, y.peer) == (a, b) || (x.peer, y.peer) == (b, a)
    }

    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.ends.iter().any(|end| end.peer == peer)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pipes.iter().all(Pipe::is_open)
    }

    /// `side` ends the channel: what it sent is still delivered, what was sent to it is not wanted.
    pub(crate) fn close(&self, side: Side, code: CloseCode) {
        self.outgoing(side).end(code);
        self.incoming(side).end(code);
        self.incoming(side).discard();
    }

    /// The channel breaks in the middle: what was on the way is gone.
    pub(crate) fn lose(&self) {
        for pipe in &self.pipes {
            pipe.end(CloseCode::LOST);
            pipe.discard();
        }
    }

    const fn outgoing(&self, side: Side) -> &Pipe {
        &self.pipes[side as usize]
    }

    const fn incoming(&self, side: Side) -> &Pipe {
        &self.pipes[side.other() as usize]
    }
}

/// One end of a [`Channel`]. It is not `Clone`: dropping it is dropping the last handle.
#[derive(Debug)]
pub(crate) struct MemoryConnection {
    channel: Arc<Channel>,
    side: Side,
}

impl MemoryConnection {
    pub(crate) const fn new(channel: Arc<Channel>, side: Side) -> Self {
        Self { channel, side }
    }

    /// The endpoint at the far end, if the connection is still open.
    pub(crate) fn open_from(&self) -> Option<u64> {
        self.channel.is_open().then(|| self.channel.end(self.side.other()).endpoint)
    }
}

#[async_trait]
impl Connection for MemoryConnection {
    fn peer(&self) -> Option<PeerId> {
        Some(self.channel.end(self.side.other()).peer)
    }

    fn binding(&self) -> ChannelBinding {
        ChannelBinding::new(BindingKind::InProcess, self.channel.number.to_be_bytes().to_vec())
    }

    fn path(&self) -> PathInfo {
        let name = |side| address(self.channel.end(side).endpoint).to_string();
        PathInfo::new(PathKind::InProcess, name(self.side), name(self.side.other()))
    }

    async fn send(&self, frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > self.channel.max_frame {
            let detail = format!("{} bytes; at most {} fit", frame.len(), self.channel.max_frame);
            return Err(error(TransportErrorKind::TooLarge, detail));
        }
        let sent = self.channel.outgoing(self.side).push(frame).await;
        sent.map_err(|code| error(TransportErrorKind::Closed, format!("closed with {code:?}")))
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        Ok(self.channel.incoming(self.side).pop().await)
    }

    async fn close(&self, code: CloseCode) {
        self.channel.close(self.side, code);
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.channel.close(self.side, CloseCode::LOST);
    }
}
