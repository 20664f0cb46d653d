//! Bytes on the port that are not a friend's.

use std::future::poll_fn;
use std::time::Duration;

use byway_api::{CloseCode, Received};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint as Role, Transport};
use libp2p::identity::Keypair;
use libp2p::{noise, tcp, yamux};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Device, bind, loopback, seed, soon, tasks, tasks_fall_to, with};

/// Reads until the far side has ended the socket, or reset it.
async fn ended(socket: &mut TcpStream) {
    let mut sink = [0; 4096];
    while matches!(socket.read(&mut sink).await, Ok(1..)) {}
}

#[tokio::test]
async fn garbage_is_dropped_and_the_port_stays_open() {
    let ann = bind(&with(|config| config.accept_timeout = Duration::from_millis(200)), 1).await;
    let bob = bind(&loopback(), 2).await;
    let before = tasks();
    let mut garbage = vec![0u8; 1 << 20];
    for (i, byte) in garbage.iter_mut().enumerate() {
        *byte = (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    }
    let half_a_handshake = b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20half a key";
    let oversized = b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\x0f";
    let noise_without_end = b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xffaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for bytes in [&garbage[..], half_a_handshake, oversized, noise_without_end, b"GET / HTTP/1.1\r\n\r\n", b""] {
        let mut socket = TcpStream::connect(ann.socket()).await.unwrap();
        // It may be gone before all is written.
        let _ = socket.write_all(bytes).await;
        soon("the end of the socket", ended(&mut socket)).await;
    }
    tasks_fall_to(before).await;
    let (near, far) = ann.connect(&bob).await;
    assert_eq!(near.binding(), far.binding());
}

#[tokio::test]
async fn silent_sockets_are_bounded_and_end_in_time() {
    const ROOM: usize = 8;
    let ann = bind(
        &with(|config| {
            config.pending = ROOM;
            config.accept_timeout = Duration::from_millis(300);
        }),
        1,
    )
    .await;
    let before = tasks();
    let mut sockets = JoinSet::new();
    for _ in 0..5 * ROOM {
        let at = ann.socket();
        sockets.spawn(async move {
            let mut socket = TcpStream::connect(at).await.unwrap();
            ended(&mut socket).await;
        });
    }
    let mut most = 0;
    let all = async {
        while sockets.join_next().await.is_some() {
            most = most.max(tasks().saturating_sub(before + sockets.len()));
        }
    };
    soon("all sockets to be dropped", all).await;
    assert!(most <= ROOM + 1, "{most} tasks for at most {ROOM} handshakes");
    tasks_fall_to(before).await;
}

/// A device with a sound key that speaks libp2p by hand.
struct Stranger {
    stream: SubstreamBox,
    _muxer: JoinSet<()>,
}

impl Stranger {
    async fn connect(number: u8, to: &Device) -> (Self, StreamOpener) {
        let key = Keypair::ed25519_from_bytes(*seed(number).expose()).unwrap();
        let mut stack = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed();
        let opts = DialOpts { role: Role::Dialer, port_use: PortUse::New };
        let dial = stack.dial(to.address.rest().parse().unwrap(), opts).unwrap();
        let (_, mut muxer) = soon("a connection", dial).await.unwrap();
        let stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
        let (more, mut wanted) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<SubstreamBox>>(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let next = poll_fn(|cx| {
                    if let std::task::Poll::Ready(Some(answer)) = wanted.poll_recv(cx) {
                        let stream = match muxer.poll_outbound_unpin(cx) {
                            std::task::Poll::Ready(stream) => stream,
                            std::task::Poll::Pending => panic!("yamux opens at once"),
                        };
                        let _ = answer.send(stream.unwrap());
                    }
                    std::pin::Pin::new(&mut muxer).poll(cx)
                });
                if next.await.is_err() {
                    return;
                }
            }
        });
        (Self { stream, _muxer: tasks }, StreamOpener(more))
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon("bytes", self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Agrees on the protocol and opens the connection.
    async fn open(number: u8, to: &Device) -> (Self, StreamOpener) {
        let (mut stranger, opener) = Self::connect(number, to).await;
        stranger.write(NEGOTIATION).await;
        stranger.write(&[9; 32]).await;
        assert_eq!(stranger.read(NEGOTIATION.len()).await, NEGOTIATION);
        assert_eq!(stranger.read(33).await[0], 0, "yes");
        stranger.write(&[0]).await;
        (stranger, opener)
    }
}

struct StreamOpener(tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<SubstreamBox>>);

const NEGOTIATION: &[u8] = b"\x13/multistream/1.0.0\n\x09/byway/1\n";

#[tokio::test]
async fn a_length_that_nobody_may_send_ends_the_connection_and_allocates_nothing() {
    let ann = bind(&loopback(), 1).await;
    for head in [65_537u32, 0x7fff_ffff, 0xfffe_0001] {
        let (mut stranger, _opener) = Stranger::open(5, &ann).await;
        let far = ann.accept().await;
        stranger.write(&[0, 0, 0, 1, 42]).await;
        stranger.write(&head.to_be_bytes()).await;
        assert_eq!(soon("a frame", far.recv()).await.unwrap(), Received::Frame(vec![42].into()));
        assert_eq!(soon("the end", far.recv()).await.unwrap(), Received::Closed(CloseCode::PROTOCOL), "{head:#x}");
    }
}

#[tokio::test]
async fn frames_may_come_byte_by_byte() {
    let ann = bind(&loopback(), 1).await;
    let (mut stranger, _opener) = Stranger::open(5, &ann).await;
    let far = ann.accept().await;
    for byte in [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0xff, 0xff, 0x10, 0x92] {
        stranger.write(&[byte]).await;
    }
    for expected in
        [Received::Frame(vec![7, 8].into()), Received::Frame(vec![].into()), Received::Closed(CloseCode(4_242))]
    {
        assert_eq!(soon("a frame", far.recv()).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_peer_that_never_asks_or_never_says_the_last_word_is_dropped() {
    let ann = bind(&with(|config| config.accept_timeout = Duration::from_millis(200)), 1).await;
    let (mut silent, _one) = Stranger::connect(5, &ann).await;
    let (mut undecided, _other) = Stranger::connect(6, &ann).await;
    undecided.write(NEGOTIATION).await;
    undecided.write(&[9; 32]).await;
    assert_eq!(undecided.read(NEGOTIATION.len() + 33).await[NEGOTIATION.len()], 0, "yes");
    let mut rest = Vec::new();
    for stranger in [&mut silent, &mut undecided] {
        // An error is an end too.
        let _ = soon("the end of the stream", stranger.stream.read_to_end(&mut rest)).await;
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), ann.endpoint.next()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test]
async fn further_streams_are_dropped_and_harm_nothing() {
    let ann = bind(&loopback(), 1).await;
    let (mut stranger, opener) = Stranger::open(5, &ann).await;
    let far = ann.accept().await;
    let (answer, stream) = tokio::sync::oneshot::channel();
    opener.0.send(answer).await.unwrap();
    // The stream is given out when the connection next moves.
    stranger.write(&[0, 0, 0, 0]).await;
    let mut second = soon("a second stream", stream).await.unwrap();
    second.write_all(NEGOTIATION).await.unwrap();
    second.write_all(&[9; 32]).await.unwrap();
    second.flush().await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end of the second stream", second.read_to_end(&mut rest)).await;
    assert!(rest.len() <= NEGOTIATION.len(), "nobody answers on it");
    stranger.write(&[0, 0, 0, 1, 42]).await;
    assert_eq!(soon("a frame", far.recv()).await.unwrap(), Received::Frame(vec![].into()));
    assert_eq!(soon("a frame", far.recv()).await.unwrap(), Received::Frame(vec![42].into()));
}
