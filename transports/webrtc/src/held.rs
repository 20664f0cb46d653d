//! Datagrams that are held back while nobody takes the frames.
//!
//! Leaving frames in the stack would close SCTP's receive window, but the stack never says when it
//! opens again: the sender finds out by probes, after a second at first and later by and by less
//! often. It also numbers messages with 16 bits (RFC 9260, section 3.3.1) and takes one that is 32,768
//! ahead of what was read for an old one: it is acknowledged and lost, and the channel stands still for
//! ever. So the stack is given nothing that it could not hand on, and what it has not seen it does not
//! acknowledge: the sender waits, and goes on at the moment when the reader does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

/// Datagrams held for one connection; the surplus is dropped and sent again.
pub(crate) const MAX_HELD: usize = 4096;
/// Messages that the stack may be given before it is drained; a quarter of what its numbers bear.
pub(crate) const MAX_UNDRAINED: usize = 8192;
/// What a datagram takes itself (DTLS, SCTP), and the least that a message takes in it.
const MIN_HEADERS: usize = 41;
const MIN_CHUNK: usize = 20;
/// DTLS content type of application data (RFC 6347, section 4.3.1).
const APPLICATION_DATA: u8 = 23;

/// A received datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) bytes: BytesMut,
}

impl Datagram {
    /// The datagram as the stack takes it.
    pub(crate) fn tagged(self, now: Instant) -> TaggedBytesMut {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: self.remote,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        TaggedBytesMut { now, transport, message: self.bytes }
    }

    /// True if it has the size of a lone acknowledgement. Those are not held back, so that writing
    /// does not depend on reading. A close is shorter, a message longer.
    pub(crate) fn is_acknowledgement(&self) -> bool {
        self.bytes.first() == Some(&APPLICATION_DATA) && matches!(self.bytes.len(), 57..=68)
    }

    /// The most messages that fit.
    pub(crate) fn most_messages(&self) -> usize {
        self.bytes.len().saturating_sub(MIN_HEADERS) / MIN_CHUNK
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Held {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    limit: usize,
}

impl Held {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0, limit }
    }

    pub(crate) fn push(&mut self, datagram: Datagram) {
        if self.datagrams.len() < MAX_HELD && self.bytes + datagram.bytes.len() <= self.limit {
            self.bytes += datagram.bytes.len();
            self.datagrams.push_back(datagram);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.bytes.len();
        Some(datagram)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(len: usize) -> Datagram {
        let address = "192.0.2.1:1".parse().unwrap();
        Datagram { local: address, remote: address, bytes: vec![APPLICATION_DATA; len][..].into() }
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_number() {
        for (len, limit, want) in [(1000, 10_500, 10), (10, 1 << 20, MAX_HELD)] {
            let mut held = Held::new(limit);
            (0..10_000).for_each(|_| held.push(datagram(len)));
            assert_eq!(std::iter::from_fn(|| held.pop()).count(), want);
            assert_eq!(held.bytes, 0);
        }
    }

    #[test]
    fn acknowledgements_pass_and_closes_do_not() {
        assert!(datagram(65).is_acknowledgement());
        for len in [31, 39, 53, 69, 1200] {
            assert!(!datagram(len).is_acknowledgement());
        }
    }
}
