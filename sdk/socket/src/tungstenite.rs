//! tungstenite's WebSocket as a [`Socket`].

use std::future::ready;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::{Packet, Socket};
use byway_wire::limits;

/// Buffer sizes that suit many idle sockets: with the defaults one costs 140 KB, with these 14 KB.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * limits::SOCKET_FRAME_MAX)
        .max_message_size(Some(limits::SOCKET_FRAME_MAX))
        .max_frame_size(Some(limits::SOCKET_FRAME_MAX))
}

/// Runs a hub's or a client's socket over a WebSocket whose handshake is done.
pub fn over_websocket<S>(websocket: WebSocketStream<S>) -> impl Socket<Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    websocket
        .filter_map(|message| {
            ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(Packet::Frame(bytes))),
                Ok(Message::Text(text)) => Some(Ok(Packet::Frame(text.into()))),
                Ok(Message::Ping(_)) => Some(Ok(Packet::Ping)),
                Ok(Message::Pong(_)) => Some(Ok(Packet::Pong)),
                Ok(Message::Close(_) | Message::Frame(_)) => None,
                Err(error) => Some(Err(error)),
            })
        })
        .with(|packet| {
            ready(Ok::<_, Error>(match packet {
                Packet::Frame(bytes) => Message::Binary(bytes),
                Packet::Ping => Message::Ping(bytes::Bytes::new()),
                Packet::Pong => Message::Pong(bytes::Bytes::new()),
                Packet::Close(code) => {
                    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static("") }))
                }
            }))
        })
}
