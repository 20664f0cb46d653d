use bytes::Bytes;
use byway_api::{MessageId, NetworkId, PeerId, Signal, SignalKind, UserId, WallTime};

use crate::error::at_most;
use crate::{WireError, limits, proto};

/// What one device sends to another, inside an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The network.
    pub network: NetworkId,
    /// The same on every path and for every device of the recipient.
    pub message: MessageId,
    /// The sending user.
    pub from_user: UserId,
    /// The sending device.
    pub from_peer: PeerId,
    /// The recipient.
    pub to_user: UserId,
    /// The recipient's device.
    pub to_peer: PeerId,
    /// When the app sent it.
    pub sent_at: WallTime,
    /// When it is worth nothing any more; the same as the envelope's.
    pub expires_at: WallTime,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// What it says.
    pub body: Body,
    /// The sender's signed record, for a recipient that may not have it; at most
    /// [`limits::RECORD_MAX`] bytes.
    pub sender_record: Option<Bytes>,
    /// Position towards the recipient's device; 0 in receipts and signals.
    pub seq: u64,
    /// What `seq` counts in.
    pub epoch: u64,
    /// The lowest position not yet delivered or given up.
    pub floor: u64,
}

/// What a [`Content`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// The app's bytes, at most [`limits::BODY_MAX`].
    App(Bytes),
    /// What became of messages.
    Receipt(Receipt),
    /// A handshake blob of a transport.
    Signal(Signal),
}

/// What became of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What.
    pub kind: ReceiptKind,
    /// Of which messages; 1 to [`limits::RECEIPT_IDS`].
    pub messages: Vec<MessageId>,
    /// When.
    pub at: WallTime,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReceiptKind {
    /// On disk at the recipient.
    Delivered,
    /// Shown to the recipient.
    Read,
    /// It could not be opened: seal it again, to a newer key.
    Unreadable,
}

const WHAT: &str = "content";

impl Content {
    /// Refuses what no recipient would take.
    pub(crate) fn check(&self) -> Result<(), WireError> {
        at_most("sender_record", limits::RECORD_MAX, self.sender_record.as_ref().map_or(0, Bytes::len))?;
        match &self.body {
            Body::App(bytes) => at_most("message", limits::BODY_MAX, bytes.len()),
            Body::Receipt(receipt) => check_ids(receipt.messages.len()),
            Body::Signal(signal) => check_signal(signal),
        }
    }

    pub(crate) fn to_proto(&self) -> proto::Content {
        let body = match &self.body {
            Body::App(bytes) => proto::content::Body::App(bytes.clone()),
            Body::Receipt(receipt) => proto::content::Body::Receipt(receipt.to_proto()),
            Body::Signal(signal) => proto::content::Body::Signal(signal_to_proto(signal)),
        };
        proto::Content {
            network_id: self.network.as_str().to_owned(),
            message_id: Bytes::copy_from_slice(self.message.as_bytes()),
            from_user: self.from_user.as_str().to_owned(),
            from_peer: Bytes::copy_from_slice(self.from_peer.as_bytes()),
            to_user: self.to_user.as_str().to_owned(),
            to_peer: Bytes::copy_from_slice(self.to_peer.as_bytes()),
            sent_at: self.sent_at.as_millis(),
            expires_at: self.expires_at.as_millis(),
            reply_to: self.reply_to.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            body: Some(body),
            sender_record: self.sender_record.clone().unwrap_or_default(),
            seq: self.seq,
            padding: Bytes::new(),
            epoch: self.epoch,
            floor: self.floor,
        }
    }

    /// Reads the fields; who signed it and whether they agree is the caller's matter.
    pub(crate) fn from_proto(content: proto::Content, now: WallTime) -> Result<Self, WireError> {
        let id = WireError::id(WHAT);
        let time = |ms| limits::clamp_time(WallTime::from_millis(ms), now);
        let body = match content.body {
            Some(proto::content::Body::App(bytes)) => Body::App(bytes),
            Some(proto::content::Body::Receipt(receipt)) => Body::Receipt(Receipt::from_proto(&receipt, now)?),
            Some(proto::content::Body::Signal(signal)) => Body::Signal(signal_from_proto(signal)?),
            None => return Err(WireError::malformed(WHAT, "no body that this version knows")),
        };
        let content = Self {
            network: NetworkId::new(&content.network_id).map_err(&id)?,
            message: MessageId::from_slice(&content.message_id).map_err(&id)?,
            from_user: UserId::new(&content.from_user).map_err(&id)?,
            from_peer: PeerId::from_slice(&content.from_peer).map_err(&id)?,
            to_user: UserId::new(&content.to_user).map_err(&id)?,
            to_peer: PeerId::from_slice(&content.to_peer).map_err(&id)?,
            sent_at: time(content.sent_at),
            expires_at: time(content.expires_at),
            reply_to: optional_message(WHAT, &content.reply_to)?,
            body,
            sender_record: Some(content.sender_record).filter(|r| !r.is_empty()),
            seq: content.seq,
            epoch: content.epoch,
            floor: content.floor,
        };
        content.check()?;
        Ok(content)
    }
}

