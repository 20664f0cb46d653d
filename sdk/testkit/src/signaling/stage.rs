use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_api::{
    Bytes, Carried, Meter, NetworkId, PeerId, Proof, Prover, Sealed, Secret, SignalAddress, SignalContext, SignalError,
    SignalErrorKind, Signaling, StepError, StepErrorKind, UserId, WallTime,
};
use byway_wire::{DeviceKey, issue_self_token, make_proof};

use super::world::{Limits, SignalFixture, SignalWorld};
use crate::promise::{Broken, within};

/// Marks envelopes that only try whether a way is open; they may arrive late, and are passed over.
const PROBE: &[u8] = b"probe ";

/// One world, and what the suite does in it.
pub(super) struct Stage {
    pub(super) world: Box<dyn SignalWorld>,
    pub(super) limits: Limits,
    probes: AtomicU64,
}

/// A device with its carrier.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) peer: PeerId,
    pub(super) carrier: Arc<dyn Signaling>,
    pub(super) meter: Arc<Purse>,
}

impl Party {
    pub(super) fn context(&self, stage: &Stage, n: usize) -> SignalContext {
        stage.context(n, &self.meter)
    }
}

/// One fresh world for each direction: which carriers are the sender's and the receiver's.
pub(super) async fn directions(fixture: &dyn SignalFixture) -> [(Stage, usize, usize); 2] {
    [(Stage::new(fixture).await, 0, 1), (Stage::new(fixture).await, 1, 0)]
}

impl Stage {
    pub(super) async fn new(fixture: &dyn SignalFixture) -> Self {
        Self { world: fixture.world().await, limits: fixture.limits(), probes: AtomicU64::new(0) }
    }

    /// The device `n`, not attached yet, with so many tokens.
    pub(super) async fn newcomer(&self, n: usize, tokens: u64) -> Party {
        let meter = Arc::new(Purse { left: AtomicU64::new(tokens), spent: AtomicU64::new(0) });
        Party { peer: device(n).peer(), carrier: self.world.carrier(n).await, meter }
    }

    fn context(&self, n: usize, meter: &Arc<Purse>) -> SignalContext {
        let meter: Arc<dyn Meter> = Arc::<Purse>::clone(meter);
        SignalContext::new(device(n).peer(), network(), Arc::new(Someone::new(n)), meter)
    }

    /// Attaches a device.
    pub(super) async fn attach(&self, n: usize, party: &Party) -> Result<(), Broken> {
        let attached = within(self.limits.patience, "attach", party.carrier.attach(party.context(self, n))).await?;
        attached.map_err(|e| Broken::new(format!("attach failed: {e}")))
    }

    /// The device `n`, attached.
    pub(super) async fn party(&self, n: usize) -> Result<Party, Broken> {
        let party = self.newcomer(n, u64::MAX).await;
        self.attach(n, &party).await?;
        Ok(party)
    }

    /// Two attached devices that have reached each other.
    pub(super) async fn pair(&self, near: usize, far: usize) -> Result<(Party, Party), Broken> {
        let (near, far) = (self.party(near).await?, self.party(far).await?);
        self.settle(&near, &far).await?;
        Ok((near, far))
    }

    /// Waits until both reach each other.
    pub(super) async fn settle(&self, a: &Party, b: &Party) -> Result<(), Broken> {
        tokio::try_join!(self.reach(a, b), self.reach(b, a))?;
        Ok(())
    }

    /// Sends probes until one arrives. Connecting takes its time, and may fail and be tried again.
    async fn reach(&self, from: &Party, to: &Party) -> Result<(), Broken> {
        let why = Mutex::new(String::new());
        let probing = async {
            loop {
                let text = format!("{} to {}", self.probes.fetch_add(1, Ordering::Relaxed), to.peer.short());
                let probe = mail(to.peer, &[PROBE, text.as_bytes()].concat());
                let sent = from.carrier.send(&self.world.address(to.peer), probe).await;
                let wait = if sent.is_ok() { self.limits.quiet } else { self.limits.pause };
                *lock(&why) = sent.map_or_else(|e| e.to_string(), |()| "a sent envelope did not arrive".to_owned());
                match tokio::time::timeout(wait, to.carrier.recv()).await {
                    Ok(Some(carried)) if is_probe(&carried) => return Ok(()),
                    Ok(Some(carried)) => return Err(Broken::new(format!("{} came unasked", describe(&carried.mail)))),
                    Ok(None) => return Err(Broken::new("recv yielded None though the carrier is open")),
                    Err(_) => {}
                }
            }
        };
        match tokio::time::timeout(self.limits.patience, probing).await {
            Ok(reached) => reached,
            Err(_) => {
                let why = lock(&why).clone();
                Err(Broken::new(format!("an attached device was not reached within {:?}: {why}", self.limits.patience)))
            }
        }
    }

    /// Sends, and the carrier takes it.
    pub(super) async fn send(&self, from: &Party, at: &SignalAddress, mail: &Sealed) -> Result<(), Broken> {
        let what = describe(mail);
        self.try_send(from, at, mail).await?.map_err(|e| Broken::new(format!("{what} could not be sent: {e}")))
    }

    /// Sends, whatever comes of it.
    pub(super) async fn try_send(
        &self,
        from: &Party,
        at: &SignalAddress,
        mail: &Sealed,
    ) -> Result<Result<(), SignalError>, Broken> {
        within(self.limits.patience, "the end of a send", from.carrier.send(at, mail.clone())).await
    }

