//! Hello: two devices prove to each other who they are, over the very channel they talk on.
//!
//! Each side sends its Hello at once, and its signature over the transcript of both Hellos and the
//! channel's binding as soon as it has the other's.

use std::fmt;

use bytes::{Bytes, BytesMut};
use byway_api::{
    BindingKind, ChannelBinding, Instance, Member, Membership, MembershipError, MembershipErrorKind, NetworkId, PeerId,
    WallTime,
};
use prost::Message as _;

use crate::digest::sha256_of_parts;
use crate::error::at_most;
use crate::fields::{Fields, Most, check_counts, message};
use crate::proto::hello_frame::Body;
use crate::record::check_capabilities;
use crate::{DeviceKey, Domain, WireError, limits, proto, verify};

/// The newest version that we speak.
const VERSION: u32 = 1;
/// The oldest version that we speak.
const MIN_VERSION: u32 = 1;
const WHAT: &str = "hello";

/// Which side of the channel we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We opened it (WebRTC: we made the offer).
    Dialer,
    /// The other side opened it.
    Answerer,
}

impl Role {
    const fn domain(self) -> Domain {
        match self {
            Self::Dialer => Domain::HelloDialer,
            Self::Answerer => Domain::HelloAnswerer,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Answerer,
            Self::Answerer => Self::Dialer,
        }
    }
}

/// What we say in our Hello.
#[derive(Clone, Debug)]
pub struct HelloConfig {
    /// Our network.
    pub network: NetworkId,
    /// Our credential.
    pub credential: String,
    /// The number of our newest record.
    pub record_seq: u64,
    /// What we can do; at most [`limits::CAPABILITIES`].
    pub capabilities: Vec<String>,
    /// The longest transport frame that we take.
    pub max_frame: usize,
    /// This process start.
    pub instance: Instance,
    /// The newest revocation list that we hold.
    pub revocation_seq: u64,
}

/// What the other side said, and proved to have said on this channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// The device.
    pub peer: PeerId,
    /// What its credential proves.
    pub member: Member,
    /// Its process start.
    pub instance: Instance,
    /// The number of its newest record.
    pub record_seq: u64,
    /// The newest revocation list that it holds.
    pub revocation_seq: u64,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The longest transport frame that it takes, never more than [`limits::FRAME_MAX`].
    pub max_frame: usize,
    /// Its clock when it spoke, within [`limits::CLOCK_SKEW`] of ours.
    pub time: WallTime,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HelloStep {
    /// Send this and wait for the next frame.
    Send(Bytes),
    /// Wait for the next frame.
    Wait,
    /// The link is up, once `send` is sent.
    Done {
        /// To be sent first.
        send: Option<Bytes>,
        /// The other side.
        peer: Box<PeerHello>,
    },
}

/// Why a Hello was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectCode {
    /// For another network.
    WrongNetwork,
    /// The credential has expired.
    Expired,
    /// The clocks differ too much.
    Clock,
    /// No common version.
    Version,
    /// The key is banned, or its credential was taken back.
    Banned,
    /// No room for another link.
    Full,
    /// Malformed, or a proof that does not hold.
    Protocol,
}

impl RejectCode {
    const fn to_proto(self) -> proto::hello_reject::Code {
        use proto::hello_reject::Code;
        match self {
            Self::WrongNetwork => Code::WrongNetwork,
            Self::Expired => Code::Expired,
            Self::Clock => Code::Clock,
            Self::Version => Code::Version,
            Self::Banned => Code::Banned,
            Self::Full => Code::Full,
            Self::Protocol => Code::Protocol,
        }
    }

    const fn from_proto(code: proto::hello_reject::Code) -> Self {
        use proto::hello_reject::Code;
        match code {
            Code::WrongNetwork => Self::WrongNetwork,
            Code::Expired => Self::Expired,
            Code::Clock => Self::Clock,
            Code::Version => Self::Version,
            Code::Banned => Self::Banned,
            Code::Full => Self::Full,
            Code::Protocol | Code::Unspecified => Self::Protocol,
        }
    }
}

/// The handshake failed; close the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloError {
    /// Why.
    pub code: RejectCode,
    /// Why, for people.
    pub text: String,
    /// Send this before closing, so that the other side can explain it too.
    pub send: Option<Bytes>,
    /// The other side refused us.
    pub by_peer: bool,
}

impl HelloError {
    fn new(code: RejectCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, send: Some(reject(code, &text)), text, by_peer: false }
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.by_peer { "the peer refused our hello" } else { "hello refused" };
        write!(f, "{who} ({:?}): {}", self.code, self.text)
    }
}