impl Receipt {
    pub(crate) fn to_proto(&self) -> proto::Receipt {
        receipt_to_proto(self.kind, &self.messages, self.at)
    }

    pub(crate) fn from_proto(receipt: &proto::Receipt, now: WallTime) -> Result<Self, WireError> {
        let kind = ReceiptKind::from_proto(receipt.kind())
            .ok_or_else(|| WireError::malformed("receipt", "a kind that this version does not know"))?;
        check_ids(receipt.message_ids.len())?;
        let id = |bytes: &Bytes| MessageId::from_slice(bytes).map_err(WireError::id("receipt"));
        Ok(Self {
            kind,
            messages: receipt.message_ids.iter().map(id).collect::<Result<_, _>>()?,
            at: limits::clamp_time(WallTime::from_millis(receipt.at), now),
        })
    }
}

pub(crate) fn receipt_to_proto(kind: ReceiptKind, messages: &[MessageId], at: WallTime) -> proto::Receipt {
    let kind = match kind {
        ReceiptKind::Delivered => proto::receipt::Kind::Delivered,
        ReceiptKind::Read => proto::receipt::Kind::Read,
        ReceiptKind::Unreadable => proto::receipt::Kind::Unreadable,
    };
    let message_ids = messages.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
    proto::Receipt { kind: kind.into(), message_ids, at: at.as_millis() }
}

impl ReceiptKind {
    pub(crate) const fn from_proto(kind: proto::receipt::Kind) -> Option<Self> {
        match kind {
            proto::receipt::Kind::Delivered => Some(Self::Delivered),
            proto::receipt::Kind::Read => Some(Self::Read),
            proto::receipt::Kind::Unreadable => Some(Self::Unreadable),
            proto::receipt::Kind::Unspecified => None,
        }
    }
}

fn check_ids(count: usize) -> Result<(), WireError> {
    if count == 0 {
        return Err(WireError::malformed("receipt", "no message"));
    }
    at_most("messages of a receipt", limits::RECEIPT_IDS, count)
}

fn check_signal(signal: &Signal) -> Result<(), WireError> {
    at_most("signal", limits::SIGNAL_MAX, signal.body.len())?;
    at_most("session of a signal", limits::SIGNAL_SESSION_MAX, signal.session.len())?;
    at_most("transport of a signal", limits::NAME_MAX, signal.transport.len())?;
    if signal.session.is_empty() || signal.transport.is_empty() {
        return Err(WireError::malformed("signal", "no session or no transport"));
    }
    Ok(())
}

fn signal_to_proto(signal: &Signal) -> proto::Signal {
    let kind = match signal.kind {
        SignalKind::Offer => proto::signal::Kind::Offer,
        SignalKind::Answer => proto::signal::Kind::Answer,
        SignalKind::Candidate => proto::signal::Kind::Candidate,
        SignalKind::Bye => proto::signal::Kind::Bye,
        _ => proto::signal::Kind::Unspecified,
    };
    proto::Signal {
        kind: kind.into(),
        session: signal.session.clone(),
        body: signal.body.clone(),
        transport: signal.transport.clone(),
    }
}

fn signal_from_proto(signal: proto::Signal) -> Result<Signal, WireError> {
    let kind = match signal.kind() {
        proto::signal::Kind::Offer => SignalKind::Offer,
        proto::signal::Kind::Answer => SignalKind::Answer,
        proto::signal::Kind::Candidate => SignalKind::Candidate,
        proto::signal::Kind::Bye => SignalKind::Bye,
        proto::signal::Kind::Unspecified => {
            return Err(WireError::malformed("signal", "a kind that this version does not know"));
        }
    };
    Ok(Signal { kind, session: signal.session, body: signal.body, transport: signal.transport })
}

/// No bytes stand for none.
pub(crate) fn optional_message(what: &'static str, bytes: &[u8]) -> Result<Option<MessageId>, WireError> {
    if bytes.is_empty() { Ok(None) } else { MessageId::from_slice(bytes).map(Some).map_err(WireError::id(what)) }
}
