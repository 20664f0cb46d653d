//! What goes through neighbours: sealing it, and running the relay plugin that hands it over.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use byway_api::{Carrier, Handoff, MessageId, PeerId, RelayError, RelayErrorKind, Sealed, WallTime, async_trait};
use byway_core::io::{AskError, Letter, SealFailure};
use byway_wire::{Body, Content, Receipt, RelayStatus, SealPublic, VerifiedRecord, limits, seal};

use super::ops::Ended;
use super::runtime::{random, timeout};
use super::shared::{Notice, Shared};

const NODE: &str = "node";

/// The newest seal key of a device that is good now.
pub(super) fn seal_key(to: &VerifiedRecord, now: WallTime) -> Option<&SealPublic> {
    to.seal_keys().iter().filter(|key| key.not_after > now).max_by_key(|key| key.not_after)
}

/// Signs a letter and seals it.
pub(super) fn seal_letter(shared: &Shared, to: &VerifiedRecord, letter: Letter, introduce: bool) -> Ended {
    Ended::Sealed(sealed(shared, to, letter, introduce))
}

fn sealed(shared: &Shared, to: &VerifiedRecord, letter: Letter, introduce: bool) -> Result<Sealed, SealFailure> {
    let now = shared.runtime.now().wall;
    let key = seal_key(to, now).ok_or(SealFailure::NoKey)?;
    let randomness = || random::<32>().map_err(|_| SealFailure::Other);
    let me = shared.identity.me();
    let content = Content {
        network: me.network,
        message: MessageId::from_bytes([0; 16]),
        from_user: me.user,
        from_peer: me.peer,
        to_user: to.user().clone(),
        to_peer: to.peer(),
        sent_at: now,
        expires_at: now.plus(limits::SIGNAL_LIFE),
        reply_to: None,
        body: Body::App(bytes::Bytes::new()),
        sender_record: introduce.then(|| me.record.bytes().clone()),
        seq: 0,
        epoch: 0,
        floor: 0,
    };
    let content = match letter {
        Letter::Message(direct) => Content {
            message: direct.message,
            sent_at: direct.sent_at,
            expires_at: direct.expires_at,
            reply_to: direct.reply_to,
            body: Body::App(direct.body),
            seq: direct.seq,
            epoch: direct.epoch,
            floor: direct.floor,
            ..content
        },
        Letter::Receipts(receipts) => Content {
            message: MessageId::from_bytes(random().map_err(|_| SealFailure::Other)?),
            body: Body::Receipt(Receipt { kind: receipts.kind, messages: receipts.messages, at: receipts.at }),
            ..content
        },
    };
    seal(&content, shared.identity.key(), to.peer(), key, content.expires_at, randomness()?).map_err(|error| {
        tracing::warn!(target: "byway::relay", to = %to.peer().short(), %error, "a letter could not be sealed");
        SealFailure::Other
    })
}

/// Hands an envelope to a neighbour, as the plugin does it.
pub(super) async fn relay(shared: Arc<Shared>, hop: PeerId, mail: Sealed) -> Ended {
    let hands = Hands { shared: &shared };
    let handed = timeout(shared.settings.answer_wait, shared.relay.forward(&hands, hop, mail)).await;
    Ended::Relayed(match handed {
        Some(Ok(handoff)) => Ok(handoff),
        Some(Err(error)) => {
            tracing::debug!(target: "byway::relay", hop = %hop.short(), %error, "not passed on");
            Err(error.kind())
        }
        None => Err(RelayErrorKind::Timeout),
    })
}

/// Whether the plugin's policy admits an envelope of a neighbour for another one.
pub(super) fn admits(shared: &Shared, from: PeerId, mail: &Sealed) -> bool {
    match catch_unwind(AssertUnwindSafe(|| shared.relay.admit(from, mail))) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(target: "byway::relay", from = %from.short(), %error, "not admitted");
            false
        }
        Err(_) => {
            tracing::error!(target: "byway::relay", plugin = shared.relay.name(), "a plugin panicked");
            false
        }
    }
}

/// Lent to the relay plugin for one call.
struct Hands<'a> {
    shared: &'a Shared,
}

impl fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hands(..)")
    }
}

#[async_trait]
impl Carrier for Hands<'_> {
    async fn hand_over(&self, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        let kind = match self.shared.ask(|reply| Notice::Forward { hop, mail, reply }).await {
            Some(Ok(RelayStatus::Forwarded)) => return Ok(Handoff::Forwarded),
            Some(Ok(RelayStatus::NotConnected)) => RelayErrorKind::NotConnected,
            Some(Ok(RelayStatus::Quota)) => RelayErrorKind::Quota,
            Some(Ok(RelayStatus::TooLarge)) => RelayErrorKind::TooLarge,
            Some(Ok(RelayStatus::Refused)) => RelayErrorKind::Refused,
            Some(Ok(_)) => RelayErrorKind::Other,
            Some(Err(AskError::NotConnected)) => RelayErrorKind::NotNeighbour,
            Some(Err(AskError::Busy)) => RelayErrorKind::Busy,
            Some(Err(_)) => RelayErrorKind::Timeout,
            None => RelayErrorKind::Closed,
        };
        Err(RelayError::new(kind, NODE, format!("handing an envelope to {}", hop.short())))
    }
}
