use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byway_api::{PeerId, Relay, Sealed, WallTime};

use crate::promise::{Broken, Outcome};

/// What the suite grants a relay.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// One promise takes no longer. Default 30 s.
    pub deadline: Duration,
    /// A call ends, with whatever result. Default 10 s.
    pub patience: Duration,
    /// The median of many admissions takes no longer. Default 50 µs.
    pub admission: Duration,
    /// Envelopes of 1 KiB that one device's box takes at most. Default 16,384.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            admission: Duration::from_micros(50),
            held: 16_384,
        }
    }
}

/// Makes the relay under test.
///
/// The devices of the suite have the keys `[n; 32]` with `n` from 1 to 9; a relay that keeps mail for some
/// devices only has to be opened so that it does for these. Whom else it admits says
/// [`admitted`](Self::admitted). All mail is well-formed (`SealedEnvelope`), expires by [`now`](Self::now)
/// and cannot be opened.
pub trait RelayFixture: Send + Sync + 'static {
    /// Opens the relay: holding nothing the first time, over the same mail afterwards, as a restarted
    /// process would.
    fn open(&self) -> Arc<dyn Relay>;

    /// Whether it keeps mail. Promises about that are skipped otherwise.
    fn holds(&self) -> bool {
        false
    }

    /// Mail that the relay admits, and from whom; `None` if it admits nothing. Default: a short envelope from
    /// the device `[1; 32]` for the device `[2; 32]`, which expires in an hour of the system's time.
    fn admitted(&self) -> Option<(PeerId, Sealed)> {
        Some((peer(1), mail(peer(2), 1, 200, in_an_hour())))
    }

    /// Mail that it refuses, and from whom. Without any the promise about refusing is skipped.
    fn refused(&self) -> Option<(PeerId, Sealed)> {
        None
    }

    /// The relay's time; default that of the system.
    fn now(&self) -> WallTime {
        system_time()
    }

    /// Lets this time pass for the relay. False if this fixture cannot; promises about expiry are skipped
    /// then.
    fn pass(&self, time: Duration) -> bool {
        let _ = time;
        false
    }

    /// What the suite grants this relay.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

pub(super) fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn system_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

fn in_an_hour() -> WallTime {
    system_time().plus(HOUR)
}

pub(super) fn holds_nothing() -> Outcome {
    Outcome::Skipped("the relay holds no mail".to_owned())
}

/// An envelope as a relay sees it (`sdk/docs/protocol.md`, `SealedEnvelope`), told apart by `number`, with
/// so many bytes of ciphertext.
pub(super) fn mail(to: PeerId, number: u32, length: usize, expires_at: WallTime) -> Sealed {
    let mut bytes = vec![0x08, 1, 0x10, 1, 0x1a, 32];
    bytes.extend_from_slice(to.as_bytes());
    bytes.extend_from_slice(&[0x22, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x28]);
    push_varint(&mut bytes, expires_at.as_millis() as u64);
    bytes.extend_from_slice(&[0x32, 32]);
    bytes.extend_from_slice(&[number as u8; 32]);
    let mut ciphertext = number.to_be_bytes().to_vec();
    ciphertext.resize(length.max(4), 0x5a);
    bytes.push(0x3a);
    push_varint(&mut bytes, ciphertext.len() as u64);
    bytes.extend_from_slice(&ciphertext);
    Sealed { to, envelope: bytes.into() }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A call that must succeed.
pub(super) fn must<T>(what: &str, answer: Result<T, byway_api::RelayError>) -> Result<T, Broken> {
    answer.map_err(|e| Broken::new(format!("{what}: {e}")))
}
