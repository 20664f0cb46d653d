//! Each write as changes of the table.

use byway_api::{Applied, InboxRow, MessageId, OutboxRow, OutboxState, PeerId, RecordRow, RouteRow, SeenRow, Write};

use crate::codec;
use crate::error::Failure;
use crate::keys::{self, Rank};
use crate::row::{self, NOTHING};
use crate::rows::Rows;

type Answer = Result<Applied, Failure>;

fn missing_unless(there: bool) -> Applied {
    if there { Applied::Done } else { Applied::Missing }
}

/// Applies one write inside the open transaction. One that is not `Done` has changed nothing.
pub(crate) fn apply(rows: &mut Rows<'_>, write: &Write) -> Answer {
    match write {
        Write::Append(row) => insert_outbox(rows, &row.message, row, row.content.as_deref().map(row::content)),
        Write::Bind { message, rows: bound } => bind(rows, message, bound),
        Write::Receive { row, seen } => receive(rows, row, seen),
        Write::Progress { message, to_peer, state, retry_count, next_try } => {
            let key = keys::outbox(keys::OUTBOX, message, to_peer.as_ref());
            let Some(value) = rows.get(&key)? else { return Ok(Applied::Missing) };
            let stored = row::read_outbox(&key, &value)?;
            let moved = OutboxRow { state: *state, retry_count: *retry_count, next_try: *next_try, ..stored };
            rows.put(&key, &row::outbox(&moved))?;
            if *state != OutboxState::Queued {
                rows.remove(&keys::with_kind(keys::OUTBOX_CONTENT, &key))?;
            }
            Ok(Applied::Done)
        }
        Write::Forget { message, to_peer } => {
            Ok(missing_unless(remove_outbox(rows, message, to_peer.as_ref())?.is_some()))
        }
        Write::Mark { from_peer, epoch, seq, state } => {
            let key = keys::inbox(keys::INBOX, from_peer, *epoch, *seq);
            let Some(value) = rows.get(&key)? else { return Ok(Applied::Missing) };
            let marked = InboxRow { state: *state, ..row::read_inbox(&key, &value)? };
            rows.put(&key, &row::inbox(&marked))?;
            Ok(Applied::Done)
        }
        Write::Take { from_peer, epoch, seq } => {
            let key = keys::inbox(keys::INBOX, from_peer, *epoch, *seq);
            let Some(value) = rows.get(&key)? else { return Ok(Applied::Missing) };
            let stored = row::read_inbox(&key, &value)?;
            rows.remove(&key)?;
            rows.remove(&keys::inbox_order(stored.received_at, from_peer, *epoch, *seq))?;
            rows.remove(&keys::with_kind(keys::INBOX_CONTENT, &key))?;
            Ok(Applied::Done)
        }
        Write::Seen(mark) => {
            rows.put(&keys::seen(&mark.from_peer, mark.epoch), &row::seen(mark))?;
            Ok(Applied::Done)
        }
        Write::Unsee { from_peer, epoch } => Ok(missing_unless(rows.remove(&keys::seen(from_peer, *epoch))?)),
        Write::Route(row) => route(rows, row),
        Write::DropPeer { peer } => drop_peer(rows, peer),
        Write::Record(row) => record(rows, row),
        Write::Meta { key, value, .. } => {
            match value {
                Some(value) => rows.put(&keys::meta(key), &row::content(value))?,
                None => drop(rows.remove(&keys::meta(key))?),
            }
            Ok(Applied::Done)
        }
        Write::Pin(pin) => {
            let key = keys::user_peer(keys::PIN, &pin.user, &pin.peer);
            if rows.has(&key)? {
                return Ok(Applied::Duplicate);
            }
            rows.put(&key, &row::pin(pin))?;
            Ok(Applied::Done)
        }
        Write::Unpin { user } => {
            let pins = rows.keys(&keys::of_user(keys::PIN, user))?;
            for pin in &pins {
                rows.remove(pin)?;
            }
            Ok(missing_unless(!pins.is_empty()))
        }
        Write::Block { user, blocked } => {
            if *blocked {
                rows.put(&keys::blocked(user), NOTHING)?;
            } else {
                rows.remove(&keys::blocked(user))?;
            }
            Ok(Applied::Done)
        }
        Write::Connection(row) => {
            rows.put(&keys::of_peer(keys::CONNECTION, &row.peer), &row::connection(row))?;
            Ok(Applied::Done)
        }
        Write::Disconnected { peer } => Ok(missing_unless(rows.remove(&keys::of_peer(keys::CONNECTION, peer))?)),
        _ => unreachable!("a kind of write this version of the store does not know: update byway-store-redb"),
    }
}

/// Whether a write takes more away than it adds, so that a full disk must not refuse it.
pub(crate) fn frees(write: &Write) -> bool {
    match write {
        Write::Forget { .. }
        | Write::Take { .. }
        | Write::Unsee { .. }
        | Write::DropPeer { .. }
        | Write::Unpin { .. }
        | Write::Disconnected { .. } => true,
        Write::Progress { state, .. } => *state != OutboxState::Queued,
        Write::Meta { value, .. } => value.is_none(),
        Write::Block { blocked, .. } => !blocked,
        _ => false,
    }
}

