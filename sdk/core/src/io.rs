//! What goes into the core and what comes out of it: the contract with the driver.
//!
//! The driver answers every [`Out`] that carries an [`OpId`] exactly once, after a timeout too, and
//! the core answers every command of the app exactly once.

mod event;
mod letter;

use bytes::Bytes;
use byway_api::{
    Applied, CloseCode, Handoff, InboxRow, Load, MessageId, OutboxRow, PathKind, PeerId, PinRow, RelayErrorKind, Retry,
    RouteRow, Row, Sealed, SeenRow, SignalAddress, StepErrorKind, StoreErrorKind, UserId, WallTime, Write,
};
use byway_wire::Beacon;
use byway_wire::PeerHello;
use byway_wire::VerifiedRecord;
use byway_wire::{Frame, RelayStatus};

use crate::machine::{ConnId, OpId};

pub use event::Event;
pub use letter::{Letter, OpenedLetter, SealFailure};

/// What the core is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum In {
    /// One stored row; all of them come before [`In::Start`].
    Loaded(Loaded),
    /// Everything is loaded and our own record is known: begin.
    Start,
    /// Our own record has changed.
    Me(VerifiedRecord),
    /// Our own beacon, as asked for by [`Out::SignBeacon`].
    Beacon(Beacon),
    /// Time has passed; nothing else happened.
    Wake,

    /// The app sends. Answered [`Answer::Queued`] or [`Answer::Refused`].
    Send(Box<SendCommand>),
    /// The app wants a connection to a user now. Not answered; `explain` tells.
    Seek(UserId),
    /// The app has read a message: tell the sender. Answered [`Answer::Done`].
    Read {
        /// The command.
        op: OpId,
        /// The message.
        key: InboxKey,
    },
    /// The app is done with a message: it will not be shown again. Answered [`Answer::Done`].
    Done {
        /// The command.
        op: OpId,
        /// The message.
        key: InboxKey,
    },
    /// The app's inbox queue has room for `0` more messages than before.
    InboxRoom(u32),
    /// Refuse or admit a user from now on. Answered [`Answer::Done`].
    Block {
        /// The command.
        op: OpId,
        /// The user.
        user: UserId,
        /// Refuse or admit.
        blocked: bool,
    },
    /// The app says that this device is the user's (a reinstall). Answered [`Answer::Done`].
    Trust {
        /// The command.
        op: OpId,
        /// The user.
        user: UserId,
        /// The device; replaces what was pinned.
        peer: PeerId,
    },
    /// Close connections and stop all timers until [`In::Resume`].
    Suspend,
    /// Go on after [`In::Suspend`].
    Resume,
    /// Addresses or routes of our own machine have changed.
    NetworkChanged,
    /// Say goodbye to everybody. The driver then flushes and closes.
    Shutdown,

    /// A connection passed Hello.
    Up(Box<Up>),
    /// A connection has ended.
    Down {
        /// Which.
        conn: ConnId,
        /// Why.
        code: CloseCode,
    },
    /// A frame arrived on a connection.
    Frame {
        /// Which.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// Slots of a connection's queue became free.
    Credit {
        /// Which.
        conn: ConnId,
        /// Slots of the control lane.
        control: u32,
        /// Slots of the data lane.
        data: u32,
        /// Bytes of the data lane.
        bytes: usize,
    },
    /// A peer broke the protocol in the connection's reader; the frame was dropped.
    Protocol {
        /// Which.
        conn: ConnId,
    },

    /// Answers [`Out::Store`].
    Stored {
        /// Repeats its id.
        op: OpId,
        /// What became of each write.
        result: Result<Vec<Applied>, StoreErrorKind>,
    },
    /// Answers [`Out::Load`].
    LoadedPage {
        /// Repeats its id.
        op: OpId,
        /// The rows.
        result: Result<Vec<Row>, StoreErrorKind>,
    },
    /// A running step found a route.
    Found {
        /// Repeats the id of [`Out::Run`].
        op: OpId,
        /// The route.
        route: FoundRoute,
    },
    /// Answers [`Out::Run`].
    StepEnded {
        /// Repeats its id.
        op: OpId,
        /// How it ended.
        outcome: StepOutcome,
    },
    /// A browsing step saw a member, or a record came with a signal.
    Sighting(FoundRoute),
    /// Answers [`Out::Browse`].
    BrowseEnded {
        /// Repeats its id.
        op: OpId,
        /// How it ended.
        outcome: StepOutcome,
    },
    /// Answers [`Out::Announce`]: whether every step took it.
    Announced {
        /// Repeats its id.
        op: OpId,
        /// All took it.
        ok: bool,
    },
    /// The ANSWER of a dial has been seen: the peer wants the connection.
    Answering {
        /// The id of [`Out::Dial`].
        op: OpId,
    },
    /// Answers [`Out::Dial`]. On success [`In::Up`] came before.
    Dialed {
        /// Repeats its id.
        op: OpId,
        /// Success, or why not.
        result: Result<(), DialError>,
    },
    /// A peer that we do not know by a connection is dialling us (an OFFER was accepted).
    Approached {
        /// The device.
        peer: PeerId,
    },
    /// That attempt came to nothing.
    Withdrawn {
        /// The device.
        peer: PeerId,
    },

    /// A step asks a neighbour for a user. Answered [`Answer::Routes`].
    Ask {
        /// The request.
        op: OpId,
        /// The neighbour.
        neighbour: PeerId,
        /// The sought user.
        user: UserId,
    },
    /// An envelope is handed to a neighbour: by the signal router, or by the relay plugin that
    /// [`Out::Relay`] runs. Answered [`Answer::Forwarded`].
    Forward {
        /// The request.
        op: OpId,
        /// The neighbour.
        hop: PeerId,
        /// The envelope.
        mail: Sealed,
    },

    /// Answers [`Out::Seal`].
    Sealed {
        /// Repeats its id.
        op: OpId,
        /// The envelope, or why there is none.
        result: Result<Sealed, SealFailure>,
    },
    /// Answers [`Out::Relay`].
    Relayed {
        /// Repeats its id.
        op: OpId,
        /// How far the envelope came, or why not.
        result: Result<Handoff, RelayErrorKind>,
    },
    /// Answers [`Out::Admit`].
    Admitted {
        /// Repeats its id.
        op: OpId,
        /// The policy admits it.
        admitted: bool,
    },
    /// Answers [`Out::Mail`].
    Opened {
        /// Repeats its id.
        op: OpId,
        /// What it says; `None` if it was a signal, which is the shell's, or could not be opened.
        letter: Option<Box<OpenedLetter>>,
    },
}

