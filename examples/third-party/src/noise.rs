//! Frames in Noise messages over a Unix domain socket.

use std::fmt;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::time::Duration;

use byway_api::{
    BindingKind, Bytes, ChannelBinding, CloseCode, Connection, PathInfo, PathKind, PeerId, Received, TransportError,
    TransportErrorKind, async_trait,
};
use snow::StatelessTransportState as Keys;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};

use crate::unix::{MAX_FRAME, error};

const PATTERN: &str = "Noise_NN_25519_ChaChaPoly_BLAKE2s";
/// A record is a Noise message with its length in front, two bytes.
const RECORD: usize = 65_535;
const TAG: usize = 16;
/// The first byte of a message says what the rest is: a piece of a frame, its last piece, or the end.
const PIECE: u8 = 0;
const LAST: u8 = 1;
const END: u8 = 2;

/// What the answerer makes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    Accepted = 0,
    Superseded = 1,
    Full = 2,
}

/// A channel whose far side has completed a handshake; on the answerer's side it waits for its answer.
pub(crate) struct Handshake {
    stream: UnixStream,
    keys: Keys,
    hash: Vec<u8>,
}

impl Handshake {
    /// Asks, and waits for the answer.
    pub(crate) async fn dial(
        mut stream: UnixStream,
        prologue: &[u8],
        me: PeerId,
    ) -> Result<(Self, Answer), TransportError> {
        let shaken = async {
            let mut noise = builder(prologue)?.build_initiator().map_err(invalid)?;
            let mut buffer = vec![0; RECORD];
            let length = noise.write_message(&[], &mut buffer).map_err(invalid)?;
            write_record(&mut stream, &buffer[..length]).await?;
            let message = read_record(&mut stream).await?;
            noise.read_message(&message, &mut buffer).map_err(invalid)?;
            let hash = noise.get_handshake_hash().to_vec();
            let keys = noise.into_stateless_transport_mode().map_err(invalid)?;
            write_record(&mut stream, &sealed(&keys, 0, me.as_bytes())?).await?;
            let answer = match opened(&keys, 0, &read_record(&mut stream).await?)?[..] {
                [0] => Answer::Accepted,
                [1] => Answer::Superseded,
                [2] => Answer::Full,
                _ => return Err(invalid("an unknown answer")),
            };
            IoResult::Ok((keys, hash, answer))
        };
        let (keys, hash, answer) = shaken
            .await
            .map_err(|e| error(TransportErrorKind::Handshake, "another device, or a closing one").with_source(e))?;
        Ok((Self { stream, keys, hash }, answer))
    }

    /// Lets somebody ask; who he says he is.
    pub(crate) async fn answer(mut stream: UnixStream, prologue: &[u8]) -> IoResult<(Self, PeerId)> {
        let mut noise = builder(prologue)?.build_responder().map_err(invalid)?;
        let mut buffer = vec![0; RECORD];
        noise.read_message(&read_record(&mut stream).await?, &mut buffer).map_err(invalid)?;
        let length = noise.write_message(&[], &mut buffer).map_err(invalid)?;
        write_record(&mut stream, &buffer[..length]).await?;
        let hash = noise.get_handshake_hash().to_vec();
        let keys = noise.into_stateless_transport_mode().map_err(invalid)?;
        let from = opened(&keys, 0, &read_record(&mut stream).await?)?;
        let from = PeerId::from_slice(&from).map_err(invalid)?;
        Ok((Self { stream, keys, hash }, from))
    }

    pub(crate) async fn refuse(mut self, why: Answer) -> IoResult<()> {
        write_record(&mut self.stream, &sealed(&self.keys, 0, &[why as u8])?).await
    }

    pub(crate) async fn accept(mut self, linger: Duration) -> IoResult<Pipe> {
        write_record(&mut self.stream, &sealed(&self.keys, 0, &[Answer::Accepted as u8])?).await?;
        Ok(self.opened(linger))
    }

