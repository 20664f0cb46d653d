//! Our end of one libp2p connection: makes the one stream, says what has to be said on it, and carries the
//! frames. It runs in libp2p's task of the connection.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use byway_api::{CloseCode, PathInfo, PeerId, TransportErrorKind as Kind};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use tokio::time::sleep;

use crate::Config;
use crate::connection::Opened;
use crate::guard::{Alive, gone};
use crate::link::Link;
use crate::preface::{self, Answer, End, GO, Nonce};
use crate::reader::{Last, Reader};
use crate::writer::Writer;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/byway/1");

/// What the endpoint's task decides.
#[derive(Debug)]
pub(crate) enum Order {
    /// The dialer's last word.
    Go,
    /// The answerer agrees.
    Accept,
    /// The answerer refuses.
    Refuse(CloseCode),
}

/// What the endpoint's task is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// An answerer was asked.
    Asked,
    /// A dialer's question was answered with yes.
    Agreed,
    /// The connection is open.
    Opened(Box<Opened>),
    /// It does not open.
    Failed(Kind, String),
    /// It has ended; libp2p may drop it.
    Over,
}

/// Who is at the ends, and which of them we are.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) me: PeerId,
    pub(crate) peer: PeerId,
    pub(crate) path: PathInfo,
    pub(crate) dialer: bool,
}

/// What waits for the stream before it is open.
type Step = BoxFuture<'static, io::Result<Done>>;

enum Done {
    Answered(Stream, Answer),
    Asked(Stream, Nonce),
    Agreed(Stream, Nonce),
    Refused,
}

enum Stage {
    /// The dialer has to ask for a stream.
    Dialing,
    /// For the stream.
    Waiting,
    Stepping(Step),
    /// For an order.
    Undecided(Stream, Nonce),
    Open(Box<Open>),
    Over,
}

/// See the module.
pub(crate) struct Handler {
    config: Arc<Config>,
    ends: Ends,
    nonce: Nonce,
    stage: Stage,
    /// Until the connection must be open; ends with the caller of a dial, too.
    limit: Option<BoxFuture<'static, &'static str>>,
    events: VecDeque<Event>,
}

impl Handler {
    /// `alive` is the caller of our dial.
    pub(crate) fn new(config: Arc<Config>, ends: Ends, nonce: Nonce, alive: Option<Alive>) -> Self {
        let patience = if ends.dialer { config.connect_timeout } else { config.accept_timeout };
        let limit = async move {
            let abandoned = async {
                match alive {
                    Some(alive) => gone(alive).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                () = abandoned => "the dial was given up",
                () = sleep(patience) => "no answer in time",
            }
        };
        let stage = if ends.dialer { Stage::Dialing } else { Stage::Waiting };
        Self { config, ends, nonce, stage, limit: Some(limit.boxed()), events: VecDeque::new() }
    }

    fn step(&mut self, step: impl Future<Output = io::Result<Done>> + Send + 'static) {
        self.stage = Stage::Stepping(step.boxed());
    }

    fn fail(&mut self, kind: Kind, why: impl Into<String>) {
        self.stage = Stage::Over;
        self.limit = None;
        self.events.push_back(Event::Failed(kind, why.into()));
    }

    fn stepped(&mut self, done: io::Result<Done>) {
        match done {
            Ok(Done::Answered(stream, Answer::Yes(theirs))) => {
                self.stage = Stage::Undecided(stream, theirs);
                self.events.push_back(Event::Agreed);
            }
            Ok(Done::Answered(_, Answer::No(code))) => self.fail(Kind::Refused, format!("refused with {code:?}")),
            Ok(Done::Asked(stream, theirs)) => {
                self.stage = Stage::Undecided(stream, theirs);
                self.events.push_back(Event::Asked);
            }
            Ok(Done::Agreed(stream, theirs)) => self.open(stream, theirs, Writer::default()),
            Ok(Done::Refused) => self.fail(Kind::Busy, "no room for another connection"),
            Err(e) => {
                let e = crate::failure::of_io(e);
                self.fail(e.kind(), e.to_string());
            }
        }
    }

    fn open(&mut self, stream: Stream, theirs: Nonce, writer: Writer) {
        let ours = End { peer: self.ends.me, nonce: self.nonce };
        let theirs = End { peer: self.ends.peer, nonce: theirs };
        let (dialer, answerer) = if self.ends.dialer { (ours, theirs) } else { (theirs, ours) };
        let link = Arc::new(Link::new(&self.config));
        let opened = Opened {
            link: Arc::clone(&link),
            peer: self.ends.peer,
            binding: preface::binding(&dialer, &answerer),
            path: self.ends.path.clone(),
        };
        self.limit = None;
        self.events.push_back(Event::Opened(Box::new(opened)));
        self.events.shrink_to_fit();
        let open = Open { stream, link, writer, reader: Reader::new(), written: false, linger: None };
        self.stage = Stage::Open(Box::new(open));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Event;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// It is Byway that closes connections.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
            }
            if let Some(limit) = &mut self.limit
                && let Poll::Ready(why) = limit.poll_unpin(cx)
            {
                self.fail(Kind::Timeout, why);
                continue;
            }
            match &mut self.stage {
                Stage::Dialing => {
                    self.stage = Stage::Waiting;
                    let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Stage::Stepping(step) => {
                    let done = ready!(step.poll_unpin(cx));
                    self.stepped(done);
                }
                Stage::Open(open) => {
                    let code = ready!(open.poll(cx, self.config.linger));
                    open.link.finish(code);
                    self.stage = Stage::Over;
                    self.events.push_back(Event::Over);
                }
                Stage::Waiting | Stage::Undecided(..) | Stage::Over => return Poll::Pending,
            }
        }
    }

