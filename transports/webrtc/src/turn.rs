//! The TURN allocation of an endpoint (RFC 8656): one, shared by all connections.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::stun::message::TransactionId;
use rtc::turn::client::{Client, ClientConfig, Event};
use tokio::sync::watch;

use crate::config::TurnServer;
use crate::stun::Transaction;

/// Peers whose permission is being asked for, and datagrams kept for each until it is granted.
const MAX_WAITING_PEERS: usize = 256;
const MAX_WAITING: usize = 32;

/// How the allocation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    Asked,
    Granted(SocketAddr),
    Failed(String),
}

pub(crate) struct Turn {
    client: Client,
    server: SocketAddr,
    /// Our address towards the server.
    local: SocketAddr,
    relayed: Option<SocketAddr>,
    waiting: HashMap<SocketAddr, Vec<BytesMut>>,
    asked: HashMap<TransactionId, SocketAddr>,
    allocation: watch::Sender<Allocation>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("server", &self.server).field("relayed", &self.relayed).finish_non_exhaustive()
    }
}

impl Turn {
    /// Begins to ask `server` for an allocation. The receiver tells how it stands.
    pub(crate) fn ask(
        server: SocketAddr,
        local: SocketAddr,
        credential: &TurnServer,
        now: Instant,
    ) -> Result<(Self, watch::Receiver<Allocation>), String> {
        let provider = rtc::crypto::default_provider().map_err(|e| e.to_string())?;
        let config = ClientConfig {
            turn_serv_addr: server.to_string(),
            local_addr: local,
            transport_protocol: TransportProtocol::UDP,
            username: credential.user.clone(),
            password: credential.password.clone(),
            ..ClientConfig::default()
        };
        let mut client = Client::new(config, provider).map_err(|e| e.to_string())?;
        client.allocate(now).map_err(|e| e.to_string())?;
        let (allocation, state) = watch::channel(Allocation::Asked);
        let turn =
            Self { client, server, local, relayed: None, waiting: HashMap::new(), asked: HashMap::new(), allocation };
        Ok((turn, state))
    }

    pub(crate) const fn server(&self) -> SocketAddr {
        self.server
    }

    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) const fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    /// True if a response with this id is for us.
    pub(crate) fn awaits(&self, transaction: Transaction) -> bool {
        self.client.has_transaction(&TransactionId(transaction))
    }

    /// Relays a datagram to a peer; the first ones wait for the server's permission.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &[u8], now: Instant) {
        let Some(relayed) = self.relayed else { return };
        let Ok(mut relay) = self.client.relay(relayed) else { return };
        if relay.send_to(now, datagram, to).is_ok() {
            return;
        }
        if !self.waiting.contains_key(&to) {
            if self.waiting.len() >= MAX_WAITING_PEERS {
                return;
            }
            if let Ok(Some(id)) = relay.create_permission(now, to) {
                self.asked.insert(id, to);
            }
        }
        let waiting = self.waiting.entry(to).or_default();
        if waiting.len() < MAX_WAITING {
            waiting.push(BytesMut::from(datagram));
        }
    }

    /// A datagram from the server.
    pub(crate) fn input(&mut self, datagram: &[u8], now: Instant) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: self.server,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        if let Err(e) = self.client.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(datagram) }) {
            tracing::trace!(error = %e, "unusable datagram from the TURN server");
        }
    }

    /// The next datagram for the server.
    pub(crate) fn poll_write(&mut self) -> Option<BytesMut> {
        self.client.poll_write().map(|write| write.message)
    }

    /// Acts on what the server said. What peers sent is put into `received`.
    pub(crate) fn poll(&mut self, received: &mut Vec<(SocketAddr, BytesMut)>, now: Instant) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::AllocateResponse(_, relayed) => {
                    self.relayed = Some(relayed);
                    self.allocation.send_replace(Allocation::Granted(relayed));
                }
                Event::AllocateError(_, e) => self.fail(&e.to_string()),
                Event::TransactionTimeout(id) => match self.asked.remove(&id) {
                    Some(peer) => drop(self.waiting.remove(&peer)),
                    None => self.fail("the TURN server does not answer"),
                },
                Event::CreatePermissionResponse(id, peer) => {
                    self.asked.remove(&id);
                    for datagram in self.waiting.remove(&peer).unwrap_or_default() {
                        self.send(peer, &datagram, now);
                    }
                }
                Event::CreatePermissionError(id, e) => {
                    tracing::debug!(error = %e, "the TURN server refuses a peer");
                    if let Some(peer) = self.asked.remove(&id) {
                        self.waiting.remove(&peer);
                    }
                }
                Event::DataIndicationOrChannelData(_, peer, datagram) => received.push((peer, datagram)),
                _ => {}
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.relayed = None;
        self.waiting.clear();
        self.asked.clear();
        self.allocation.send_replace(Allocation::Failed(why.to_owned()));
    }

    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        if let Err(e) = self.client.handle_timeout(now) {
            tracing::trace!(error = %e, "TURN timer");
        }
    }

    /// Gives the allocation back.
    pub(crate) fn release(&mut self, now: Instant) {
        if let Some(relayed) = self.relayed.take()
            && let Ok(mut relay) = self.client.relay(relayed)
            && let Err(e) = relay.close(now)
        {
            tracing::trace!(error = %e, "TURN release");
        }
    }
}
