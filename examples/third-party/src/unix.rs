//! Connections between the processes of one machine: Unix domain sockets, encrypted with Noise.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use byway_api::{
    BindContext, CloseCode, Connection, Endpoint, Incoming, NetworkId, PeerId, Security, SignalAddress, Transport,
    TransportCaps, TransportError, TransportErrorKind, async_trait,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::noise::{Answer, Handshake, Pipe};

pub(crate) const NAME: &str = "unix";
/// The longest frame.
pub(crate) const MAX_FRAME: usize = 65_536;

/// The numbers of [`Unix`].
#[derive(Clone, Copy, Debug)]
pub struct UnixConfig {
    /// A dial, or an accepted handshake, takes no longer. Default 5 s.
    pub connect: Duration,
    /// `close` waits no longer for a far side that does not read. Default 1 s.
    pub linger: Duration,
    /// Connections that may wait for `next`. Default 64.
    pub accepted: usize,
    /// Handshakes of others that may run at once. Default 64.
    pub handshakes: usize,
}

impl Default for UnixConfig {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), linger: Duration::from_secs(1), accepted: 64, handshakes: 64 }
    }
}

/// A transport for devices that share a directory. Its addresses are `unix:{path of a socket}`.
///
/// It encrypts (Noise NN), since other users of the machine may be able to open the directory, and the node
/// takes no transport that does not. Who the far side is it leaves to the node, which signs the hash of the
/// handshake; only the device that was asked for can complete one.
#[derive(Clone, Debug)]
pub struct Unix {
    directory: PathBuf,
    config: UnixConfig,
}

impl Unix {
    /// Sockets in `directory`, which is made with mode 0700. Their paths have 55 characters more than its
    /// own, which the operating system limits to about 100.
    pub fn new(directory: impl Into<PathBuf>, config: UnixConfig) -> Self {
        Self { directory: directory.into(), config }
    }
}

#[async_trait]
impl Transport for Unix {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> TransportCaps {
        TransportCaps::new(MAX_FRAME, false, false, Security::Encrypted)
    }

    async fn bind(&self, cx: BindContext) -> Result<Arc<dyn Endpoint>, TransportError> {
        let (listener, path) = listen(&self.directory, cx.me)?;
        let address = path.to_str().and_then(|path| SignalAddress::new(&format!("{NAME}:{path}")).ok());
        let Some(address) = address else {
            let _ = fs::remove_file(&path);
            return Err(error(TransportErrorKind::Config, format!("{}: not printable ASCII", path.display())));
        };
        let (accepted, incoming) = mpsc::channel(self.config.accepted);
        let shared = Arc::new(Shared {
            me: cx.me,
            network: cx.network,
            config: self.config,
            open: Mutex::default(),
            dialling: Mutex::default(),
            closing: watch::Sender::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), accepted));
        Ok(Arc::new(UnixEndpoint {
            shared,
            address,
            path,
            attempts: AtomicU64::new(0),
            incoming: tokio::sync::Mutex::new(incoming),
            tasks: tokio::sync::Mutex::new(tasks),
        }))
    }
}

/// The first free socket of the device; those of killed processes are taken over.
fn listen(directory: &Path, me: PeerId) -> Result<(UnixListener, PathBuf), TransportError> {
    let failed = |e| error(TransportErrorKind::Config, format!("in {}", directory.display())).with_source(e);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    for number in 0..u8::MAX {
        let path = directory.join(format!("{me}-{number}"));
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => continue,
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => fs::remove_file(&path).map_err(failed)?,
            Err(_) => {}
        }
        match UnixListener::bind(&path) {
            Ok(listener) => return Ok((listener, path)),
            Err(e) if e.kind() == ErrorKind::AddrInUse => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(error(TransportErrorKind::Busy, "too many endpoints of this device"))
}

/// What the endpoint and its accepting task have in common.
#[derive(Debug)]
struct Shared {
    me: PeerId,
    network: NetworkId,
    config: UnixConfig,
    open: Mutex<Vec<Weak<Pipe>>>,
    /// Our own attempts; each says when it has won.
    dialling: Mutex<BTreeMap<(PeerId, u64), watch::Receiver<bool>>>,
    closing: watch::Sender<bool>,
}

impl Shared {
    /// Both sides say for whom and in which network; with another answerer the handshake fails.
    fn prologue(&self, answerer: PeerId) -> Vec<u8> {
        [b"byway-third-party/unix/1\0", self.network.as_str().as_bytes(), b"\0", answerer.as_bytes()].concat()
    }

    fn register(&self, pipe: &Arc<Pipe>) {
        let mut open = locked(&self.open);
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(pipe));
    }

    /// Of two crossing dials that of the smaller device wins, unless the other one has already.
    async fn loses(&self, from: PeerId) -> bool {
        let ours: Vec<_> = locked(&self.dialling)
            .range((from, 0)..=(from, u64::MAX))
            .map(|(_, won)| watch::Receiver::clone(won))
            .collect();
        if self.me < from {
            return !ours.is_empty();
        }
        for mut attempt in ours {
            if attempt.wait_for(|won| *won).await.is_ok() {
                return true;
            }
        }
        false
    }
}

