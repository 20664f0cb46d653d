//! An open connection, as the node sees it.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use byway_api::{
    BindingKind, ChannelBinding, CloseCode, Connection, PathInfo, PeerId, Received, TransportError, TransportErrorKind,
};

use crate::drain::FRAME_OVERHEAD;
use crate::peer::{Peer, Phase};
use crate::sync::lock;

/// Dropping it closes with `LOST`.
#[derive(Debug)]
pub(crate) struct WebRtcConnection {
    peer: Arc<Peer>,
}

/// What became of a frame.
enum Sent {
    Done,
    /// The window is full.
    Wait(Bytes),
}

impl WebRtcConnection {
    pub(crate) const fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }

    fn closed() -> TransportError {
        crate::error(TransportErrorKind::Closed, "")
    }

    fn try_send(&self, frame: Bytes) -> Result<Sent, TransportError> {
        let peer = &self.peer;
        let shared = peer.shared.upgrade().ok_or_else(Self::closed)?;
        let now = Instant::now();
        let mut core = lock(&peer.core);
        let live = core.live.as_mut().filter(|live| live.open && live.closing.is_none()).ok_or_else(Self::closed)?;
        let outstanding = live.outstanding();
        live.window.acknowledged(outstanding);
        if !live.window.admits(frame.len()) {
            live.writer_waits = true;
            return Ok(Sent::Wait(frame));
        }
        let len = frame.len();
        let mut channel = live.channel.and_then(|id| live.pc.data_channel(id)).ok_or_else(Self::closed)?;
        // the stack wants to own the buffer; nothing is copied if nobody else holds it
        let frame = frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        channel.send(now, frame).map_err(|e| Self::closed().with_source(e))?;
        let idle = live.window.is_empty();
        live.window.sent(len);
        live.last_traffic = now;
        let mark = !idle && !std::mem::replace(&mut live.dirty, true);
        drop(core);
        if idle {
            // nothing is on its way: the packet leaves from here
            peer.drain(&shared, now);
        } else if mark {
            // under load the endpoint's task bundles
            shared.mark_dirty(peer);
        }
        Ok(Sent::Done)
    }
}

#[async_trait]
impl Connection for WebRtcConnection {
    /// `None`: DTLS proves the certificate, and that the device vouches for it is the node's to check.
    fn peer(&self) -> Option<PeerId> {
        None
    }

    fn binding(&self) -> ChannelBinding {
        ChannelBinding::new(BindingKind::DtlsCertificates, lock(&self.peer.core).binding.clone())
    }

    fn path(&self) -> PathInfo {
        lock(&self.peer.core).path.clone()
    }

    async fn send(&self, mut frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > crate::MAX_FRAME {
            let detail = format!("{} bytes, at most {} are carried", frame.len(), crate::MAX_FRAME);
            return Err(crate::error(TransportErrorKind::TooLarge, detail));
        }
        // a writer that never has to wait must not keep the endpoint's task from running
        tokio::task::coop::consume_budget().await;
        loop {
            frame = match self.try_send(frame)? {
                Sent::Done => return Ok(()),
                Sent::Wait(frame) => frame,
            };
            self.peer.writable.notified().await;
        }
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        tokio::task::coop::consume_budget().await;
        loop {
            {
                let mut core = lock(&self.peer.core);
                if let Some(frame) = core.inbox.pop_front() {
                    core.inbox_bytes -= frame.len() + FRAME_OVERHEAD;
                    let window = self.peer.shared.upgrade().map_or(0, |shared| shared.config.receive_window);
                    let resume = core.stalled && core.inbox_bytes <= window / 2;
                    drop(core);
                    if resume {
                        self.peer.resume();
                    }
                    return Ok(Received::Frame(frame));
                }
                match &core.live {
                    None => return Ok(Received::Closed(core.code)),
                    Some(live) => {
                        if let Some((code, _)) = live.closing {
                            return Ok(Received::Closed(code));
                        }
                    }
                }
            }
            self.peer.readable.notified().await;
        }
    }

    /// Returns when the far side has read everything, or after [`Config::linger`](crate::Config::linger).
    async fn close(&self, code: CloseCode) {
        self.peer.begin_close(code);
        let mut phase = self.peer.phase.subscribe();
        // an error means that the phase can no longer change
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    }
}

impl Drop for WebRtcConnection {
    fn drop(&mut self) {
        self.peer.begin_close(CloseCode::LOST);
    }
}
