//! What is said on a fresh stream before the first frame, and the channel binding that follows from it.

use std::io;

use byway_api::{BindingKind, ChannelBinding, CloseCode, PeerId};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use sha2::{Digest, Sha256};

pub(crate) type Nonce = [u8; 32];

/// The dialer's last word: the connection is open.
pub(crate) const GO: [u8; 1] = [0];

const YES: u8 = 0;
const NO: u8 = 1;

/// What is different for every connection.
pub(crate) fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// An answerer's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Yes(Nonce),
    No(CloseCode),
}

/// The dialer asks, and waits for the answer.
pub(crate) async fn ask(stream: &mut Stream, ours: &Nonce) -> io::Result<Answer> {
    stream.write_all(ours).await?;
    stream.flush().await?;
    let mut verdict = [0; 1];
    stream.read_exact(&mut verdict).await?;
    match verdict[0] {
        YES => {
            let mut theirs = Nonce::default();
            stream.read_exact(&mut theirs).await?;
            Ok(Answer::Yes(theirs))
        }
        NO => {
            let mut code = [0; 2];
            stream.read_exact(&mut code).await?;
            Ok(Answer::No(CloseCode(u16::from_be_bytes(code))))
        }
        other => Err(violation(format!("an answer of kind {other}"))),
    }
}

/// The answerer hears what is asked.
pub(crate) async fn hear(stream: &mut Stream) -> io::Result<Nonce> {
    let mut theirs = Nonce::default();
    stream.read_exact(&mut theirs).await?;
    Ok(theirs)
}

/// The answerer says yes, and waits for the last word.
pub(crate) async fn agree(stream: &mut Stream, ours: &Nonce) -> io::Result<()> {
    let mut yes = [YES; 33];
    yes[1..].copy_from_slice(ours);
    stream.write_all(&yes).await?;
    stream.flush().await?;
    let mut last = [0; 1];
    stream.read_exact(&mut last).await?;
    if last == GO { Ok(()) } else { Err(violation(format!("a last word of kind {}", last[0]))) }
}

/// The answerer says no, and waits until the dialer has read it and is gone.
pub(crate) async fn refuse(stream: &mut Stream, code: CloseCode) -> io::Result<()> {
    let [high, low] = code.0.to_be_bytes();
    stream.write_all(&[NO, high, low]).await?;
    stream.flush().await?;
    let mut rest = [0; 1];
    // Whatever still comes: it has been read, or the stream has ended.
    stream.read(&mut rest).await.map(|_| ())
}

fn violation(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Who is at one end, and what it has said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) peer: PeerId,
    pub(crate) nonce: Nonce,
}

/// What a channel is bound to.
pub(crate) fn binding(dialer: &End, answerer: &End) -> ChannelBinding {
    let mut digest = Sha256::new();
    digest.update(b"byway/libp2p-binding/v1\0");
    digest.update(dialer.peer.as_bytes());
    digest.update(answerer.peer.as_bytes());
    digest.update(dialer.nonce);
    digest.update(answerer.nonce);
    ChannelBinding::new(BindingKind::Libp2pPeers, digest.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_every_role_changes_the_binding() {
        let end = |peer: u8, nonce: u8| End { peer: PeerId::from_bytes([peer; 32]), nonce: [nonce; 32] };
        let all = [
            binding(&end(1, 1), &end(2, 2)),
            binding(&end(2, 2), &end(1, 1)),
            binding(&end(1, 2), &end(2, 1)),
            binding(&end(1, 1), &end(3, 2)),
            binding(&end(1, 1), &end(2, 3)),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one) && one.bytes.len() == 32);
        }
    }
}
