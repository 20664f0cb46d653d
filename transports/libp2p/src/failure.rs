//! What libp2p's errors mean for a dial.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use byway_api::{TransportError, TransportErrorKind as Kind};
use libp2p::core::transport::TransportError as Failed;
use libp2p::swarm::DialError;

use crate::error;

/// An error of the socket. libp2p's wrappers are transparent: they show the cause of what they wrap, and not
/// what they wrap. So it stands behind one that can be left out.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) io::Error);

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Socket {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Why a dial has not led to a connection with the device that was asked for.
pub(crate) fn of_dial(failure: DialError) -> TransportError {
    match failure {
        DialError::WrongPeerId { obtained, .. } => {
            error(Kind::Handshake, format!("another device is there: {obtained}"))
        }
        DialError::Transport(attempts) => match attempts.into_iter().next() {
            Some((_, Failed::Other(e))) => of_io(e),
            _ => error(Kind::BadAddress, "not supported"),
        },
        DialError::NoAddresses | DialError::LocalPeerId { .. } => error(Kind::BadAddress, "this device itself"),
        DialError::Denied { .. } => error(Kind::Busy, "too many connections"),
        DialError::Aborted => error(Kind::Closed, "the endpoint is closing"),
        other => error(Kind::Other, other.to_string()),
    }
}

/// The same of an error below libp2p, which lies in several wrappers.
pub(crate) fn of_io(e: io::Error) -> TransportError {
    error(kind(innermost(&e)), "no connection").with_source(e)
}

fn kind(of: ErrorKind) -> Kind {
    match of {
        ErrorKind::TimedOut => Kind::Timeout,
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::BrokenPipe
        | ErrorKind::WriteZero
        | ErrorKind::UnexpectedEof => Kind::Refused,
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable => Kind::LocalFault,
        _ => Kind::Handshake,
    }
}

/// The kind of the first I/O error in the chain that says more than `Other`.
fn innermost(e: &io::Error) -> ErrorKind {
    /// No chain of wrappers is longer.
    const DEEP: usize = 16;
    let mut next: Option<&(dyn Error + 'static)> = Some(e);
    for _ in 0..DEEP {
        let Some(e) = next else { break };
        next = match e.downcast_ref::<io::Error>() {
            Some(io) if io.kind() != ErrorKind::Other => return io.kind(),
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => e.source(),
        };
    }
    ErrorKind::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_through_all_wrappers() {
        let wrapped = |kind: ErrorKind| io::Error::other(io::Error::other(io::Error::from(kind)));
        assert_eq!(of_io(wrapped(ErrorKind::ConnectionRefused)).kind(), Kind::Refused);
        assert_eq!(of_io(wrapped(ErrorKind::TimedOut)).kind(), Kind::Timeout);
        assert_eq!(of_io(wrapped(ErrorKind::NetworkUnreachable)).kind(), Kind::LocalFault);
        assert_eq!(of_io(io::Error::other("noise")).kind(), Kind::Handshake);
    }
}