    pub(crate) fn opened(self, linger: Duration) -> Pipe {
        let Self { stream, keys, hash } = self;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let remote = pid.map_or_else(|| "process of this machine".to_owned(), |pid| format!("process {pid}"));
        let (input, output) = stream.into_split();
        let reader = Reader { input, raw: vec![0; 2 * (RECORD + 2)], at: 0..0, received: 1, frame: Vec::new() };
        Pipe {
            keys,
            hash,
            remote,
            linger,
            writer: Mutex::new(Some(Writer { output, out: Vec::new(), written: 0, sent: 1 })),
            reader: Mutex::new(Some(reader)),
            end: watch::Sender::default(),
        }
    }
}

/// One connection.
pub(crate) struct Pipe {
    keys: Keys,
    hash: Vec<u8>,
    remote: String,
    linger: Duration,
    writer: Mutex<Option<Writer>>,
    reader: Mutex<Option<Reader>>,
    end: watch::Sender<Option<CloseCode>>,
}

struct Writer {
    output: OwnedWriteHalf,
    /// Records, of which so many bytes are written: a send that was interrupted leaves no half record.
    out: Vec<u8>,
    written: usize,
    sent: u64,
}

impl Writer {
    fn push(&mut self, keys: &Keys, kind: u8, content: &[u8]) -> IoResult<()> {
        let message = sealed(keys, self.sent, &[&[kind], content].concat())?;
        self.sent += 1;
        self.out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.out.extend_from_slice(&message);
        Ok(())
    }