/// A stored row, with signed things verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Loaded {
    /// A record that is still valid.
    Record(VerifiedRecord),
    /// A route.
    Route(RouteRow),
    /// An outbox header.
    Outbox(OutboxRow),
    /// An inbox header.
    Inbox(InboxRow),
    /// A mark.
    Seen(SeenRow),
    /// A pin.
    Pin(PinRow),
    /// A blocked user.
    Blocked(UserId),
    /// A named value whose name begins with [`crate::META_PREFIX`].
    Meta {
        /// Its name.
        key: String,
        /// Its value.
        value: Bytes,
    },
}

/// The app sends a message.
#[derive(Clone, Debug)]
pub struct SendCommand {
    /// The command.
    pub op: OpId,
    /// To whom.
    pub to: UserId,
    /// Its id; unique, chosen by the driver or the app.
    pub message: MessageId,
    /// What; at most [`byway_wire::limits::BODY_MAX`] bytes.
    pub body: Bytes,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it is given up.
    pub expires_at: WallTime,
}

/// Names one incoming message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxKey {
    /// The sending device.
    pub from: PeerId,
    /// Epoch of its numbers.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
}

/// A connection that passed Hello.
#[derive(Clone, Debug)]
pub struct Up {
    /// Its name from now on.
    pub conn: ConnId,
    /// What Hello proved.
    pub hello: PeerHello,
    /// We dialled it ([`Out::Dial`]); `None` if the peer did.
    pub dialed: Option<OpId>,
    /// Rank of its transport in the node's order of preference, 0 is best.
    pub rank: usize,
    /// Name of its transport.
    pub transport: &'static str,
    /// How it runs.
    pub kind: PathKind,
    /// Where it runs, for people.
    pub path: String,
    /// Free slots of its queue.
    pub credit: Credit,
}

/// Room in the queue of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Frames in the control lane.
    pub control: u32,
    /// Frames in the data lane.
    pub data: u32,
    /// Bytes in the data lane.
    pub bytes: usize,
}

/// A route whose record, if any, was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRoute {
    /// The device.
    pub peer: PeerId,
    /// How to reach it.
    pub address: SignalAddress,
    /// Its record.
    pub record: Option<VerifiedRecord>,
    /// When it was last known there.
    pub last_seen: Option<WallTime>,
    /// Whether a registry reported it (evidence of the fourth class), or the cache (the fifth).
    pub source: RouteSource,
}

/// Where a route came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteSource {
    /// A neighbour or any other free step.
    Step,
    /// A metered step: a server.
    Registry,
    /// Our own store, an invite.
    Cache,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// It looked.
    Finished,
    /// It could not look, or not to the end.
    Failed(StepErrorKind, String),
    /// The core cancelled it.
    Cancelled,
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    /// Whether it says anything about the peer.
    pub retry: Retry,
    /// The peer's own attempt won; not a failure.
    pub superseded: bool,
    /// For people.
    pub text: String,
}

