//! What happened, as one number: equal runs have equal hashes, in two processes too.

use std::fmt;

/// FNV-1a, 64 bits.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    pub(super) events: u64,
    print: bool,
}

impl Trace {
    pub(super) const fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, print }
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// One event: when, at which node, what, and which ids.
    pub(super) fn note(&mut self, now: u64, node: usize, kind: &str, ids: [u64; 2]) {
        self.events += 1;
        self.mix(&now.to_le_bytes());
        self.mix(&(node as u64).to_le_bytes());
        self.mix(kind.as_bytes());
        for id in ids {
            self.mix(&id.to_le_bytes());
        }
    }

    /// A line for people; free unless wanted.
    pub(super) fn say(&self, now: u64, node: usize, line: impl FnOnce() -> String) {
        if self.print {
            eprintln!("{now:>9} n{node:<3} {}", line());
        }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }
}

/// The hashes of several runs as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(pub u64);

impl TraceHash {
    /// Of no run.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// With one more run.
    #[must_use]
    pub const fn with(self, run: u64) -> Self {
        Self((self.0 ^ run).wrapping_mul(0x0100_0000_01b3))
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
