//! The bytes of Byway: what devices sign, seal and say to each other.
//!
//! Everything from outside becomes a typed value here or is refused here: [`decode`] and [`Handshake`]
//! for links, [`VerifiedRecord`], [`open`] for envelopes, [`SocketFrame`] for the signalling socket,
//! [`OpenMembership`] and [`check_proof`] for credentials. What is too much stands in [`limits`].
//!
//! There is no IO, no clock, no randomness and no state in this crate: time and random bytes are
//! arguments. It builds for `wasm32`. The protocol is described in `sdk/docs/protocol.md`.

mod batch;
mod beacon;
mod content;
mod decode;
mod digest;
mod direct;
mod encode;
mod envelope;
mod error;
mod fields;
mod frame;
mod hello;
mod identity;
mod jws;
mod proof;
mod record;
mod seal;
mod socket;
mod state;
mod token;

pub mod base64url;
pub mod limits;

/// The protobuf messages of `proto/byway/v1`, as generated. They are bytes with names: nothing in
/// them is checked.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod proto {
    include!("gen/byway.v1.rs");
}

pub use batch::Batch;
pub use beacon::Beacon;
pub use content::{Body, Content, Receipt, ReceiptKind};
pub use decode::{DecodeContext, Decoded, decode};
pub use envelope::{EnvelopeHead, envelope_id, peek};
pub use error::WireError;
pub use frame::{
    Direct, Frame, Goodbye, Lane, NetworkState, PeerFound, PeerQuery, Presence, Receipts, Relay, RelayAck, RelayStatus,
};
pub use hello::{Handshake, HelloConfig, HelloError, HelloStep, PeerHello, RejectCode, Role, reject};
pub use identity::{DeviceKey, Domain, thumbprint, verify};
pub use proof::{check_proof, make_proof};
pub use record::{RecordDraft, SealPublic, VerifiedRecord, claimed_user};
pub use seal::{Opened, SealSecret, open, seal};
pub use socket::{SocketErrorCode, SocketFrame, SocketStatus};
pub use state::state_digest;
pub use token::{OpenMembership, issue_self_token};
