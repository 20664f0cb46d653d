//! Seeded random batches over so few keys that they meet.

use bytes::Bytes;
use byway_api::{Durability, InboxRow, InboxState, OutboxRow, OutboxState, Write};

use super::sample::{at, connection, inbox, message, outbox, peer, pin, record, route, seen, user};

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        (self.next() % u64::from(bound.max(1))).to_le_bytes()[0]
    }

    fn time(&mut self) -> i64 {
        i64::from(self.below(6))
    }

    fn device(&mut self) -> Option<u8> {
        match self.below(4) {
            0 => None,
            n => Some(n),
        }
    }
}

/// Zero to eight writes of every kind.
pub(crate) fn random_batch(random: &mut Random) -> Vec<Write> {
    (0..random.below(9)).map(|_| random_write(random)).collect()
}

fn random_outbox(random: &mut Random, n: u8, to: Option<u8>) -> OutboxRow {
    let row = outbox(u16::from(n), to);
    let content = Bytes::from(vec![b'x'; usize::from(random.below(5)) * 1500]);
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let reply_to = (random.below(2) == 0).then(|| message(9));
    OutboxRow { queued_at: at(random.time()), content: Some(content), size, reply_to, ..row }
}

fn random_epoch(random: &mut Random) -> u64 {
    [0, 1, u64::MAX][usize::from(random.below(3))]
}

fn random_write(random: &mut Random) -> Write {
    let n = random.below(6);
    let to = random.device();
    let from = 1 + random.below(3);
    let epoch = random_epoch(random);
    let seq = u64::from(random.below(8));
    let (of, device) = (random.below(3), random.below(4));
    match random.below(24) {
        0..=2 => Write::Append(random_outbox(random, n, to)),
        3 | 4 => {
            let devices = 1 + random.below(3);
            let rows = (1..=devices).map(|device| random_outbox(random, n, Some(device))).collect();
            Write::Bind { message: message(u16::from(n)), rows }
        }
        5..=7 => {
            let above: Vec<_> = (seq + 1..seq + 4).filter(|_| random.below(3) == 0).collect();
            let floor = if random.below(2) == 0 { seq + 1 } else { seq.saturating_sub(2) };
            let row = InboxRow { received_at: at(random.time()), ..inbox(from, epoch, seq) };
            Write::Receive { row, seen: seen(from, epoch, floor, &above) }
        }
        8 | 9 => Write::Progress {
            message: message(u16::from(n)),
            to_peer: to.map(peer),
            state: [OutboxState::Queued, OutboxState::Delivered, OutboxState::Read, OutboxState::Expired]
                [usize::from(random.below(4))],
            retry_count: u32::from(random.below(9)),
            next_try: at(random.time()),
        },
        10 => Write::Forget { message: message(u16::from(n)), to_peer: to.map(peer) },
        11 => {
            let state = if random.below(2) == 0 { InboxState::New } else { InboxState::Read };
            Write::Mark { from_peer: peer(from), epoch, seq, state }
        }
        12 | 13 => Write::Take { from_peer: peer(from), epoch, seq },
        14 => Write::Seen(seen(from, epoch, seq, &[seq + 2, seq + 5])),
        15 => Write::Unsee { from_peer: peer(from), epoch },
        16 | 17 => {
            let (rate, seen) = (f64::from(random.below(5)) / 4.0, random.time());
            Write::Route(route(of, device, random.below(3), rate, seen))
        }
        18 => Write::DropPeer { peer: peer(device) },
        19 => Write::Record(record(of, device, seq)),
        20 => {
            let value = (random.below(3) > 0).then(|| Bytes::from(vec![b'v'; usize::from(n)]));
            let durability = if of == 0 { Durability::Durable } else { Durability::Relaxed };
            Write::Meta { key: format!("{}/{n}", ["a", "b"][usize::from(device % 2)]), value, durability }
        }
        21 if n == 0 => Write::Unpin { user: user(of) },
        21 => Write::Pin(pin(of, device)),
        22 => Write::Block { user: user(of), blocked: n < 4 },
        _ if n < 3 => Write::Disconnected { peer: peer(device) },
        _ => Write::Connection(connection(device)),
    }
}