impl std::error::Error for HelloError {}

impl From<WireError> for HelloError {
    fn from(e: WireError) -> Self {
        Self::new(RejectCode::Protocol, e.to_string())
    }
}

impl From<MembershipError> for HelloError {
    fn from(e: MembershipError) -> Self {
        let code = match e.kind() {
            MembershipErrorKind::WrongNetwork => RejectCode::WrongNetwork,
            MembershipErrorKind::Expired => RejectCode::Expired,
            MembershipErrorKind::NotYetValid => RejectCode::Clock,
            MembershipErrorKind::Revoked => RejectCode::Banned,
            _ => RejectCode::Protocol,
        };
        Self::new(code, e.to_string())
    }
}

/// A refusal to send before closing, for reasons that Hello itself does not see: banned, full.
/// The text is cut to [`limits::TEXT_MAX`] bytes.
pub fn reject(code: RejectCode, text: &str) -> Bytes {
    let text = limits::cut_text(text);
    encode(Body::Reject(proto::HelloReject { code: code.to_proto().into(), text }))
}

fn encode(body: Body) -> Bytes {
    let frame = proto::HelloFrame { body: Some(body) };
    let mut buf = BytesMut::with_capacity(frame.encoded_len() + 4);
    // A `BytesMut` grows, so this cannot fail.
    let _ = frame.encode_length_delimited(&mut buf);
    buf.freeze()
}

/// One handshake on one channel. Pure: the caller sends, receives, keeps the time and gives up after
/// [`limits::HELLO_TIMEOUT`].
#[derive(Debug)]
pub struct Handshake {
    role: Role,
    network: NetworkId,
    binding: Vec<u8>,
    hello: Bytes,
    received: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Hello,
    Auth { transcript: [u8; 32], peer: Box<PeerHello> },
    Over,
}

impl Handshake {
    /// Begins. Send the bytes at once, whatever the role. `nonce` must be random.
    pub fn start(
        role: Role,
        config: &HelloConfig,
        key: &DeviceKey,
        binding: &ChannelBinding,
        nonce: [u8; 32],
        now: WallTime,
    ) -> (Self, Bytes) {
        let hello = proto::Hello {
            version: VERSION,
            network_id: config.network.as_str().to_owned(),
            peer_key: Bytes::copy_from_slice(key.peer().as_bytes()),
            nonce: Bytes::copy_from_slice(&nonce),
            credential: config.credential.clone(),
            record_seq: config.record_seq,
            revocation_seq: config.revocation_seq,
            capabilities: config.capabilities.clone(),
            max_frame: u32::try_from(config.max_frame).unwrap_or(u32::MAX),
            time_ms: now.as_millis(),
            min_version: MIN_VERSION,
            instance: Bytes::copy_from_slice(config.instance.as_bytes()),
        };
        let hello = Bytes::from(hello.encode_to_vec());
        let handshake = Self {
            role,
            network: config.network.clone(),
            binding: binding_bytes(binding),
            hello: hello.clone(),
            received: 0,
            phase: Phase::Hello,
        };
        (handshake, encode(Body::Hello(hello)))
    }

    /// Takes one transport frame: a Hello, a signature, both, or a refusal.
    ///
    /// # Errors
    /// [`HelloError`]; the handshake is over then.
    pub fn receive(
        &mut self,
        frame: Bytes,
        key: &DeviceKey,
        membership: &dyn Membership,
        now: WallTime,
    ) -> Result<HelloStep, HelloError> {
        let step = self.take_frame(&frame, key, membership, now);
        if !matches!(step, Ok(HelloStep::Send(_) | HelloStep::Wait)) {
            self.phase = Phase::Over;
        }
        step
    }

