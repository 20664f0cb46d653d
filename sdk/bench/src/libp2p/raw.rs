//! The rival: libp2p as it comes, one stream, messages behind their lengths, written 64 KiB at a time.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, SwarmEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Failure;
use crate::cost::Cost;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/1");
const WRITE: usize = 64 << 10;

/// One stream on every connection, whoever dialled.
#[derive(Debug)]
struct Streams(VecDeque<Stream>);

/// Asks for the stream, or waits for it.
struct Handler {
    ask: bool,
    got: Option<Stream>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ();
    type ToBehaviour = Stream;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Stream>> {
        if std::mem::take(&mut self.ask) {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.got.take() {
            Some(stream) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, (): ()) {}

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.got = Some(protocol);
            }
            _ => {}
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Stream;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler { ask: false, got: None })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler { ask: true, got: None })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, stream: Stream) {
        self.0.push_back(stream);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Stream, ()>> {
        self.0.pop_front().map_or(Poll::Pending, |stream| Poll::Ready(ToSwarm::GenerateEvent(stream)))
    }
}

fn swarm(number: u8) -> Result<Swarm<Streams>, Failure> {
    let key = Keypair::ed25519_from_bytes([number; 32])?;
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| Streams(VecDeque::new()))?
        .build())
}

/// Two swarms, in a task each.
#[derive(Debug)]
pub(crate) struct Swarms {
    dial: mpsc::Sender<()>,
    dialled: mpsc::Receiver<Stream>,
    accepted: mpsc::Receiver<Stream>,
    _tasks: JoinSet<()>,
}

impl Swarms {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let (mut near, mut far) = (swarm(1)?, swarm(2)?);
        far.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = far.select_next_some().await {
                break address;
            }
        };
        let peer = *far.local_peer_id();
        let (dial, mut wanted) = mpsc::channel::<()>(1);
        let (opened, dialled) = mpsc::channel(1);
        let (accept, accepted) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = wanted.recv() => {
                        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always)
                            .addresses(vec![address.clone()]).allocate_new_port().build();
                        let _ = near.dial(opts);
                    }
                    event = near.select_next_some() => if let SwarmEvent::Behaviour(stream) = event {
                        let _ = opened.send(stream).await;
                    }
                }
            }
        });
        tasks.spawn(async move {
            loop {
                if let SwarmEvent::Behaviour(stream) = far.select_next_some().await {
                    let _ = accept.send(stream).await;
                }
            }
        });
        Ok(Self { dial, dialled, accepted, _tasks: tasks })
    }

    /// One more connection with one stream: both ends.
    pub(crate) async fn connect(&mut self) -> Result<(Stream, Stream), Failure> {
        self.dial.send(()).await?;
        let near = self.dialled.recv().await.ok_or("a swarm has stopped")?;
        let far = self.accepted.recv().await.ok_or("a swarm has stopped")?;
        Ok((near, far))
    }
}

/// Two ends of one stream.
#[derive(Debug)]
pub(crate) struct Pair {
    ends: Option<(Stream, Stream)>,
    _swarms: Swarms,
}

impl Pair {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let mut swarms = Swarms::start().await?;
        let ends = swarms.connect().await?;
        Ok(Self { ends: Some(ends), _swarms: swarms })
    }

    /// So many messages from one end to the other.
    pub(crate) async fn flood(&mut self, size: usize, messages: usize) -> Result<Cost, Failure> {
        let (mut near, mut far) = self.ends.take().ok_or("a flood has failed")?;
        let body = vec![7; size];
        let cost = Cost::of(messages, async {
            let sink = tokio::spawn(async move {
                read(&mut far, messages).await?;
                Ok::<_, Failure>(far)
            });
            let source = tokio::spawn(async move {
                write(&mut near, &body, messages).await?;
                Ok::<_, Failure>(near)
            });
            self.ends = Some((source.await??, sink.await??));
            Ok(())
        });
        cost.await
    }
}

async fn write(stream: &mut Stream, body: &[u8], messages: usize) -> Result<(), Failure> {
    let length = (body.len() as u32).to_be_bytes();
    let mut buffer = Vec::with_capacity(WRITE);
    for _ in 0..messages {
        if buffer.len() + length.len() + body.len() > WRITE {
            stream.write_all(&buffer).await?;
            buffer.clear();
        }
        buffer.extend_from_slice(&length);
        buffer.extend_from_slice(body);
    }
    stream.write_all(&buffer).await?;
    Ok(stream.flush().await?)
}

/// Looks at each message where it lies; it is not even handed to anybody.
async fn read(stream: &mut Stream, messages: usize) -> Result<(), Failure> {
    let mut buffer = vec![0; WRITE];
    let (mut filled, mut seen) = (0, 0);
    while seen < messages {
        let n = stream.read(&mut buffer[filled..]).await?;
        if n == 0 {
            return Err("the stream has ended".into());
        }
        filled += n;
        let mut at = 0;
        while let Some(head) = buffer[at..filled].first_chunk::<4>() {
            let end = at + 4 + u32::from_be_bytes(*head) as usize;
            if end > filled {
                break;
            }
            std::hint::black_box(&buffer[at + 4..end]);
            seen += 1;
            at = end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    Ok(())
}