    async fn flush(&mut self) -> IoResult<()> {
        while self.written < self.out.len() {
            self.written += self.output.write(&self.out[self.written..]).await?;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    async fn send(&mut self, keys: &Keys, frame: &[u8]) -> IoResult<()> {
        self.flush().await?;
        let (first, last) = frame.split_at(frame.len().saturating_sub(RECORD - TAG - 1));
        if !first.is_empty() {
            self.push(keys, PIECE, first)?;
        }
        self.push(keys, LAST, last)?;
        self.flush().await
    }
}

struct Reader {
    input: OwnedReadHalf,
    raw: Vec<u8>,
    /// What was read of `raw` and not used yet.
    at: std::ops::Range<usize>,
    received: u64,
    /// The pieces so far of a frame that is not whole.
    frame: Vec<u8>,
}

impl Reader {
    async fn next(&mut self, keys: &Keys) -> IoResult<Received> {
        loop {
            let message = opened(keys, self.received, &self.record().await?)?;
            self.received += 1;
            let (kind, content) = message.split_first().ok_or_else(|| invalid("an empty message"))?;
            match (*kind, content) {
                (END, [high, low]) => return Ok(Received::Closed(CloseCode(u16::from_be_bytes([*high, *low])))),
                (PIECE | LAST, _) if self.frame.len() + content.len() > MAX_FRAME => {
                    return Err(invalid("a frame that is too long"));
                }
                (PIECE, _) => self.frame.extend_from_slice(content),
                (LAST, _) if self.frame.is_empty() => return Ok(Received::Frame(Bytes::from(message).slice(1..))),
                (LAST, _) => {
                    self.frame.extend_from_slice(content);
                    return Ok(Received::Frame(std::mem::take(&mut self.frame).into()));
                }
                _ => return Err(invalid("an unknown message")),
            }
        }
    }

    /// Cancel-safe: what was read stays in `raw`.
    async fn record(&mut self) -> IoResult<Vec<u8>> {
        loop {
            if let Some((length, rest)) = self.raw[self.at.clone()].split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                if let Some(record) = rest.get(..length) {
                    let record = record.to_vec();
                    self.at.start += 2 + length;
                    return Ok(record);
                }
            }
            if self.raw.len() - self.at.start < RECORD + 2 {
                self.raw.copy_within(self.at.clone(), 0);
                self.at = 0..self.at.len();
            }
            let read = self.input.read(&mut self.raw[self.at.end..]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.at.end += read;
        }
    }
}

impl Pipe {
    async fn ended(&self) -> CloseCode {
        let mut end = self.end.subscribe();
        // the sender lives as long as this reference
        end.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(CloseCode::LOST)
    }

    /// The first reason stays.
    fn end(&self, code: CloseCode) -> bool {
        self.end.send_if_modified(|end| end.is_none() && end.replace(code).is_none())
    }
}

#[async_trait]
impl Connection for Pipe {
    fn peer(&self) -> Option<PeerId> {
        None
    }

    fn binding(&self) -> ChannelBinding {
        ChannelBinding::new(BindingKind::NoiseHash, self.hash.clone())
    }

    fn path(&self) -> PathInfo {
        PathInfo::new(PathKind::Direct, format!("process {}", std::process::id()), self.remote.clone())
    }

    async fn send(&self, frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > MAX_FRAME {
            let detail = format!("a frame of {} bytes, at most {MAX_FRAME}", frame.len());
            return Err(error(TransportErrorKind::TooLarge, detail));
        }
        let closed = || error(TransportErrorKind::Closed, "");
        let sending = async {
            let mut writer = self.writer.lock().await;
            let writer = writer.as_mut().ok_or_else(closed)?;
            writer.send(&self.keys, &frame).await.map_err(|e| closed().with_source(e))
        };
        tokio::select! {
            biased;
            _ = self.ended() => Err(closed()),
            sent = sending => sent,
        }
    }

    async fn recv(&self) -> Result<Received, TransportError> {
        let receiving = async {
            let mut reader = self.reader.lock().await;
            match reader.as_mut() {
                // whatever went wrong, the channel is lost
                Some(reader) => reader.next(&self.keys).await.unwrap_or(Received::Closed(CloseCode::LOST)),
                None => Received::Closed(CloseCode::LOST),
            }
        };
        tokio::select! {
            biased;
            code = self.ended() => Ok(Received::Closed(code)),
            received = receiving => {
                if let Received::Closed(code) = received {
                    self.end(code);
                }
                Ok(received)
            }
        }
    }

    async fn close(&self, code: CloseCode) {
        let first = self.end(code);
        let _ = tokio::time::timeout(self.linger, async {
            let mut slot = self.writer.lock().await;
            if let (true, Some(writer)) = (first, slot.as_mut()) {
                let told = writer.push(&self.keys, END, &code.0.to_be_bytes());
                // a far side that is gone needs no telling
                let _ = (told, writer.flush().await);
            }
            slot.take();
        })
        .await;
        // `send` and `recv` let go of theirs, now that `end` is set
        if let Ok(mut writer) = tokio::time::timeout(self.linger, self.writer.lock()).await {
            writer.take();
        }
        if let Ok(mut reader) = tokio::time::timeout(self.linger, self.reader.lock()).await {
            reader.take();
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("remote", &self.remote).field("end", &*self.end.borrow()).finish_non_exhaustive()
    }
}

fn builder(prologue: &[u8]) -> IoResult<snow::Builder<'_>> {
    snow::Builder::new(PATTERN.parse().map_err(invalid)?).prologue(prologue).map_err(invalid)
}

fn sealed(keys: &Keys, number: u64, content: &[u8]) -> IoResult<Vec<u8>> {
    let mut message = vec![0; content.len() + TAG];
    keys.write_message(number, content, &mut message).map_err(invalid)?;
    Ok(message)
}

fn opened(keys: &Keys, number: u64, message: &[u8]) -> IoResult<Vec<u8>> {
    let mut content = vec![0; message.len()];
    let length = keys.read_message(number, message, &mut content).map_err(invalid)?;
    content.truncate(length);
    Ok(content)
}

async fn write_record(stream: &mut UnixStream, message: &[u8]) -> IoResult<()> {
    let length = u16::try_from(message.len()).map_err(invalid)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

async fn read_record(stream: &mut UnixStream) -> IoResult<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn invalid(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> IoError {
    IoError::new(ErrorKind::InvalidData, e)
}
