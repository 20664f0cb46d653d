//! What stands in the body of a signal.
//!
//! The first byte is the version, 1. After it, by [`SignalKind`]:
//!
//! | kind | rest |
//! |---|---|
//! | Offer, Answer | the session description as text (RFC 8866), at most 12 KiB |
//! | Candidate | one candidate attribute as text, `candidate:...` (RFC 8839), at most 512 bytes |
//! | Bye | one byte, the reason |

use bytes::{BufMut, Bytes, BytesMut};
use byway_api::{Signal, SignalKind, TransportErrorKind};

const VERSION: u8 = 1;
const MAX_DESCRIPTION: usize = 12 * 1024;
const MAX_CANDIDATE: usize = 512;

/// Why an attempt ends before it became a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The offerer gave up.
    Cancelled,
    /// The answerer has no room for another attempt.
    Busy,
    /// The description cannot be used.
    Unusable,
    /// The answerer's own OFFER wins.
    Superseded,
    /// The endpoint closes.
    Closing,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Cancelled, Self::Busy, Self::Unusable, Self::Superseded, Self::Closing];

    fn code(self) -> u8 {
        Self::ALL.iter().zip(1..).find(|(reason, _)| **reason == self).map_or(0, |(_, code)| code)
    }

    /// How the attempt fails on the side that is told.
    pub(crate) const fn error(self) -> (TransportErrorKind, &'static str) {
        match self {
            Self::Cancelled => (TransportErrorKind::Refused, "the peer gave up the attempt"),
            Self::Busy => (TransportErrorKind::Busy, "the peer has no room for another attempt"),
            Self::Unusable => (TransportErrorKind::Handshake, "the peer could not use our description"),
            Self::Superseded => (TransportErrorKind::Superseded, ""),
            Self::Closing => (TransportErrorKind::Refused, "the peer shuts down"),
        }
    }
}

/// A parsed signal body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Offer(String),
    Answer(String),
    Candidate(String),
    Bye(Reason),
}

impl Body {
    /// The signal that carries this body.
    pub(crate) fn into_signal(self, session: Bytes) -> Signal {
        let (kind, rest) = match self {
            Self::Offer(sdp) => (SignalKind::Offer, sdp.into_bytes()),
            Self::Answer(sdp) => (SignalKind::Answer, sdp.into_bytes()),
            Self::Candidate(line) => (SignalKind::Candidate, line.into_bytes()),
            Self::Bye(reason) => (SignalKind::Bye, vec![reason.code()]),
        };
        let mut body = BytesMut::with_capacity(1 + rest.len());
        body.put_u8(VERSION);
        body.put_slice(&rest);
        Signal { kind, session, body: body.freeze(), transport: crate::NAME.to_owned() }
    }

    /// Reads a body. `None` if it is malformed, too long, or of a version or kind not known here.
    ///
    /// A Bye whose reason is newer than this code still ends the attempt.
    pub(crate) fn parse(kind: SignalKind, body: &[u8]) -> Option<Self> {
        let (&version, rest) = body.split_first()?;
        if version != VERSION {
            return None;
        }
        match kind {
            SignalKind::Offer => text(rest, MAX_DESCRIPTION).map(Self::Offer),
            SignalKind::Answer => text(rest, MAX_DESCRIPTION).map(Self::Answer),
            SignalKind::Candidate => text(rest, MAX_CANDIDATE).map(Self::Candidate),
            SignalKind::Bye => {
                let [code] = rest else { return None };
                let known = Reason::ALL.into_iter().find(|reason| reason.code() == *code);
                Some(Self::Bye(known.unwrap_or(Reason::Cancelled)))
            }
            _ => None,
        }
    }
}

fn text(bytes: &[u8], max: usize) -> Option<String> {
    let printable = |c: &char| !c.is_control() || matches!(c, '\r' | '\n');
    if bytes.is_empty() || bytes.len() > max {
        return None;
    }
    std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(|c| printable(&c))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_reads_itself() {
        let mut bodies = vec![
            Body::Offer("v=0\r\n".into()),
            Body::Answer("v=0\r\n".into()),
            Body::Candidate("candidate:1 1 udp 1 192.0.2.1 1 typ host".into()),
        ];
        bodies.extend(Reason::ALL.map(Body::Bye));
        for body in bodies {
            let signal = body.clone().into_signal(Bytes::from_static(b"s"));
            assert_eq!(Body::parse(signal.kind, &signal.body), Some(body));
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let long = [&[VERSION][..], &vec![b'a'; MAX_DESCRIPTION + 1]].concat();
        for (kind, body) in [
            (SignalKind::Offer, &b""[..]),
            (SignalKind::Offer, &[VERSION]),
            (SignalKind::Offer, &[2, b'v']),
            (SignalKind::Offer, &[VERSION, 0xff, 0xfe]),
            (SignalKind::Offer, &[VERSION, 0]),
            (SignalKind::Answer, &long),
            (SignalKind::Candidate, &long[..MAX_CANDIDATE + 2]),
            (SignalKind::Bye, &[VERSION]),
            (SignalKind::Bye, &[VERSION, 1, 1]),
        ] {
            assert_eq!(Body::parse(kind, body), None, "{kind:?} {:?}", &body[..body.len().min(8)]);
        }
    }

    #[test]
    fn a_reason_of_the_future_is_still_a_bye() {
        assert_eq!(Body::parse(SignalKind::Bye, &[VERSION, 200]), Some(Body::Bye(Reason::Cancelled)));
    }
}
