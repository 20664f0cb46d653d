use bytes::Bytes;
use futures_core::Stream;
use futures_util::Sink;

/// What travels over a socket below the protocol.
///
/// Over a WebSocket: a binary message, a ping, a pong, a close frame with its code. An adapter hands
/// a text message over as the `Frame` of its bytes, which then does not decode, and need not hand over
/// a received close frame: the end of the stream says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// One binary message: one encoded [`SocketFrame`](byway_wire::SocketFrame).
    Frame(Bytes),
    /// Asks the far side for a `Pong`. Whoever receives one need not answer: the WebSocket below does.
    Ping,
    /// The answer; like every packet, a sign of life.
    Pong,
    /// The last packet of its direction: a close code of RFC 6455.
    Close(u16),
}

/// A stream and sink of packets: what a [`Hub`](crate::Hub) and a [`Client`](crate::Client) run over.
///
/// Implemented for everything that has the shape.
pub trait Socket<E>: Stream<Item = Result<Packet, E>> + Sink<Packet, Error = E> + Send + Unpin {}

impl<S, E> Socket<E> for S where S: Stream<Item = Result<Packet, E>> + Sink<Packet, Error = E> + Send + Unpin {}
