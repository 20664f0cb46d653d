//! The volunteer keeps the promises of `Relay`, and the ones of its own.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use byway_api::{Bytes, PeerId, Relay, RelayErrorKind, Sealed, WallTime};
use byway_testkit::relay::RelayFixture;
use byway_third_party::volunteer::{Volunteer, VolunteerConfig};
use tempfile::TempDir;

const START: i64 = 1_900_000_000_000;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

struct Opens {
    directory: TempDir,
    now: Arc<AtomicI64>,
}

impl Opens {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), now: Arc::new(AtomicI64::new(START)) }
    }
    fn volunteer(&self, config: VolunteerConfig) -> Volunteer {
        let now = Arc::clone(&self.now);
        Volunteer::new(self.directory.path(), (0..200).map(peer), config)
            .with_clock(move || WallTime::from_millis(now.load(Ordering::SeqCst)))
    }
}

impl RelayFixture for Opens {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(self.volunteer(VolunteerConfig { box_bytes: 64 * 1024, ..VolunteerConfig::default() }))
    }
    fn holds(&self) -> bool {
        true
    }
    fn refused(&self) -> Option<(PeerId, Sealed)> {
        Some((peer(200), Sealed { to: peer(1), envelope: Bytes::from_static(b"from nobody we know") }))
    }
    fn now(&self) -> WallTime {
        WallTime::from_millis(self.now.load(Ordering::SeqCst))
    }
    fn pass(&self, time: Duration) -> bool {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
        true
    }
}

byway_testkit::relay_conformance!(volunteer, Opens::new());

#[test]
fn a_days_bytes_are_given_once_a_day() {
    let opens = Opens::new();
    let relay = opens.volunteer(VolunteerConfig { daily_bytes: 100, ..VolunteerConfig::default() });
    let mail = Sealed { to: peer(2), envelope: Bytes::from(vec![0; 60]) };
    relay.admit(peer(1), &mail).unwrap();
    assert_eq!(relay.admit(peer(1), &mail).unwrap_err().kind(), RelayErrorKind::Quota);
    opens.pass(Duration::from_secs(86_400));
    relay.admit(peer(1), &mail).unwrap();
}
