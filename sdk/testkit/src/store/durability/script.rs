//! What the processes write, and what must be there of it afterwards.
//!
//! Batch `n` is durable and atomic: a message out, a message in and its mark; with the last two of a
//! message that is [`LIFE`] batches older taken away, so that files shrink as well as grow. A relaxed
//! route `n` comes before it. The mark stays and tells that the batch was applied.

use std::collections::BTreeSet;

use bytes::Bytes;
use byway_api::{
    Applied, InboxRow, InboxState, Load, MessageId, OutboxRow, OutboxState, PeerId, RouteRow, RouteStore, Row, SeenRow,
    SignalAddress, UserId, WallTime, Write,
};

use super::super::{all, ensure_eq};
use crate::promise::{Broken, ensure};

/// After so many batches a message is taken away. A multiple of [`CALLERS`].
const LIFE: u64 = 40;
/// Callers at once; batch `n` comes from caller `n % CALLERS`.
pub(super) const CALLERS: u64 = 8;
/// The numbers of one process begin at a multiple of this.
pub(super) const EACH: u64 = 100_000;

fn user() -> UserId {
    UserId::new("bob").unwrap_or_else(|e| unreachable!("{e}"))
}

fn peer() -> PeerId {
    PeerId::from_bytes([7; 32])
}

fn message(n: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(id)
}

fn number(id: MessageId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

fn at(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

fn outbox(n: u64, size: usize) -> OutboxRow {
    OutboxRow {
        message: message(n),
        to_user: user(),
        to_peer: Some(peer()),
        epoch: 1,
        seq: n + 1,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        content: Some(Bytes::from(vec![n.to_le_bytes()[0]; size])),
        reply_to: None,
        queued_at: at(1),
        expires_at: at(2),
        retry_count: 0,
        next_try: at(1),
        state: OutboxState::Queued,
    }
}

/// Up to four pages of 4 KiB.
fn size(n: u64) -> usize {
    100 + usize::try_from(n % 5).unwrap_or(0) * 3000
}

/// The batch of this number that is in the store only if `n - LIFE` is not.
fn predecessor(n: u64) -> Option<u64> {
    (n % EACH >= LIFE).then(|| n - LIFE)
}

/// The n-th number of those whose batches are not taken away.
pub(super) fn lasting(n: u64) -> u64 {
    n / LIFE * EACH + n % LIFE
}

/// A message of this number and size, out and in.
pub(super) fn sized(n: u64, size: usize) -> Vec<Write> {
    let row = InboxRow {
        from_peer: peer(),
        epoch: n,
        seq: 1,
        message: message(n),
        from_user: user(),
        content: Some(Bytes::from_static(b"hello")),
        size: 5,
        reply_to: None,
        sent_at: at(1),
        received_at: at(1),
        expires_at: at(2),
        late: false,
        state: InboxState::New,
    };
    let seen = SeenRow { from_peer: peer(), epoch: n, floor: 2, above: vec![], used_at: at(1) };
    vec![Write::Append(outbox(n, size)), Write::Receive { row, seen }]
}

pub(super) fn durable(n: u64) -> Vec<Write> {
    let mut batch = sized(n, size(n));
    if let Some(old) = predecessor(n) {
        batch.push(Write::Forget { message: message(old), to_peer: Some(peer()) });
        batch.push(Write::Take { from_peer: peer(), epoch: old, seq: 1 });
    }
    batch
}

/// A route that the durable batch of the same number makes durable with it.
pub(super) fn relaxed(n: u64) -> Write {
    Write::Route(RouteRow {
        user: user(),
        peer: peer(),
        address: SignalAddress::new(&format!("mem:{n}")).unwrap_or_else(|e| unreachable!("{e}")),
        last_seen: at(1),
        success_rate: 0.5,
        path: String::new(),
    })
}

fn numbers(rows: Vec<Row>) -> Result<BTreeSet<u64>, Broken> {
    let mut numbers = BTreeSet::new();
    for row in rows {
        let n = match &row {
            Row::Outbox(row) => Some(number(row.message)),
            Row::Inbox(row) => Some(row.epoch),
            Row::Seen(row) => Some(row.epoch),
            Row::Route(row) => row.address.rest().parse().ok(),
            _ => None,
        };
        let n = n.ok_or_else(|| Broken::new(format!("nobody wrote {row:?}")))?;
        ensure!(numbers.insert(n), "there twice: {row:?}");
    }
    Ok(numbers)
}

/// Everything acknowledged is there, with what was relaxed before it, no batch is there in part, and
/// contents are what was written. Answers the batches that are there.
pub(super) async fn check(store: &dyn RouteStore, acknowledged: &BTreeSet<u64>) -> Result<BTreeSet<u64>, Broken> {
    /// Contents that are compared.
    const CONTENTS: usize = 48;
    let applied = numbers(all(store, Load::Seen).await?)?;
    let lost: Vec<_> = acknowledged.difference(&applied).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let taken: BTreeSet<_> = applied.iter().filter_map(|n| predecessor(*n)).collect();
    let living: BTreeSet<_> = applied.difference(&taken).copied().collect();
    let out = numbers(all(store, Load::Outbox).await?)?;
    let within = numbers(all(store, Load::Inbox).await?)?;
    let half: Vec<_> = living.symmetric_difference(&out).chain(living.symmetric_difference(&within)).collect();
    ensure!(half.is_empty(), "half a batch is there: of {half:?}");
    let routes = numbers(all(store, Load::Routes { user: None }).await?)?;
    let relaxed: Vec<_> = applied.difference(&routes).collect();
    ensure!(relaxed.is_empty(), "relaxed writes before a durable one are lost: {relaxed:?}");
    for n in living.iter().rev().take(CONTENTS) {
        let rows = all(store, Load::OutboxContent(message(*n))).await?;
        let [Row::Outbox(row)] = &rows[..] else { return Err(Broken::new(format!("message {n} is {rows:?}"))) };
        let want = outbox(*n, usize::try_from(row.size).unwrap_or(usize::MAX).min(1 << 20));
        ensure!(*row == want, "message {n} has another content or another field than was written");
    }
    Ok(applied)
}

/// The store takes new batches.
pub(super) async fn works_on(store: &dyn RouteStore, acknowledged: &mut BTreeSet<u64>) -> Result<(), Broken> {
    // Of a range of their own.
    let first = 1_000_000 * EACH;
    let n = (first..).find(|n| !acknowledged.contains(n)).unwrap_or(first);
    for batch in [vec![relaxed(n)], durable(n)] {
        let applied =
            store.apply(&batch).await.map_err(|e| Broken::new(format!("it opens and takes no batch: {e}")))?;
        ensure_eq!(applied, vec![Applied::Done; batch.len()], "after reopening");
    }
    acknowledged.insert(n);
    check(store, acknowledged).await.map(drop)
}
