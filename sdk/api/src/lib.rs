//! What a Byway plugin depends on: the traits, the types they exchange and their errors.
//!
//! Byway finds and messages the members of a network *by way of* the members already connected.
//! Five kinds of plugin carry that out, each behind one trait:
//!
//! | trait | what it does | read first |
//! |---|---|---|
//! | [`Transport`] | opens authenticated-later, frame-oriented channels to other devices | `byway-transport-memory` |
//! | [`RouteStore`] | keeps routes, the outbox, the inbox and their marks | `byway-store-memory` |
//! | [`DiscoveryStep`] | finds routes to a user | the steps in `byway-discovery` |
//! | [`Signaling`] | carries sealed handshake blobs to a device that is not connected yet | the socket carrier in `byway-discovery` |
//! | [`Relay`] | forwards sealed messages of members that cannot connect to each other | `PeerRelay` in `byway` |
//!
//! Two more are about identity: [`Membership`] says what a credential proves, [`KeyStore`] keeps the
//! device's secrets.
//!
//! The rules that hold for all of them:
//!
//! * Plugins are *lent* a narrow view for the time of a call and never the node.
//! * Plugins return values and are awaited; there are no callbacks.
//! * Dropping a future aborts what it did; each method says what that means.
//! * Every error has a kind, the plugin's name, its source and advice whether to retry.
//!
//! This crate uses no runtime: no tokio, no clock, no threads. It builds for `wasm32`, where the
//! futures of the traits need not be `Send`.

mod address;
mod discovery;
mod error;
mod ids;
mod keys;
mod membership;
mod relay;
mod signaling;
mod store;
mod time;
mod transport;

pub use address::{AddressError, SignalAddress};
pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use discovery::{Announcement, Cost, DiscoveryStep, Lookup, Meter, Neighbour, Query, Route, Sightings};
pub use error::{
    KeyError, KeyErrorKind, MembershipError, MembershipErrorKind, RelayError, RelayErrorKind, Retry, SignalError,
    SignalErrorKind, StepError, StepErrorKind, StoreError, StoreErrorKind, TransportError, TransportErrorKind,
};
pub use ids::{EnvelopeId, IdError, Instance, MessageId, NetworkId, PeerId, UserId};
pub use keys::{KeyStore, Keys, SealSeed, Secret};
pub use membership::{Member, Membership, Trust};
pub use relay::{Carrier, Handoff, Held, Relay, StoredUntil};
pub use signaling::{
    Carried, Proof, Prover, Sealed, Signal, SignalContext, SignalIn, SignalKind, SignalPort, Signaling,
};
pub use store::{
    Applied, ConnectionRow, Durability, InboxRow, InboxState, Key, Load, OutboxRow, OutboxState, PinRow, RecordRow,
    RouteRow, RouteStore, Row, SeenRow, Write,
};
pub use time::WallTime;
pub use transport::{
    BindContext, BindingKind, ChannelBinding, CloseCode, Connection, Endpoint, Incoming, PathInfo, PathKind, Received,
    Security, Transport, TransportCaps,
};