/// `content` is as it is stored.
fn insert_outbox(rows: &mut Rows<'_>, message: &MessageId, row: &OutboxRow, content: Option<Vec<u8>>) -> Answer {
    let to_peer = row.to_peer.as_ref();
    let key = keys::outbox(keys::OUTBOX, message, to_peer);
    if rows.has(&key)? {
        return Ok(Applied::Duplicate);
    }
    rows.put(&key, &row::outbox(row))?;
    rows.put(&keys::outbox_order(row.queued_at, message, to_peer), NOTHING)?;
    if let Some(content) = content {
        rows.put(&keys::with_kind(keys::OUTBOX_CONTENT, &key), &content)?;
    }
    Ok(Applied::Done)
}

/// Its content, as it is stored, if there was such a row.
fn remove_outbox(
    rows: &mut Rows<'_>,
    message: &MessageId,
    to_peer: Option<&PeerId>,
) -> Result<Option<Option<Vec<u8>>>, Failure> {
    let key = keys::outbox(keys::OUTBOX, message, to_peer);
    let Some(value) = rows.get(&key)? else { return Ok(None) };
    let stored = row::read_outbox(&key, &value)?;
    rows.remove(&key)?;
    rows.remove(&keys::outbox_order(stored.queued_at, message, to_peer))?;
    let content = keys::with_kind(keys::OUTBOX_CONTENT, &key);
    let stored = rows.get(&content)?;
    if stored.is_some() {
        rows.remove(&content)?;
    }
    Ok(Some(stored))
}

/// A row that is there already stays: it may have been delivered.
fn bind(rows: &mut Rows<'_>, message: &MessageId, bound: &[OutboxRow]) -> Answer {
    if bound.is_empty() {
        return Ok(Applied::Missing);
    }
    let Some(content) = remove_outbox(rows, message, None)? else { return Ok(Applied::Missing) };
    for row in bound {
        insert_outbox(rows, message, row, content.clone())?;
    }
    Ok(Applied::Done)
}

fn receive(rows: &mut Rows<'_>, row: &InboxRow, mark: &SeenRow) -> Answer {
    let seen = keys::seen(&row.from_peer, row.epoch);
    if let Some(value) = rows.get(&seen)? {
        let stored = row::read_seen(&seen, &value)?;
        if row.seq < stored.floor || stored.above.contains(&row.seq) {
            return Ok(Applied::Duplicate);
        }
    }
    let key = keys::inbox(keys::INBOX, &row.from_peer, row.epoch, row.seq);
    if rows.has(&key)? {
        return Ok(Applied::Duplicate);
    }
    rows.put(&key, &row::inbox(row))?;
    rows.put(&keys::inbox_order(row.received_at, &row.from_peer, row.epoch, row.seq), NOTHING)?;
    if let Some(content) = &row.content {
        rows.put(&keys::with_kind(keys::INBOX_CONTENT, &key), &row::content(content))?;
    }
    rows.put(&keys::seen(&mark.from_peer, mark.epoch), &row::seen(mark))?;
    Ok(Applied::Done)
}

fn route(rows: &mut Rows<'_>, row: &RouteRow) -> Answer {
    let (user, peer, address) = (&row.user, &row.peer, &row.address);
    let key = keys::route(peer, user, address);
    let rank = Rank { success_rate: codec::rate(row.success_rate), last_seen: row.last_seen };
    let stored = rows.get(&key)?.as_deref().map(row::read_rank).transpose()?;
    if stored != Some(rank) {
        if let Some(stored) = stored {
            rows.remove(&keys::best_route(user, stored, peer, address))?;
            rows.remove(&keys::any_route(user, stored, peer, address))?;
        }
        rows.put(&key, &row::rank(rank))?;
        rows.put(&keys::any_route(user, rank, peer, address), NOTHING)?;
    }
    rows.put(&keys::best_route(user, rank, peer, address), &row::path(&row.path))?;
    Ok(Applied::Done)
}

fn drop_peer(rows: &mut Rows<'_>, peer: &PeerId) -> Answer {
    let routes = rows.keys(&keys::of_peer(keys::ROUTE, peer))?;
    for key in &routes {
        let (user, address) = row::read_route_key(key)?;
        if let Some(value) = rows.get(key)? {
            let rank = row::read_rank(&value)?;
            rows.remove(&keys::best_route(&user, rank, peer, &address))?;
            rows.remove(&keys::any_route(&user, rank, peer, &address))?;
        }
        rows.remove(key)?;
    }
    let key = keys::of_peer(keys::RECORD, peer);
    let record = rows.get(&key)?;
    if let Some(value) = &record {
        let stored = row::read_record(&key, value)?;
        rows.remove(&key)?;
        rows.remove(&keys::user_peer(keys::RECORD_OF, &stored.user, peer))?;
    }
    Ok(missing_unless(!routes.is_empty() || record.is_some()))
}

fn record(rows: &mut Rows<'_>, row: &RecordRow) -> Answer {
    let key = keys::of_peer(keys::RECORD, &row.peer);
    if let Some(value) = rows.get(&key)? {
        let stored = row::read_record(&key, &value)?;
        if stored.seq >= row.seq {
            return Ok(Applied::Duplicate);
        }
        if stored.user != row.user {
            rows.remove(&keys::user_peer(keys::RECORD_OF, &stored.user, &row.peer))?;
        }
    }
    rows.put(&key, &row::record(row))?;
    rows.put(&keys::user_peer(keys::RECORD_OF, &row.user, &row.peer), NOTHING)?;
    Ok(Applied::Done)
}