    /// Also called when the connection has failed: what had arrived before is still handed on.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Stage::Open(open) = &mut self.stage {
            let Open { reader, stream, link, .. } = &mut **open;
            let code = match reader.poll(cx, stream, link, true) {
                Poll::Ready(Ok(last)) => last.code(),
                Poll::Ready(Err(_)) | Poll::Pending => CloseCode::LOST,
            };
            link.finish(code);
            self.stage = Stage::Over;
        }
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, order: Order) {
        // An order that comes too late has no stream any more.
        let Stage::Undecided(mut stream, theirs) = mem::replace(&mut self.stage, Stage::Over) else { return };
        let ours = self.nonce;
        match order {
            Order::Go => self.open(stream, theirs, Writer::beginning_with(&GO)),
            Order::Accept => self.step(async move {
                preface::agree(&mut stream, &ours).await?;
                Ok(Done::Agreed(stream, theirs))
            }),
            Order::Refuse(code) => self.step(async move {
                preface::refuse(&mut stream, code).await?;
                Ok(Done::Refused)
            }),
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        let waiting = matches!(self.stage, Stage::Waiting);
        match event {
            // A second stream is dropped, which resets it.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: mut stream, .. })
                if waiting && !self.ends.dialer =>
            {
                self.step(async move {
                    let theirs = preface::hear(&mut stream).await?;
                    Ok(Done::Asked(stream, theirs))
                });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: mut stream, .. })
                if waiting && self.ends.dialer =>
            {
                let ours = self.nonce;
                self.step(async move {
                    let answer = preface::ask(&mut stream, &ours).await?;
                    Ok(Done::Answered(stream, answer))
                });
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) if waiting => match error {
                StreamUpgradeError::Timeout => self.fail(Kind::Timeout, "no stream in time"),
                StreamUpgradeError::NegotiationFailed => self.fail(Kind::Handshake, "it does not speak Byway"),
                other => self.fail(Kind::Handshake, other.to_string()),
            },
            _ => {}
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Stage::Open(open) = &self.stage {
            open.link.finish(CloseCode::LOST);
        }
    }
}

/// An open stream.
struct Open {
    stream: Stream,
    link: Arc<Link>,
    writer: Writer,
    reader: Reader,
    /// Nothing more is written: the end is, or the stream is broken.
    written: bool,
    linger: Option<BoxFuture<'static, ()>>,
}

impl Open {
    /// Moves frames; ready with the code when nothing is left to do.
    fn poll(&mut self, cx: &mut Context<'_>, linger: Duration) -> Poll<CloseCode> {
        if self.link.attend(cx) && self.linger.get_or_insert_with(|| sleep(linger).boxed()).poll_unpin(cx).is_ready() {
            return Poll::Ready(CloseCode::LOST);
        }
        if !self.written {
            // A far side that cannot be written to may still have said why.
            self.written = self.writer.poll(cx, &mut self.stream, &self.link).is_ready();
        }
        match ready!(self.reader.poll(cx, &mut self.stream, &self.link, false)) {
            Ok(last) => Poll::Ready(last.code()),
            Err(_) => Poll::Ready(CloseCode::LOST),
        }
    }
}

impl Last {
    const fn code(&self) -> CloseCode {
        match self {
            Self::Code(code) => *code,
            Self::Nonsense => CloseCode::PROTOCOL,
        }
    }
}