async fn closed(closing: &watch::Sender<bool>) {
    // the sender lives as long as this reference
    let _ = closing.subscribe().wait_for(|closing| *closing).await;
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, accepted: mpsc::Sender<Arc<Pipe>>) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed(&shared.closing) => break,
            Some(_) = handshakes.join_next() => {}
            connected = listener.accept(), if handshakes.len() < shared.config.handshakes => match connected {
                Ok((stream, _)) => {
                    let answer = answer(stream, Arc::clone(&shared), accepted.clone());
                    handshakes.spawn(tokio::time::timeout(shared.config.connect, answer));
                }
                // out of descriptors: others may be given back soon
                Err(_) => tokio::time::sleep(shared.config.linger).await,
            },
        }
    }
    handshakes.shutdown().await;
}

/// What goes wrong here the dialler notices; nobody on this side has asked for anything.
async fn answer(stream: UnixStream, shared: Arc<Shared>, accepted: mpsc::Sender<Arc<Pipe>>) -> Option<()> {
    let prologue = shared.prologue(shared.me);
    let (handshake, from) = Handshake::answer(stream, &prologue).await.ok()?;
    if shared.loses(from).await {
        return handshake.refuse(Answer::Superseded).await.ok();
    }
    let Ok(place) = accepted.try_reserve() else { return handshake.refuse(Answer::Full).await.ok() };
    let pipe = Arc::new(handshake.accept(shared.config.linger).await.ok()?);
    shared.register(&pipe);
    place.send(pipe);
    Some(())
}

#[derive(Debug)]
struct UnixEndpoint {
    shared: Arc<Shared>,
    address: SignalAddress,
    path: PathBuf,
    attempts: AtomicU64,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Arc<Pipe>>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl UnixEndpoint {
    async fn connect(&self, peer: PeerId, path: &str) -> Result<Arc<dyn Connection>, TransportError> {
        let attempt = Attempt::new(&self.shared, peer, self.attempts.fetch_add(1, Ordering::Relaxed));
        let stream = UnixStream::connect(path).await.map_err(|e| {
            let kind = match e.kind() {
                ErrorKind::InvalidInput => TransportErrorKind::BadAddress,
                _ => TransportErrorKind::Refused,
            };
            error(kind, format!("connecting to {path}")).with_source(e)
        })?;
        let prologue = self.shared.prologue(peer);
        let (handshake, answer) = Handshake::dial(stream, &prologue, self.shared.me).await?;
        match answer {
            Answer::Accepted => {}
            Answer::Superseded => return Err(error(TransportErrorKind::Superseded, "its own dial goes on")),
            Answer::Full => return Err(error(TransportErrorKind::Refused, "too many connections wait there")),
        }
        let pipe = Arc::new(handshake.opened(self.shared.config.linger));
        attempt.won.send_replace(true);
        self.shared.register(&pipe);
        // `close` may have looked at the open ones just before
        if *self.shared.closing.borrow() {
            pipe.close(CloseCode::LEAVING).await;
            return Err(error(TransportErrorKind::Closed, ""));
        }
        Ok(pipe)
    }
}

#[async_trait]
impl Endpoint for UnixEndpoint {
    fn addresses(&self) -> Vec<SignalAddress> {
        vec![self.address.clone()]
    }

    async fn dial(&self, peer: PeerId, to: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
        if to.scheme() != NAME || !to.rest().starts_with('/') {
            return Err(error(TransportErrorKind::BadAddress, format!("{to} is not {NAME}:/path")));
        }
        let connect = tokio::time::timeout(self.shared.config.connect, self.connect(peer, to.rest()));
        tokio::select! {
            biased;
            () = closed(&self.shared.closing) => Err(error(TransportErrorKind::Closed, "the endpoint is closed")),
            result = connect => {
                result.unwrap_or_else(|_| Err(error(TransportErrorKind::Timeout, format!("nobody answers at {to}"))))
            }
        }
    }

    async fn next(&self) -> Option<Incoming> {
        let mut incoming = self.incoming.lock().await;
        tokio::select! {
            biased;
            () = closed(&self.shared.closing) => None,
            pipe = incoming.recv() => Some(Incoming::Connection(pipe?)),
        }
    }

    async fn close(&self) {
        self.shared.closing.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        let open: Vec<_> = locked(&self.shared.open).drain(..).filter_map(|pipe| pipe.upgrade()).collect();
        let mut closing = JoinSet::new();
        for pipe in open {
            closing.spawn(async move { pipe.close(CloseCode::LEAVING).await });
        }
        while closing.join_next().await.is_some() {}
        // those that nobody took
        if let Ok(mut incoming) = self.incoming.try_lock() {
            incoming.close();
            while incoming.try_recv().is_ok() {}
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for UnixEndpoint {
    fn drop(&mut self) {
        if !self.shared.closing.send_replace(true) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One dial of ours, for as long as it runs.
struct Attempt<'a> {
    shared: &'a Shared,
    key: (PeerId, u64),
    won: watch::Sender<bool>,
}

impl<'a> Attempt<'a> {
    fn new(shared: &'a Shared, peer: PeerId, number: u64) -> Self {
        let won = watch::Sender::new(false);
        locked(&shared.dialling).insert((peer, number), won.subscribe());
        Self { shared, key: (peer, number), won }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        locked(&self.shared.dialling).remove(&self.key);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn error(kind: TransportErrorKind, detail: impl Into<String>) -> TransportError {
    TransportError::new(kind, NAME, detail)
}
