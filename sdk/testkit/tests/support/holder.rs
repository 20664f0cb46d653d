//! A small sound relay that holds mail in memory, and one that holds none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byway_api::{
    Carrier, EnvelopeId, Handoff, Held, PeerId, Relay, RelayError, RelayErrorKind, Sealed, StoredUntil, WallTime,
    async_trait,
};
use byway_testkit::relay::RelayFixture;
use byway_wire::{envelope_id, peek};

/// Letters in one box.
const BOX: usize = 64;

#[derive(Debug)]
struct Mail {
    next: u64,
    now: WallTime,
    held: BTreeMap<u64, (Held, WallTime)>,
}

impl Default for Mail {
    fn default() -> Self {
        Self { next: 1, now: WallTime::from_millis(1_800_000_000_000), held: BTreeMap::new() }
    }
}

/// Mail that outlives the relays that are opened over it.
#[derive(Debug, Default)]
pub struct Holding(Arc<Mutex<Mail>>);

#[derive(Debug)]
struct Holder(Arc<Mutex<Mail>>);

fn error(kind: RelayErrorKind) -> RelayError {
    RelayError::new(kind, "holder", "")
}

impl RelayFixture for Holding {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(Holder(Arc::clone(&self.0)))
    }

    fn holds(&self) -> bool {
        true
    }

    fn refused(&self) -> Option<(PeerId, Sealed)> {
        Some((stranger(), Sealed { to: stranger(), envelope: Default::default() }))
    }

    fn now(&self) -> WallTime {
        self.0.lock().unwrap().now
    }

    fn pass(&self, time: Duration) -> bool {
        let mut mail = self.0.lock().unwrap();
        mail.now = mail.now.plus(time);
        true
    }
}

fn stranger() -> PeerId {
    PeerId::from_bytes([13; 32])
}

fn admit(from: PeerId) -> Result<(), RelayError> {
    if from == stranger() { Err(error(RelayErrorKind::Refused)) } else { Ok(()) }
}

#[async_trait]
impl Relay for Holder {
    fn name(&self) -> &'static str {
        "holder"
    }

    fn admit(&self, from: PeerId, _: &Sealed) -> Result<(), RelayError> {
        admit(from)
    }

    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        by.hand_over(hop, mail).await
    }

    async fn hold(&self, mail: Sealed) -> Result<StoredUntil, RelayError> {
        let bad = |_| error(RelayErrorKind::Refused);
        let (id, until) = (envelope_id(&mail).map_err(bad)?, peek(&mail.envelope).map_err(bad)?.expires_at);
        let mut all = self.0.lock().unwrap();
        if all.held.values().any(|(held, _)| held.id == id) {
            return Ok(StoredUntil(until));
        }
        if all.held.values().filter(|(held, _)| held.mail.to == mail.to).count() >= BOX {
            return Err(error(RelayErrorKind::Quota));
        }
        let n = all.next;
        all.next += 1;
        all.held.insert(n, (Held::new(n, id, mail), until));
        Ok(StoredUntil(until))
    }

    async fn fetch(&self, device: PeerId, after: u64, max: usize) -> Result<Vec<Held>, RelayError> {
        let mut all = self.0.lock().unwrap();
        let now = all.now;
        all.held.retain(|_, (_, until)| *until > now);
        let (mut page, mut bytes) = (Vec::new(), 0);
        for (held, _) in all.held.range(after + 1..).map(|(_, held)| held).filter(|(held, _)| held.mail.to == device) {
            bytes += held.mail.envelope.len();
            if bytes > max && !page.is_empty() {
                break;
            }
            page.push(held.clone());
        }
        Ok(page)
    }

    async fn release(&self, ids: &[EnvelopeId]) -> Result<(), RelayError> {
        self.0.lock().unwrap().held.retain(|_, (held, _)| !ids.contains(&held.id));
        Ok(())
    }
}

/// Forwards, and keeps the default bodies.
#[derive(Debug)]
pub struct Forwarding;

#[derive(Debug)]
struct Forwarder;

impl RelayFixture for Forwarding {
    fn open(&self) -> Arc<dyn Relay> {
        Arc::new(Forwarder)
    }
}

#[async_trait]
impl Relay for Forwarder {
    fn name(&self) -> &'static str {
        "forwarder"
    }

    fn admit(&self, from: PeerId, _: &Sealed) -> Result<(), RelayError> {
        admit(from)
    }

    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        by.hand_over(hop, mail).await
    }
}
