//! The stack of libp2p that carries our one stream.

use std::num::NonZeroUsize;
use std::time::Duration;

use byway_api::{TransportError, TransportErrorKind as Kind};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Swarm, Transport, noise, swarm, tcp, yamux};

use crate::behaviour::Behaviour;
use crate::failure::Socket;
use crate::guard::{Abrupt, Guard, NextDial};
use crate::task::Tasks;
use crate::{Config, error};

/// Streams that a peer may have open or in negotiation. One is needed; the rest is for those that are
/// being reset.
const STREAMS: usize = 4;

/// Long enough never to come: Byway closes its connections itself.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A swarm that listens nowhere yet.
pub(crate) fn build(
    key: &Keypair,
    config: &Config,
    behaviour: Behaviour,
    next_dial: NextDial,
    tasks: Tasks,
) -> Result<Swarm<Behaviour>, TransportError> {
    let noise = noise::Config::new(key).map_err(|e| error(Kind::Config, "the device key").with_source(e))?;
    let mut multiplex = yamux::Config::default();
    multiplex.set_max_num_streams(STREAMS);
    let stack = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map_err(Socket)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplex)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Abrupt(muxer))));
    #[cfg(feature = "quic")]
    let stack = {
        let mut quic = libp2p::quic::Config::new(key);
        quic.handshake_timeout = config.connect_timeout;
        // what nobody reads is bounded, as with Yamux
        quic.max_stream_data = 128 << 10;
        quic.max_connection_data = 256 << 10;
        let quic = libp2p::quic::tokio::Transport::new(quic)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Abrupt(muxer))));
        quic.or_transport(stack).map(|either, _| either.into_inner())
    };
    let stack = Guard::new(stack.boxed(), next_dial, config.connect_timeout, config.accept_timeout);
    let settings = swarm::Config::with_executor(tasks)
        .with_idle_connection_timeout(NEVER)
        .with_max_negotiating_inbound_streams(STREAMS)
        .with_notify_handler_buffer_size(NonZeroUsize::MIN)
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    Ok(Swarm::new(stack.boxed(), behaviour, key.public().to_peer_id(), settings))
}