    fn take_frame(
        &mut self,
        frame: &Bytes,
        key: &DeviceKey,
        membership: &dyn Membership,
        now: WallTime,
    ) -> Result<HelloStep, HelloError> {
        // An empty frame is counted as well, or it could be repeated for ever.
        self.received += frame.len().max(1);
        at_most(WHAT, limits::HELLO_MAX, self.received)?;
        let mut send = None;
        let mut done = None;
        let mut batch = Fields::new(WHAT, frame);
        while let Some(range) = batch.next_delimited().map_err(WireError::from)? {
            let part: proto::HelloFrame = message(WHAT, frame.slice(range))?;
            match (part.body, &mut self.phase) {
                (None, _) => {}
                (Some(Body::Reject(reject)), _) => return Err(refused(&reject)),
                (Some(Body::Hello(theirs)), Phase::Hello) => {
                    let peer = Box::new(self.check_hello(&theirs, key, membership, now)?);
                    let transcript = self.transcript(&theirs);
                    let signature = key.sign(self.role.domain(), &transcript);
                    let signature = Bytes::copy_from_slice(&signature);
                    send = Some(encode(Body::Auth(proto::HelloAuth { signature })));
                    self.phase = Phase::Auth { transcript, peer };
                }
                (Some(Body::Auth(auth)), Phase::Auth { transcript, peer }) => {
                    verify(&peer.peer, self.role.other().domain(), &transcript[..], &auth.signature)?;
                    done = Some(peer.clone());
                    self.phase = Phase::Over;
                }
                (Some(_), _) => return Err(HelloError::new(RejectCode::Protocol, "out of turn")),
            }
        }
        Ok(match (done, send) {
            (Some(peer), send) => HelloStep::Done { send, peer },
            (None, Some(bytes)) => HelloStep::Send(bytes),
            (None, None) => HelloStep::Wait,
        })
    }

    fn check_hello(
        &self,
        bytes: &Bytes,
        key: &DeviceKey,
        membership: &dyn Membership,
        now: WallTime,
    ) -> Result<PeerHello, HelloError> {
        check_counts(WHAT, bytes, &[Most(8, "capabilities", limits::CAPABILITIES)])?;
        let hello: proto::Hello = message(WHAT, bytes.clone())?;
        if hello.version < MIN_VERSION || hello.min_version > VERSION {
            let text = format!("we speak {MIN_VERSION} to {VERSION}, not {} to {}", hello.min_version, hello.version);
            return Err(HelloError::new(RejectCode::Version, text));
        }
        if hello.network_id != self.network.as_str() {
            return Err(HelloError::new(RejectCode::WrongNetwork, "for another network"));
        }
        let peer = PeerId::from_slice(&hello.peer_key).map_err(WireError::id(WHAT))?;
        if peer == key.peer() {
            return Err(HelloError::new(RejectCode::Protocol, "this is our own key"));
        }
        let instance = Instance::from_slice(&hello.instance).map_err(WireError::id(WHAT))?;
        if hello.nonce.len() != 32 {
            return Err(HelloError::new(RejectCode::Protocol, "the nonce must have 32 bytes"));
        }
        let max_frame = hello.max_frame as usize;
        if max_frame < limits::HELLO_MAX {
            return Err(HelloError::new(RejectCode::Protocol, "max_frame is smaller than a hello"));
        }
        check_capabilities(WHAT, &hello.capabilities)?;
        let time = WallTime::from_millis(hello.time_ms);
        if time.since(now).max(now.since(time)) > limits::CLOCK_SKEW {
            return Err(HelloError::new(RejectCode::Clock, "the clocks differ by more than a day"));
        }
        at_most("credential", limits::CREDENTIAL_MAX, hello.credential.len())?;
        let member = membership.verify(&hello.credential, &peer, now)?;
        if member.peer != peer {
            return Err(HelloError::new(RejectCode::Protocol, "the credential is for another device"));
        }
        Ok(PeerHello {
            peer,
            member,
            instance,
            record_seq: hello.record_seq,
            revocation_seq: hello.revocation_seq,
            capabilities: hello.capabilities,
            max_frame: max_frame.min(limits::FRAME_MAX),
            time,
        })
    }

    /// The same on both sides only if both saw the same Hellos on the same channel.
    fn transcript(&self, theirs: &Bytes) -> [u8; 32] {
        let (dialer, answerer) = match self.role {
            Role::Dialer => (&self.hello, theirs),
            Role::Answerer => (theirs, &self.hello),
        };
        sha256_of_parts(&[b"byway/hello/v1", self.network.as_str().as_bytes(), &self.binding, dialer, answerer])
    }
}

fn refused(reject: &proto::HelloReject) -> HelloError {
    let code = RejectCode::from_proto(reject.code());
    HelloError { code, text: limits::cut_text(&reject.text), send: None, by_peer: true }
}

/// One byte for the kind, then the binding.
fn binding_bytes(binding: &ChannelBinding) -> Vec<u8> {
    let kind = match binding.kind {
        BindingKind::InProcess => 1,
        BindingKind::DtlsCertificates => 2,
        BindingKind::Libp2pPeers => 3,
        BindingKind::NoiseHash => 4,
        _ => u8::MAX,
    };
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&binding.bytes);
    bytes
}
