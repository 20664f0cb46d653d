//! Carries signals between the processes of one machine: each device has a datagram socket in a directory
//! that they share, named for the device.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram as Sender;
use std::path::{Path, PathBuf};
use std::time::Duration;

use byway_api::{
    Bytes, Carried, PeerId, Sealed, SignalAddress, SignalContext, SignalError, SignalErrorKind, Signaling, async_trait,
};
use tokio::net::UnixDatagram;
use tokio::sync::{RwLock, watch};

const NAME: &str = "datagrams";
/// The scheme of its addresses.
const SCHEME: &str = "datagrams";
/// The longest envelope (`Sealed`).
const LONGEST: usize = 60 * 1024;
/// How long `close` waits for the `recv` that it ends.
const LINGER: Duration = Duration::from_secs(1);
/// A datagram is the sender's key and an envelope.
const KEY: usize = 32;

/// A carrier for devices that share a directory. Its addresses are `datagrams:{peerId}`.
///
/// Who may write to the directory may send, and may take the place of a device that is not running: all
/// that this gets him is sealed envelopes that he cannot open. The directory is made with mode 0700.
/// What waits for a device that does not read is bounded by the kernel (`net.unix.max_dgram_qlen`).
#[derive(Debug)]
pub struct Datagrams {
    directory: PathBuf,
    /// Set from `attach` to `close`. Who waits in `recv` holds it for reading.
    own: RwLock<Option<Own>>,
    closing: watch::Sender<bool>,
}

impl Datagrams {
    /// A carrier through the sockets in `directory`. Their paths have 53 characters more than its own,
    /// which the operating system limits to about 100.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), own: RwLock::default(), closing: watch::Sender::default() }
    }

    /// Where `peer` is reached.
    pub fn address_of(peer: PeerId) -> SignalAddress {
        match SignalAddress::new(&format!("{SCHEME}:{peer}")) {
            Ok(address) => address,
            Err(error) => unreachable!("a peer id is short and printable: {error}"),
        }
    }

    fn device(at: &SignalAddress) -> Option<PeerId> {
        (at.scheme() == SCHEME).then(|| at.rest().parse().ok()).flatten()
    }
}

#[async_trait]
impl Signaling for Datagrams {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn attach(&self, cx: SignalContext) -> Result<(), SignalError> {
        let mut own = self.own.write().await;
        if *self.closing.borrow() {
            return Err(closed());
        }
        *own = Some(Own::bind(&self.directory, cx.me)?);
        Ok(())
    }

    fn serves(&self, at: &SignalAddress) -> bool {
        Self::device(at).is_some()
    }

    fn addresses(&self) -> Vec<SignalAddress> {
        let own = self.own.try_read().ok();
        own.and_then(|own| own.as_ref().map(|own| Self::address_of(own.me))).into_iter().collect()
    }

    async fn send(&self, at: &SignalAddress, mail: Sealed) -> Result<(), SignalError> {
        use SignalErrorKind::{BadAddress, Busy, NoSuchPeer, Refused, Unreachable};
        let own = self.own.read().await;
        let Some(own) = &*own else { return Err(closed()) };
        let Some(to) = Self::device(at).filter(|device| *device == mail.to) else {
            return Err(error(BadAddress, format!("{at} is not {SCHEME}:{}", mail.to)));
        };
        if mail.envelope.len() > LONGEST {
            return Err(error(Refused, format!("an envelope of {} bytes, at most {LONGEST}", mail.envelope.len())));
        }
        let datagram = [own.me.as_bytes(), &mail.envelope[..]].concat();
        // A socket of its own: what one device does not read must not count against what others get.
        let sender = Sender::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let sender = sender.map_err(|e| error(SignalErrorKind::LocalFault, "no socket").with_source(e))?;
        sender.send_to(&datagram, self.directory.join(to.to_string())).map(drop).map_err(|e| {
            let kind = match e.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => NoSuchPeer,
                ErrorKind::WouldBlock => Busy,
                _ => Unreachable,
            };
            error(kind, format!("sending to {at}")).with_source(e)
        })
    }

    async fn recv(&self) -> Option<Carried> {
        let mut closing = self.closing.subscribe();
        let own = self.own.read().await;
        let own = own.as_ref()?;
        let mut buffer = vec![0; KEY + LONGEST + 1];
        loop {
            let length = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return None,
                received = own.socket.recv(&mut buffer) => received.ok()?,
            };
            // Whoever may write here may write anything.
            let Some((from, envelope)) = buffer[..length].split_first_chunk::<KEY>() else { continue };
            if envelope.len() > LONGEST {
                continue;
            }
            let mail = Sealed { to: own.me, envelope: Bytes::copy_from_slice(envelope) };
            return Some(Carried { mail, back: Self::address_of(PeerId::from_bytes(*from)) });
        }
    }

    async fn close(&self) {
        self.closing.send_replace(true);
        // A `recv` that nobody polls any more keeps the socket, but not us.
        if let Ok(mut own) = tokio::time::timeout(LINGER, self.own.write()).await {
            own.take();
        }
    }
}

/// Our socket. Its file goes with it.
#[derive(Debug)]
struct Own {
    me: PeerId,
    socket: UnixDatagram,
    path: PathBuf,
}

impl Own {
    fn bind(directory: &Path, me: PeerId) -> Result<Self, SignalError> {
        let failed = |e| error(SignalErrorKind::LocalFault, format!("in {}", directory.display())).with_source(e);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let path = directory.join(me.to_string());
        // A killed process leaves its file behind; nobody listens there.
        let probe = Sender::unbound().and_then(|socket| socket.connect(&path));
        match probe {
            Ok(()) => return Err(error(SignalErrorKind::Refused, format!("{} is in use", path.display()))),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => fs::remove_file(&path).map_err(failed)?,
            Err(_) => {}
        }
        let socket = UnixDatagram::bind(&path).map_err(failed)?;
        Ok(Self { me, socket, path })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // gone already, or nothing that we can do about it: the next one removes it
        let _ = fs::remove_file(&self.path);
    }
}

fn error(kind: SignalErrorKind, detail: impl Into<String>) -> SignalError {
    SignalError::new(kind, NAME, detail)
}

fn closed() -> SignalError {
    error(SignalErrorKind::Closed, "this carrier is closed, or not attached yet")
}