/// What the core wants done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Out {
    /// Send a frame. The core spent a credit for it: the queue has room.
    Write {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// End a connection; everything written before goes out first. Answered by [`In::Down`].
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        code: CloseCode,
    },
    /// Connect to a device. Answered by [`In::Dialed`].
    Dial {
        /// The request.
        op: OpId,
        /// The device.
        peer: PeerId,
        /// Ways to it, best first; never empty.
        addresses: Vec<SignalAddress>,
    },
    /// Stop dialling; still answered.
    CancelDial {
        /// The dial.
        op: OpId,
    },
    /// Run `find` of a step. Answered by [`In::StepEnded`].
    Run {
        /// The request.
        op: OpId,
        /// Its place in the ladder.
        step: usize,
        /// Who is sought.
        user: UserId,
    },
    /// Stop a step; still answered.
    CancelRun {
        /// The run.
        op: OpId,
    },
    /// Run `browse` of a step. Answered by [`In::BrowseEnded`].
    Browse {
        /// The request.
        op: OpId,
        /// Its place in the ladder.
        step: usize,
    },
    /// Run `announce` of every step with our current record. Answered by [`In::Announced`].
    Announce {
        /// The request.
        op: OpId,
        /// We are leaving.
        leaving: bool,
    },
    /// Apply a batch. Answered by [`In::Stored`]. Batches take effect in this order.
    Store {
        /// The request.
        op: OpId,
        /// The batch.
        batch: Vec<Write>,
    },
    /// Read one page. Answered by [`In::LoadedPage`].
    Load {
        /// The request.
        op: OpId,
        /// What to read.
        what: Load,
    },
    /// Sign a beacon over this time, which is the network's. Answered by [`In::Beacon`].
    SignBeacon {
        /// When it is said.
        at: WallTime,
    },
    /// A sealed envelope for this device arrived: open it. At most [`crate::relay::OPENING`] wait at a
    /// time. Answered by [`In::Opened`].
    Mail {
        /// The request.
        op: OpId,
        /// The neighbour that handed it over.
        hop: PeerId,
        /// The envelope.
        mail: Sealed,
    },
    /// Sign a letter and seal it for a device. Answered by [`In::Sealed`].
    Seal {
        /// The request.
        op: OpId,
        /// Whom for: its newest record.
        to: VerifiedRecord,
        /// What it says.
        letter: Letter,
        /// Put our own record in: the device may not know us.
        introduce: bool,
    },
    /// Hand an envelope of ours to a neighbour, as the relay plugin does it. Answered by
    /// [`In::Relayed`].
    Relay {
        /// The request.
        op: OpId,
        /// The neighbour.
        hop: PeerId,
        /// The envelope.
        mail: Sealed,
    },
    /// Ask the relay plugin's policy about an envelope that goes from one neighbour to another.
    /// Answered by [`In::Admitted`].
    Admit {
        /// The request.
        op: OpId,
        /// Who handed it over.
        from: PeerId,
        /// The envelope.
        mail: Sealed,
    },
    /// Answers a command or request.
    Answer {
        /// Repeats its id.
        op: OpId,
        /// The answer.
        answer: Answer,
    },
    /// Tell the app.
    Tell(Event),
}

/// Answers of the core.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The message is durable. `existing`: it was there before, under the same id.
    Queued {
        /// It was there before.
        existing: bool,
    },
    /// Nothing was stored.
    Refused(Refusal),
    /// Done.
    Done,
    /// What a neighbour knows.
    Routes(Result<Vec<FoundRoute>, AskError>),
    /// What became of a forwarded envelope.
    Forwarded(Result<RelayStatus, AskError>),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 10,000 messages or 64 MiB wait already.
    QueueFull,
    /// Longer than a message may be.
    TooLarge,
    /// The user is blocked.
    Blocked,
    /// The store failed.
    Store(StoreErrorKind),
    /// The node is shutting down.
    Stopping,
}

/// Why a neighbour gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// It is not connected.
    NotConnected,
    /// Its queue is full.
    Busy,
    /// It did not answer in time.
    Timeout,
}

/// An incoming message on its way to the app.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxItem {
    /// Its name.
    pub key: InboxKey,
    /// Its id.
    pub message: MessageId,
    /// Who sent it.
    pub from_user: UserId,
    /// What was sent.
    pub body: Bytes,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The sender's time.
    pub sent_at: WallTime,
    /// When it arrived.
    pub received_at: WallTime,
    /// An earlier message of the same sender is still missing.
    pub late: bool,
}