    /// The next envelope that is no probe.
    pub(super) async fn recv(&self, at: &Party) -> Result<Carried, Broken> {
        let next = async {
            loop {
                match at.carrier.recv().await {
                    Some(carried) if is_probe(&carried) => {}
                    Some(carried) => return Ok(carried),
                    None => return Err(Broken::new("recv yielded None though the carrier is open")),
                }
            }
        };
        within(self.limits.patience, "an envelope that was taken", next).await?
    }

    /// The next envelope is this one.
    pub(super) async fn expect(&self, at: &Party, mail: &Sealed) -> Result<Carried, Broken> {
        let carried = self.recv(at).await?;
        if carried.mail == *mail {
            return Ok(carried);
        }
        Err(Broken::new(format!("{} was sent, and {} arrived", describe(mail), describe(&carried.mail))))
    }

    /// Nothing but probes comes before all is quiet.
    pub(super) async fn expect_nothing(&self, at: &Party) -> Result<(), Broken> {
        match tokio::time::timeout(self.limits.quiet, self.recv(at)).await {
            Ok(Ok(carried)) => Err(Broken::new(format!("{} arrived unexpectedly", describe(&carried.mail)))),
            Ok(Err(broken)) => Err(broken),
            Err(_) => Ok(()),
        }
    }

    /// Waits until `condition` holds.
    pub(super) async fn until(&self, what: &str, condition: impl Fn() -> bool) -> Result<(), Broken> {
        let coming = async {
            while !condition() {
                tokio::time::sleep(self.limits.pause).await;
            }
        };
        within(self.limits.patience, what, coming).await
    }

    /// Closes the carriers.
    pub(super) async fn end<const N: usize>(&self, parties: [Party; N]) -> Result<(), Broken> {
        for party in parties {
            within(self.limits.patience, "close", party.carrier.close()).await?;
        }
        Ok(())
    }
}

/// An envelope for `to` as a carrier sees it (`sdk/docs/protocol.md`, `SealedEnvelope`), with `body` as
/// its sealed part.
pub(super) fn mail(to: PeerId, body: &[u8]) -> Sealed {
    let mut bytes = head(to);
    push_varint(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    Sealed { to, envelope: bytes.into() }
}

/// An envelope of `length` bytes, each telling its place.
pub(super) fn mail_of(to: PeerId, length: usize) -> Sealed {
    // a body of this size has a length of three bytes
    let body = length.saturating_sub(head(to).len() + 3);
    let body: Vec<u8> = (0..body).map(|at| at.wrapping_mul(31).wrapping_add(at >> 8) as u8).collect();
    let mut mail = mail(to, &body);
    if mail.envelope.len() != length {
        let mut bytes = mail.envelope.to_vec();
        bytes.resize(length, 0);
        mail.envelope = Bytes::from(bytes);
    }
    mail
}

fn head(to: PeerId) -> Vec<u8> {
    let mut bytes = vec![0x08, 1, 0x10, 1, 0x1a, 32];
    bytes.extend_from_slice(to.as_bytes());
    bytes.push(0x3a);
    bytes
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn is_probe(carried: &Carried) -> bool {
    carried.mail.envelope.windows(PROBE.len()).take(64).any(|part| part == PROBE)
}

pub(super) fn describe(mail: &Sealed) -> String {
    let text: String = mail.envelope.iter().skip(40).take(24).map(|&b| printable(b)).collect();
    format!("an envelope for {:?} of {} bytes ({text})", mail.to, mail.envelope.len())
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

/// Polls a future at most so often, and then drops it.
pub(super) async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn network() -> NetworkId {
    match NetworkId::new("conformance") {
        Ok(network) => network,
        Err(error) => unreachable!("a constant name: {error}"),
    }
}

/// The key of the device `n`.
pub(super) fn device(n: usize) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([u8::try_from(n).unwrap_or(u8::MAX) ^ 0x55; 32]))
}

/// A device of an open network that proves what it is.
struct Someone {
    key: DeviceKey,
    credential: String,
    proofs: AtomicU64,
}

impl Someone {
    fn new(n: usize) -> Self {
        const LIFE: Duration = Duration::from_secs(86_400);
        let key = device(n);
        let user = match UserId::new(&format!("user{n}")) {
            Ok(user) => user,
            Err(error) => unreachable!("a short name: {error}"),
        };
        let credential = issue_self_token(&key, &network(), &user, &key.peer(), now(), LIFE, [7; 16]);
        Self { key, credential, proofs: AtomicU64::new(1) }
    }
}

impl fmt::Debug for Someone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Someone({:?})", self.key.peer())
    }
}

impl Prover for Someone {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        let number = self.proofs.fetch_add(1, Ordering::Relaxed);
        let mut unique = [0; 16];
        unique[..8].copy_from_slice(&number.to_be_bytes());
        make_proof(&self.key, &self.credential, method, target, nonce, now(), unique)
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A meter with so many tokens that counts what was spent.
#[derive(Debug)]
pub(super) struct Purse {
    left: AtomicU64,
    spent: AtomicU64,
}

impl Purse {
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::SeqCst)
    }

    pub(super) fn fill(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
    }
}

impl Meter for Purse {
    fn spend(&self, what: &'static str) -> Result<(), StepError> {
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map_err(|_| StepError::new(StepErrorKind::NoBudget, "purse", what))?;
        self.spent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The kind of a refusal, or `None`.
pub(super) fn kind(sent: &Result<(), SignalError>) -> Option<SignalErrorKind> {
    sent.as_ref().err().map(SignalError::kind)
}
