//! Rows to write, and what must be there of them afterwards.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;

use bytes::Bytes;
use byway_api::{
    InboxRow, InboxState, Load, MessageId, OutboxRow, OutboxState, PeerId, RouteRow, RouteStore, Row, SeenRow,
    SignalAddress, UserId, WallTime, Write,
};
use byway_store_redb::RedbStore;

pub(crate) fn user() -> UserId {
    UserId::new("bob").unwrap()
}

pub(crate) fn peer() -> PeerId {
    PeerId::from_bytes([7; 32])
}

pub(crate) fn message(n: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(id)
}

fn number(id: MessageId) -> u64 {
    u64::from_be_bytes(id.as_bytes()[..8].try_into().unwrap())
}

pub(crate) fn outbox(n: u64) -> OutboxRow {
    let content = Bytes::from(vec![n.to_le_bytes()[0]; 100 + usize::try_from(n % 5).unwrap() * 3000]);
    OutboxRow {
        message: message(n),
        to_user: user(),
        to_peer: Some(peer()),
        epoch: 1,
        seq: n + 1,
        size: u32::try_from(content.len()).unwrap(),
        content: Some(content),
        reply_to: None,
        queued_at: WallTime::from_millis(1),
        expires_at: WallTime::from_millis(2),
        retry_count: 0,
        next_try: WallTime::from_millis(1),
        state: OutboxState::Queued,
    }
}

/// An outbox row, an inbox row and its mark: they are there together or not at all.
pub(crate) fn durable(n: u64) -> Vec<Write> {
    let row = InboxRow {
        from_peer: peer(),
        epoch: n,
        seq: 1,
        message: message(n),
        from_user: user(),
        content: Some(Bytes::from_static(b"hello")),
        size: 5,
        reply_to: None,
        sent_at: WallTime::from_millis(1),
        received_at: WallTime::from_millis(1),
        expires_at: WallTime::from_millis(2),
        late: false,
        state: InboxState::New,
    };
    let seen = SeenRow { from_peer: peer(), epoch: n, floor: 2, above: vec![], used_at: WallTime::from_millis(1) };
    vec![Write::Append(outbox(n)), Write::Receive { row, seen }]
}

/// A route that the durable batch of the same number makes durable with it.
pub(crate) fn relaxed(n: u64) -> Write {
    Write::Route(RouteRow {
        user: user(),
        peer: peer(),
        address: SignalAddress::new(&format!("mem:{n}")).unwrap(),
        last_seen: WallTime::from_millis(1),
        success_rate: 0.5,
        path: String::new(),
    })
}

/// Undoes [`durable`], as one relaxed batch.
pub(crate) fn forget(n: u64) -> Vec<Write> {
    vec![
        Write::Forget { message: message(n), to_peer: Some(peer()) },
        Write::Take { from_peer: peer(), epoch: n, seq: 1 },
        Write::Unsee { from_peer: peer(), epoch: n },
    ]
}

pub(crate) async fn all(store: &RedbStore, what: Load) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = store.load(what.clone(), after, 4096).await.unwrap();
        let last = page.len() < 4096;
        after = page.last().map(|(key, _)| key.clone());
        rows.extend(page.into_iter().map(|(_, row)| row));
        if last {
            return rows;
        }
    }
}

/// The numbers of the routes that are there.
pub(crate) async fn routes(store: &RedbStore) -> BTreeSet<u64> {
    let rows = all(store, Load::Routes { user: None }).await.into_iter();
    rows.map(|row| if let Row::Route(row) = row { row.address.rest().parse().unwrap() } else { panic!("{row:?}") })
        .collect()
}

/// The numbers of the batches that are there, each of them whole.
pub(crate) async fn batches(store: &RedbStore, context: &str) -> BTreeSet<u64> {
    let sent: BTreeSet<_> = all(store, Load::Outbox)
        .await
        .into_iter()
        .map(|row| if let Row::Outbox(row) = row { number(row.message) } else { panic!("{row:?}") })
        .collect();
    let got: BTreeSet<_> = all(store, Load::Inbox)
        .await
        .into_iter()
        .map(|row| if let Row::Inbox(row) = row { number(row.message) } else { panic!("{row:?}") })
        .collect();
    let seen: BTreeSet<_> = all(store, Load::Seen)
        .await
        .into_iter()
        .map(|row| if let Row::Seen(row) = row { row.epoch } else { panic!("{row:?}") })
        .collect();
    assert_eq!((&sent, &sent), (&got, &seen), "{context}: half a batch is there");
    sent
}

/// Everything acknowledged is there, with what was relaxed before it, and no batch is there in part.
pub(crate) async fn expect_acknowledged(store: &RedbStore, acknowledged: &BTreeSet<u64>, context: &str) {
    let there = batches(store, context).await;
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "{context}: acknowledged and lost: {lost:?}");
    let routes = routes(store).await;
    let lost: Vec<_> = there.difference(&routes).collect();
    assert!(lost.is_empty(), "{context}: relaxed writes before a durable one are lost: {lost:?}");
    for n in acknowledged {
        let rows = store.load(Load::OutboxContent(message(*n)), None, 2).await.unwrap();
        assert_eq!(rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), [Row::Outbox(outbox(*n))], "{context}");
    }
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// From `BYWAY_STORE_SEED`, else a fixed one.
    pub(crate) fn seeded() -> (Self, u64) {
        let seed = std::env::var("BYWAY_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
        (Self(seed), seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// A place among `len` things, or behind them.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64 + 1)).unwrap()
    }
}
