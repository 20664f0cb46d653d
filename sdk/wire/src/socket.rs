//! The frames of the signalling socket, which a registry or a member's listener serves.

use bytes::Bytes;
use byway_api::{PeerId, Proof};
use prost::Message as _;

use crate::error::at_most;
use crate::fields::message;
use crate::proto::socket_frame::Body;
use crate::{WireError, limits, peek, proto};

/// One binary WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketFrame {
    /// The server's first message.
    Challenge {
        /// What the proof must repeat; at most [`limits::NAME_MAX`] bytes.
        nonce: String,
        /// What the proof's `htu` must be; at most [`limits::NAME_MAX`] bytes.
        target: String,
    },
    /// The client's answer.
    Auth(Proof),
    /// Hand this over to a device that is attached here.
    Send {
        /// The device; the envelope names the same.
        to: PeerId,
        /// The envelope, at most [`limits::ENVELOPE_MAX`] bytes.
        envelope: Bytes,
        /// Repeated in the status.
        seq: u64,
    },
    /// An envelope for the receiver.
    From {
        /// The device that sent it, as the server authenticated it.
        from: PeerId,
        /// The envelope, at most [`limits::ENVELOPE_MAX`] bytes.
        envelope: Bytes,
    },
    /// What became of a `Send`.
    Status {
        /// Its device.
        to: PeerId,
        /// What became of it.
        status: SocketStatus,
        /// Its number.
        seq: u64,
    },
    /// A hint: be a coordinator.
    Appoint,
    /// The server ends the socket, or refuses one frame.
    Error {
        /// Why.
        code: SocketErrorCode,
        /// Why, for people; cut to [`limits::TEXT_MAX`] bytes.
        text: String,
    },
    /// Something of a newer version: ignore it.
    Unknown,
}

/// What became of a [`SocketFrame::Send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketStatus {
    /// It is in the queue of the device's socket.
    Ok,
    /// The device is not attached here.
    NoSuchPeer,
    /// The queue of the device's socket is full, or the sender is too fast.
    Busy,
}

/// Why a server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketErrorCode {
    /// The proof or the credential is not good.
    Unauthorized,
    /// Too many frames.
    RateLimited,
    /// A frame is too large.
    TooLarge,
    /// A frame that is none, or out of turn.
    Protocol,
    /// No room for another socket.
    Full,
    /// A newer socket of the same device took over.
    Superseded,
    /// The server stops.
    ShuttingDown,
    /// A reason of a newer version.
    Other,
}

const WHAT: &str = "socket frame";

impl SocketFrame {
    /// The bytes of one WebSocket message. [`SocketFrame::Unknown`] has none.
    pub fn encode(&self) -> Bytes {
        let peer = |peer: &PeerId| Bytes::copy_from_slice(peer.as_bytes());
        let body = match self {
            Self::Challenge { nonce, target } => {
                Body::Challenge(proto::SocketChallenge { nonce: nonce.clone(), target: target.clone() })
            }
            Self::Auth(proof) => {
                Body::Auth(proto::SocketAuth { credential: proof.credential.clone(), proof: proof.proof.clone() })
            }
            Self::Send { to, envelope, seq } => {
                Body::Send(proto::SocketSend { to_peer: peer(to), envelope: envelope.clone(), seq: *seq })
            }
            Self::From { from, envelope } => {
                Body::From(proto::SocketFrom { from_peer: peer(from), envelope: envelope.clone() })
            }
            Self::Status { to, status, seq } => {
                Body::Status(proto::SocketStatus { to_peer: peer(to), status: status.to_proto().into(), seq: *seq })
            }
            Self::Appoint => Body::Appoint(proto::SocketAppoint {}),
            Self::Error { code, text } => {
                Body::Error(proto::SocketError { code: code.to_proto().into(), text: limits::cut_text(text) })
            }
            Self::Unknown => return Bytes::new(),
        };
        proto::SocketFrame { body: Some(body) }.encode_to_vec().into()
    }

    /// Reads one WebSocket message. Envelopes are slices of it.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Malformed`], or [`WireError::WrongRecipient`] for an
    /// envelope that names another device than its `Send`.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        at_most(WHAT, limits::SOCKET_FRAME_MAX, bytes.len())?;
        let peer = |key: &Bytes| PeerId::from_slice(key).map_err(WireError::id(WHAT));
        let Some(body) = message::<proto::SocketFrame>(WHAT, bytes)?.body else { return Ok(Self::Unknown) };
        Ok(match body {
            Body::Challenge(proto::SocketChallenge { nonce, target }) => {
                at_most("nonce", limits::NAME_MAX, nonce.len())?;
                at_most("target", limits::NAME_MAX, target.len())?;
                Self::Challenge { nonce, target }
            }
            Body::Auth(proto::SocketAuth { credential, proof }) => {
                at_most("credential", limits::CREDENTIAL_MAX, credential.len())?;
                at_most("proof", limits::PROOF_MAX, proof.len())?;
                Self::Auth(Proof { credential, proof })
            }
            Body::Send(proto::SocketSend { to_peer, envelope, seq }) => {
                let to = peer(&to_peer)?;
                if peek(&envelope)?.to != to {
                    return Err(WireError::WrongRecipient);
                }
                Self::Send { to, envelope, seq }
            }
            Body::From(proto::SocketFrom { from_peer, envelope }) => {
                peek(&envelope)?;
                Self::From { from: peer(&from_peer)?, envelope }
            }
            Body::Status(status) => match SocketStatus::from_proto(status.status()) {
                Some(known) => Self::Status { to: peer(&status.to_peer)?, status: known, seq: status.seq },
                None => Self::Unknown,
            },
            Body::Appoint(_) => Self::Appoint,
            Body::Error(error) => {
                Self::Error { code: SocketErrorCode::from_proto(error.code()), text: limits::cut_text(&error.text) }
            }
        })
    }
}

impl SocketStatus {
    const fn to_proto(self) -> proto::socket_status::Status {
        match self {
            Self::Ok => proto::socket_status::Status::Ok,
            Self::NoSuchPeer => proto::socket_status::Status::NoSuchPeer,
            Self::Busy => proto::socket_status::Status::Busy,
        }
    }

    const fn from_proto(status: proto::socket_status::Status) -> Option<Self> {
        match status {
            proto::socket_status::Status::Ok => Some(Self::Ok),
            proto::socket_status::Status::NoSuchPeer => Some(Self::NoSuchPeer),
            proto::socket_status::Status::Busy => Some(Self::Busy),
            proto::socket_status::Status::Unspecified => None,
        }
    }
}

impl SocketErrorCode {
    const fn to_proto(self) -> proto::socket_error::Code {
        use proto::socket_error::Code;
        match self {
            Self::Unauthorized => Code::Unauthorized,
            Self::RateLimited => Code::RateLimited,
            Self::TooLarge => Code::TooLarge,
            Self::Protocol => Code::Protocol,
            Self::Full => Code::Full,
            Self::Superseded => Code::Superseded,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::Other => Code::Unspecified,
        }
    }

    const fn from_proto(code: proto::socket_error::Code) -> Self {
        use proto::socket_error::Code;
        match code {
            Code::Unauthorized => Self::Unauthorized,
            Code::RateLimited => Self::RateLimited,
            Code::TooLarge => Self::TooLarge,
            Code::Protocol => Self::Protocol,
            Code::Full => Self::Full,
            Code::Superseded => Self::Superseded,
            Code::ShuttingDown => Self::ShuttingDown,
            Code::Unspecified => Self::Other,
        }
    }
}
