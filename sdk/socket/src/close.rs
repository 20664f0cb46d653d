use byway_wire::{SocketErrorCode, SocketFrame};
use thiserror::Error;

/// Why a socket ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Closed {
    /// We closed it.
    #[error("closed by us")]
    Local,
    /// The far side closed it.
    #[error("closed by the other side")]
    Remote,
    /// The connection below broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// Nothing was heard for too long, pings included.
    #[error("the other side has fallen silent")]
    Silent,
    /// No valid answer to the challenge came in time.
    #[error("no answer to the challenge in time")]
    TooLate,
    /// The proof was refused.
    #[error("refused: {0}")]
    Refused(String),
    /// Bytes that are not a frame, or a frame out of place.
    #[error("not a frame of this protocol: {0}")]
    Malformed(String),
    /// A frame beyond the limit.
    #[error("a frame is too large: {0}")]
    TooLarge(String),
    /// More frames than allowed, for too long.
    #[error("too many frames a second")]
    Flood,
    /// It did not read what was sent to it.
    #[error("it does not read what is sent to it")]
    Slow,
    /// The same device has attached with a newer socket.
    #[error("the same device has attached with a newer socket")]
    Replaced,
    /// No place for another socket.
    #[error("no place for another socket")]
    Full,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

impl Closed {
    /// Whether connecting again can help without anything being changed.
    pub const fn is_temporary(&self) -> bool {
        !matches!(self, Self::Local | Self::Refused(_) | Self::Malformed(_) | Self::TooLarge(_) | Self::Replaced)
    }

    /// The last frame that tells the far side, if there is something to tell.
    pub(crate) fn to_frame(&self) -> Option<SocketFrame> {
        let code = match self {
            Self::Local | Self::Remote | Self::Lost(_) | Self::Silent | Self::TooLate => return None,
            Self::Refused(_) => SocketErrorCode::Unauthorized,
            Self::Malformed(_) => SocketErrorCode::Protocol,
            Self::TooLarge(_) => SocketErrorCode::TooLarge,
            Self::Flood => SocketErrorCode::RateLimited,
            Self::Slow | Self::Full => SocketErrorCode::Full,
            Self::Replaced => SocketErrorCode::Superseded,
            Self::Stopping => SocketErrorCode::ShuttingDown,
        };
        let text = match self {
            Self::Refused(text) | Self::Malformed(text) | Self::TooLarge(text) => text.clone(),
            other => other.to_string(),
        };
        Some(SocketFrame::Error { code, text })
    }

    /// What the far side's last frame says.
    pub(crate) fn from_frame(code: SocketErrorCode, text: String) -> Self {
        match code {
            SocketErrorCode::Unauthorized => Self::Refused(text),
            SocketErrorCode::Protocol => Self::Malformed(text),
            SocketErrorCode::TooLarge => Self::TooLarge(text),
            SocketErrorCode::RateLimited => Self::Flood,
            SocketErrorCode::Full => Self::Full,
            SocketErrorCode::Superseded => Self::Replaced,
            SocketErrorCode::ShuttingDown => Self::Stopping,
            _ => Self::Lost(text),
        }
    }

    /// The close code of RFC 6455, section 7.4.
    pub(crate) const fn code(&self) -> u16 {
        match self {
            Self::Local | Self::Remote => 1000,
            Self::Stopping => 1001,
            Self::TooLarge(_) => 1009,
            Self::Slow | Self::Full => 1013,
            _ => 1008,
        }
    }
}
